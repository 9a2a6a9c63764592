import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for numbered_clips

from numbered_clips import make_numbered


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """A function: the numbered clip of that name and encoding, made once."""
    folder = tmp_path_factory.mktemp("numbered")

    def clip(name: str, num_frames: int, *encoding: str) -> Path:
        path = folder / name
        return path if path.exists() else make_numbered(path, num_frames, *encoding)

    return clip
