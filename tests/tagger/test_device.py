import pytest
import torch

from xclip_cli import Tagger
from xclip_cli.errors import UsageError
from xclip_cli.tagger.encoder import resolve_device

NONE_HERE = [
    "cuda:99999999999999999999",
    "cuda:-1",
    "cuda:",
    "cuda:0x0",
    "cuda:٠",
    "cuda:7",
    "mps:3",
    "cpu:1",
    "meta",
    "xpu",
    "CPU",
    "",
    "cpu\n",
    "\0",
]


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", NONE_HERE)
def test_a_device_that_is_not_here_is_one_line(name, two_gpus, toy_model):
    with pytest.raises(UsageError, match="is not available on this machine") as caught:
        resolve_device(name)
    assert "cpu or cuda or cuda:0 or cuda:1" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        Tagger(toy_model, device=name)
    assert caught.value.exit_code == 2


def test_what_is_here_is_given(two_gpus, monkeypatch):
    assert [str(resolve_device(name)) for name in ("cpu", "cuda", "cuda:1", "auto")] == [
        "cpu",
        "cuda",
        "cuda:1",
        "cuda",
    ]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # CUDA_VISIBLE_DEVICES may hide all
    assert str(resolve_device("auto")) in ("cpu", "mps")
