"""Small models in every format that can be opened, and a machine without network."""

import socket

import pytest
import torch

from xclip_cli.checkpoint.keymap import TABLES
from xclip_cli.model.config import TextConfig, VisionConfig, XclipConfig
from xclip_cli.model.xclip import Xclip

FUSED = ("q", "k", "v")


@pytest.fixture
def offline(monkeypatch):
    """Any use of the network fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was used: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def published_config():
    """A small network with the proportions of the published ones: heads of 64, MIT and prompts."""
    return XclipConfig(
        vision=VisionConfig(image_size=32, patch_size=16, width=128, layers=2, heads=2),
        text=TextConfig(width=64, layers=1, heads=1),
        embed_dim=64,
        num_frames=4,
    )


@pytest.fixture(scope="session")
def published(published_config):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Xclip(published_config)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="session")
def microsoft_state(published):
    return to_openai_names(published.state_dict(), "microsoft")


def to_openai_names(state, format):
    """Our tensors under the names of Microsoft or OpenAI, queries, keys and values fused, projections turned."""
    theirs = {}
    for their_key, our_key in TABLES[format].items():
        for number in map(str, range(4)) if "N" in our_key else [""]:
            key = our_key.replace("N", number)
            parts = [key.replace("*", part) for part in FUSED] if "*" in key else [key]
            if parts[0] in state:
                value = torch.cat([state[part] for part in parts]) if len(parts) > 1 else state[key].clone()
                bare = their_key in ("visual.proj", "text_projection", "prompts_visual_proj")
                theirs[their_key.replace("N", number)] = value.T.contiguous() if bare else value
    return theirs


@pytest.fixture(scope="session")
def openai_names():
    return to_openai_names


@pytest.fixture
def views(published_config):
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def score():
    """Logits of a checkpoint's two halves, as tagging runs them."""

    def run(checkpoint, frames, texts=("a dog runs", "dunking a ball")):
        model, text = checkpoint.video_model(), checkpoint.text_encoder()(list(texts))
        with torch.inference_mode():
            return model.logits(model.similarity(model.encode_video(frames), text))

    return run


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of Hugging Face; ``place(repository)`` makes a downloaded repository's folder in it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def place(repository):
        home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        folder = home / "snapshots" / "c0ffee"
        folder.mkdir(parents=True)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("c0ffee")
        return folder

    return place
