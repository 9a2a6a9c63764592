"""The file that a run goes on from: what no run keeps in it is refused in one line."""

import zipfile
from types import SimpleNamespace

import pytest
import torch

from xclip_cli.errors import UsageError
from xclip_cli.finetune.loop import State


def make():
    """A learner of two weights, and its optimiser after one step."""
    generator = torch.Generator().manual_seed(0)
    trained = {n: torch.nn.Parameter(torch.randn(2, size, generator=generator)) for n, size in (("w", 3), ("b", 1))}
    optimiser = torch.optim.AdamW(trained.values(), lr=0.1)
    sum(p.square().sum() for p in trained.values()).backward()
    optimiser.step()
    return SimpleNamespace(trained=trained), optimiser, torch.amp.GradScaler("cpu", enabled=False)


@pytest.fixture
def path(tmp_path):
    learner, optimiser, scaler = make()
    state = State(tmp_path / "state.pt", "this run", keeps_best=True)
    state.finish_epoch(learner, 0.5, 0.75, None)
    state.keep(learner, optimiser, scaler)
    return state.path


def go_on(path):
    learner, optimiser, scaler = make()
    with torch.no_grad():
        for parameter in learner.trained.values():
            parameter.zero_()
    state = State(path, "this run").load()
    state.restore(learner, optimiser, scaler)
    return state, learner, optimiser


def test_what_was_kept_comes_back(path):
    state, learner, optimiser = go_on(path)
    assert (state.epoch, state.step, state.loss_sum) == (1, 0, 0.0)
    assert state.history == [{"epoch": 1, "loss": 0.5, "accuracy": 0.75, "val_loss": None}]
    expected, moments, _ = make()
    for name, parameter in expected.trained.items():
        assert learner.trained[name].equal(parameter) and state.best[name].equal(parameter)
    for one, other in zip(
        optimiser.state_dict()["state"].values(), moments.state_dict()["state"].values(), strict=True
    ):
        assert all(one[name].equal(other[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def weights(name, change):
    return lambda state: state | {name: state[name] | {"w": change(state[name]["w"])}}


def moments(**changes):
    def change(state):
        first = state["optimiser"]["state"][0]
        first |= {name: how(first[name]) for name, how in changes.items()}
        return state

    return change


CHANGES = {
    "epoch below 0": lambda state: state | {"epoch": -1},
    "epoch of 30 digits": lambda state: state | {"epoch": 10**30},
    "epoch without history": lambda state: state | {"epoch": 2},
    "epoch that is true": lambda state: state | {"epoch": True},
    "step that is text": lambda state: state | {"step": "1"},
    "loss that is NaN": lambda state: state | {"loss_sum": float("nan")},
    "no loss": lambda state: state | {"loss_sum": None},
    "processes that are text": lambda state: state | {"processes": "1"},
    "history that is a number": lambda state: state | {"history": 5},
    "history that lacks a field": lambda state: state | {"history": [{"epoch": 1}]},
    "history of text": lambda state: (
        state | {"history": [dict.fromkeys(("epoch", "loss", "accuracy", "val_loss"), "x")]}
    ),
    "best that is a list": lambda state: state | {"best": [1]},
    "best that is infinite": weights("best", lambda tensor: tensor * float("inf")),
    "no weights": lambda state: state | {"trained": {}},
    "weights of another name": lambda state: state | {"trained": state["trained"] | {"x": torch.zeros(2)}},
    "weights that are NaN": weights("trained", lambda tensor: tensor * float("nan")),
    "weights of another shape": weights("trained", lambda tensor: tensor[:1]),
    "weights of a giant shape": weights("trained", lambda _: torch.zeros(1).expand(10**12)),
    "weights that are text": weights("trained", lambda _: "x"),
    "optimiser that is a number": lambda state: state | {"optimiser": 5},
    "moments of no weight": lambda state: state | {"optimiser": {"state": {7: {}}}},
    "moments that are NaN": moments(exp_avg=lambda tensor: tensor * float("nan")),
    "moments below 0": moments(exp_avg_sq=lambda tensor: tensor - 1e9),
    "moments of another shape": moments(exp_avg=lambda tensor: tensor[0]),
    "step of the optimiser below 0": moments(step=lambda tensor: tensor - 5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_state_that_no_run_keeps_is_refused(path, name):
    torch.save(CHANGES[name](torch.load(path, weights_only=True)), path)
    with pytest.raises(UsageError, match=r"state\.pt' cannot be read: ") as refusal:
        go_on(path)
    assert "\n" not in refusal.value.message and "start anew" in refusal.value.hint


def test_a_state_that_says_to_be_larger_than_its_file_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state/data.pkl", bytes(2**24))
    with pytest.raises(UsageError, match="cannot be read: it is larger than its file"):
        go_on(path)
