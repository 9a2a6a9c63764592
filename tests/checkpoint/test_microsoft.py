"""Microsoft's .pth: its weights are read, its pickle is never run."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile

import pytest
import torch

from xclip_cli.checkpoint.load import load_model, open_checkpoint
from xclip_cli.checkpoint.ours import save
from xclip_cli.checkpoint.registry import Preprocessing
from xclip_cli.errors import ModelError
from xclip_cli.model.text import tokenize


@pytest.fixture
def checkpoint_dict(microsoft_state):
    """All that the official training script writes, its config as a real CfgNode."""
    from yacs.config import CfgNode

    config = CfgNode({"DATA": {"NUM_FRAMES": 4, "ROOT": "/data"}, "TRAIN": {"LR": 8e-6, "BETAS": (0.9, 0.98)}})
    config.freeze()
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    return {
        "model": microsoft_state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"base_values": [8e-6], "_initialized": True},
        "max_accuracy": 80.4,
        "epoch": 29,
        "config": config,
    }


@pytest.fixture(params=["zip", "legacy"])
def write(request, tmp_path):
    """Saves an object as k400.pth, in torch's present and former format."""

    def run(value):
        path = tmp_path / "k400.pth"
        torch.save(value, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return run


def test_gives_the_networks_logits(write, checkpoint_dict, published, published_config, views, score, offline):
    checkpoint = open_checkpoint(str(write(checkpoint_dict)))
    assert (checkpoint.name, checkpoint.num_frames) == ("k400", 4)
    pixels = {"antialias": False, "rounding": "round", "cropping": "mmcv"}
    assert checkpoint.preprocessing == Preprocessing(256 * 32 // 224, 32, **pixels)
    model = checkpoint.full_model()
    assert model.config == published_config
    with torch.inference_mode():
        expected = published(views, tokenize(["a dog runs", "dunking a ball"]))
    assert torch.allclose(score(checkpoint, views), expected, atol=1e-5)


def test_a_bare_or_parallel_state_dict_opens_too(write, microsoft_state):
    assert open_checkpoint(str(write(microsoft_state))).num_frames == 4
    parallel = {f"module.{key}": value for key, value in microsoft_state.items()}
    assert open_checkpoint(str(write({"model": parallel}))).num_frames == 4


def test_saves_as_our_own_file(write, checkpoint_dict, tmp_path):
    model = load_model(str(write(checkpoint_dict)))
    save(model, tmp_path / "ours.safetensors", preprocessing=Preprocessing(36, 32), name="ours")
    again = load_model(str(tmp_path / "ours.safetensors"))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_does_not_hold_the_file(write, checkpoint_dict, views):
    """A file that is replaced while its model runs changes nothing."""
    path = write(checkpoint_dict)
    model = open_checkpoint(str(path)).video_model()
    with torch.inference_mode():
        before = model.encode_video(views).video
        path.write_bytes(b"\0" * path.stat().st_size)
        assert torch.equal(model.encode_video(views).video, before)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("mit.resblocks.0.ln_1.bias"), r"mit\.blocks\.0\.ln_1\.bias is missing"),
        (lambda state: state.update({"visual.rel_pos": torch.zeros(1)}), r"visual\.rel_pos"),
        (lambda state: state.update({"ln_final.weight": torch.zeros(5)}), r"text\.ln_final\.weight.*\(5,\).*\(64,\)"),
        (lambda state: state.update({"visual.class_embedding": "x"}), "is a str, not a tensor"),
        (lambda state: state.pop("visual.conv1.weight"), r"it lacks 'visual\.conv1\.weight'$"),
    ],
)
def test_loading_is_strict(write, checkpoint_dict, microsoft_state, change, says):
    state = dict(microsoft_state)
    change(state)
    with pytest.raises(ModelError, match=says):
        open_checkpoint(str(write({**checkpoint_dict, "model": state}))).full_model()


def test_a_clip_for_images_is_sent_to_open_clip(write, microsoft_state):
    images = {k: v for k, v in microsoft_state.items() if not any(x in k for x in ("mit.", "prompts", "message"))}
    with pytest.raises(ModelError, match="not an X-CLIP") as caught:
        open_checkpoint(str(write(images)))
    assert "open_clip:" in caught.value.hint


class Payload:
    """Runs its call when a careless reader loads it."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def mark(folder):
    with open(os.path.join(folder, "marker"), "w"):
        pass


@pytest.fixture
def payloads(tmp_path):
    marker = tmp_path / "marker"
    yield {
        "system": Payload(os.system, f"touch {marker}"),
        "eval": Payload(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Payload(exec, f"open({str(marker)!r}, 'w')"),
        "own": Payload(mark, str(tmp_path)),
        "open": Payload(open, str(marker), "w"),
    }
    assert not marker.exists(), "code from the file was run"


@pytest.mark.parametrize("place", ["top", "model", "optimizer", "config", "key"])
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("system", "(posix|nt).system"),
        ("eval", "eval"),
        ("exec", "exec"),
        ("own", "mark"),
        ("open", "open"),
    ],
)
def test_a_malicious_pickle_is_refused_and_not_run(write, checkpoint_dict, payloads, place, kind, named):
    payload = payloads[kind]
    if place == "top":
        value = payload
    elif place == "key":
        value = {payload: 1, **checkpoint_dict}
    else:
        value = {**checkpoint_dict, place: {**checkpoint_dict[place], "x": [payload]}}
    path = write(value)
    with pytest.raises(ModelError, match=named) as caught:
        open_checkpoint(str(path))
    assert "refused" in caught.value.message and "\n" not in caught.value.message


def test_an_attacker_cannot_pass_as_a_config(write, checkpoint_dict, payloads, tmp_path):
    """The stand-in for CfgNode is a dict: nothing of the real class, or of a namesake, is imported."""
    path = tmp_path / "k400.pth"
    stream = (
        b"\x80\x02}q\x00(X\x06\x00\x00\x00configcyacs.config\nCfgNode\n)\x81}(X\x01\x00\x00\x00aK\x01u"
        b"}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsbu."
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    with pytest.raises(ModelError, match=r"os\.system"):
        open_checkpoint(str(path))


@pytest.mark.parametrize("suffix", ["pth", "bin", "pt", "safetensors"])
def test_a_plain_pickle_is_refused_under_any_name(payloads, tmp_path, suffix):
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(pickle.dumps({"model": payloads["system"]}))
    with pytest.raises(ModelError):
        open_checkpoint(str(path))


def test_a_malicious_pickle_in_a_transformers_folder_is_refused(payloads, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "xclip"}')
    torch.save({"a": payloads["system"]}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="refused"):
        open_checkpoint(str(folder)).video_model()


def test_a_tar_is_refused(payloads, tmp_path):
    path = tmp_path / "old.pth"
    blob = pickle.dumps(payloads["system"])
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        open_checkpoint(str(path))


@pytest.mark.filterwarnings("ignore")
def test_a_program_is_refused(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(ModelError, match="TorchScript"):
        open_checkpoint(str(path))


def test_damaged_files_are_one_line(write, checkpoint_dict):
    path = write(checkpoint_dict)
    whole = path.read_bytes()
    for content in (b"", b"\0" * 100, b"not a checkpoint", whole[:1000], whole[: len(whole) // 2], whole[1000:]):
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            open_checkpoint(str(path))
        assert "\n" not in caught.value.message
    for value in ([], {}, 3, {"model": {}}, {"model": {"a": 1}}, {1: torch.zeros(1)}):
        with pytest.raises(ModelError, match="holds no weights"):
            open_checkpoint(str(write(value)))


def test_the_optimizer_of_a_large_file_is_not_read(tmp_path, checkpoint_dict):
    pytest.importorskip("resource")
    path = tmp_path / "large.pth"
    torch.save({**checkpoint_dict, "optimizer": {"state": torch.zeros(100 << 20)}}, path)
    program = (
        "import resource, sys; from xclip_cli.checkpoint.load import open_checkpoint\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); open_checkpoint(sys.argv[1]).video_model(); print(peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 200_000, f"{run.stdout} KB for a model of 17 MB in a file of 437 MB"
