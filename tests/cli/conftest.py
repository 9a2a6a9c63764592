import pytest

LABELS = ["--labels", "running,dunking,a dog"]


@pytest.fixture
def tag(xclip, toy_model):
    """A function: tags with the toy, three labels and one decoder unless told otherwise."""

    def run(*arguments, labels=LABELS, **more):
        return xclip("tag", "--model", toy_model, "--workers", 1, *labels, *arguments, text=False, **more)

    return run
