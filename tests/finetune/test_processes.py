"""Where fine-tuning is told to be one of several processes: what torchrun says, and what others do."""

import socket
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch

from xclip_cli.errors import UsageError
from xclip_cli.finetune import job
from xclip_cli.finetune.learner import FrameFront
from xclip_cli.model.xclip import Xclip

CPU = torch.device("cpu")
NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK")


@pytest.fixture
def environment(monkeypatch):
    """A function: these variables and no other of torchrun's."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def refused(match):
    began = time.monotonic()
    with pytest.raises(UsageError, match=match) as caught, job.joined(CPU):
        pass
    assert "unset RANK and WORLD_SIZE" in caught.value.hint and "\n" not in caught.value.message
    assert time.monotonic() - began < 20


GOOD = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "changed",
    [
        {"MASTER_ADDR": None},
        {"MASTER_PORT": None},
        {"RANK": None},
        {"WORLD_SIZE": None},
        {"WORLD_SIZE": "many"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": "-2"},
        {"WORLD_SIZE": "9" * 5000},
        {"RANK": "2"},
        {"RANK": "-1"},
        {"RANK": ""},
        {"MASTER_PORT": "99999"},
        {"MASTER_PORT": "0"},
    ],
    ids=str,
)
def test_an_environment_that_torchrun_does_not_make_is_one_line(environment, changed):
    environment(**{name: value for name, value in (GOOD | changed).items() if value is not None})
    refused("do not describe one of several processes")


def test_without_torchrun_there_is_one_process(environment):
    with job.joined(CPU) as ranks:
        assert (ranks.rank, ranks.count) == (0, 1)


def test_others_that_do_not_come_are_one_line(environment, monkeypatch):
    monkeypatch.setattr(job, "_START", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    environment(**GOOD | {"MASTER_PORT": port})
    refused("cannot meet")
    environment(**GOOD | {"MASTER_PORT": port, "RANK": "1"})
    refused("cannot meet")


def test_one_process_of_torchrun_is_alone(environment):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    environment(**GOOD | {"WORLD_SIZE": "1", "MASTER_PORT": port})
    with job.joined(CPU) as ranks:
        assert (ranks.rank, ranks.count) == (0, 1) and ranks.gather("x") == ["x"]


def test_each_process_takes_a_gpu_of_its_own(environment, monkeypatch):
    """NCCL refuses two processes on one."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert str(job._own_device("cuda")) == "cuda" and chosen == []
    environment(LOCAL_RANK="1")
    assert str(job._own_device("auto")) == str(job._own_device("cuda")) == "cuda:1"
    assert list(map(str, chosen)) == ["cuda:1", "cuda:1"]
    assert str(job._own_device("cuda:0")) == "cuda:0" and str(job._own_device("cpu")) == "cpu"
    environment(LOCAL_RANK="5")
    with pytest.raises(UsageError, match="cuda:5"):
        job._own_device("auto")


def test_features_of_classes_go_where_the_network_computes(toy_config):
    """A probe finds them on the CPU. The meta device stands for a GPU: neither takes tensors of the other's."""
    with torch.device("meta"):
        model = Xclip(toy_config)
    there = SimpleNamespace(front=FrameFront(model), names=["run", "jump"], device=torch.device("meta"))
    for names in (["run", "jump"], ["jump", "swim"]):
        learner = job.by_name(there, names, torch.zeros(2, toy_config.embed_dim))
        assert learner.text().device.type == "meta" and learner.text().shape == (2, toy_config.embed_dim)
