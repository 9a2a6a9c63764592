"""The table of an ablation says what each network does, or says why there is none."""

import shutil

import pytest
import torch

from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.dataset import read_samples
from xclip_cli.errors import UsageError
from xclip_cli.finetune.run import ablate as run_ablation
from xclip_cli.finetune.settings import FinetuneSettings
from xclip_cli.model.text import tokenize
from xclip_cli.model.xclip import Xclip
from xclip_cli.outputs.markdown import percent
from xclip_cli.tagger.preprocess import preprocess
from xclip_cli.video.reader import open_reader, read_clip


def quiet(done, total):
    pass


@pytest.fixture
def ablate(bars, toy_model, tmp_path):
    """The rows; by default one epoch each, validated on all clips."""

    def start(data=bars, **options):
        options = {"model": toy_model, "epochs": 1, "batch_size": 4, "val": str(data), "workers": 1} | options
        settings = FinetuneSettings(**options)
        checkpoint = open_checkpoint(settings.model)
        return list(run_ablation(str(data), tmp_path / "ab", settings, checkpoint, quiet, "xclip finetune"))

    return start


@pytest.fixture
def loud_model(toy_config, toy_model, tmp_path):
    """A toy with weights so large, drawn such that its accuracy changes with the messages between frames."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(11)
        model = Xclip(toy_config)
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(5)
    save(model, tmp_path / "loud.safetensors", preprocessing=open_checkpoint(toy_model).preprocessing, name="loud")
    return str(tmp_path / "loud.safetensors")


@pytest.mark.parametrize("regime", ["few-shot", "zero-shot"])
def test_each_network_sees_what_itself_makes_of_the_frames(ablate, bars, loud_model, regime):
    """Measured by the plain networks: what is kept of clips may not be that of another network."""
    checkpoint, samples, reader = open_checkpoint(loud_model), read_samples(bars), open_reader("opencv")
    frames = torch.cat([preprocess(read_clip(reader, s.path, 4).frames, checkpoint.preprocessing) for s in samples])
    names = ["and back", "forth"]
    targets, wanted = torch.tensor([names.index(sample.label) for sample in samples]), []
    for switches in ({"cross_frame": False, "mit_layers": 0}, {"mit_layers": 0}):
        with torch.inference_mode():
            logits = checkpoint.full_model().switched(prompt_layers=0, **switches)(frames, tokenize(names))
        wanted.append(percent((logits.argmax(1) == targets).float().mean().item()))
    assert wanted[0] != wanted[1]
    assert [row[1] for row in ablate(model=loud_model, regime=regime)][:2] == wanted


def test_a_classifier_without_text_has_no_accuracy_before(ablate):
    *by_name, classifier = ablate()
    assert all(row[1] != "-" for row in by_name) and classifier[1] == "-"
    assert all(row[2] != "-" for row in (*by_name, classifier))


def test_without_validation_clips_there_is_no_table(ablate, bars, tmp_path):
    for name in ("forth", "and back"):
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(next((bars / name).iterdir()), tmp_path / "data" / name)
    with pytest.raises(UsageError, match="--ablate needs validation clips: there are none"):
        ablate(data=tmp_path / "data", val="0.2")
    assert not (tmp_path / "ab").exists()
