"""The Ray engine: what an actor does, and real clusters of several processes on this machine, some of which die."""

import importlib.util
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest

from xclip_cli.errors import XclipError
from xclip_cli.labels import from_names
from xclip_cli.runs import ray
from xclip_cli.runs.ray import MAX_DEATHS, Actor
from xclip_cli.settings import TagSettings

LABELS = ["--labels", "running,dunking,a dog"]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")


def test_without_ray_the_extra_is_named(xclip, toy_model, clips, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    done = xclip("tag", clips, "--model", toy_model, *LABELS, "--engine", "ray")
    assert done.returncode == 2 and "pip install 'xclip-cli[ray]'" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("name", ["tag", "index"])
def test_an_address_without_ray_is_refused(xclip, clips, name):
    done = xclip(name, clips, "--address", "local")
    assert done.returncode == 2 and "--engine ray" in done.stderr


def test_devices_are_dealt_out_by_ray(xclip, toy_model, clips):
    pytest.importorskip("ray")
    done = xclip("tag", clips, "--model", toy_model, *LABELS, "--engine", "ray", "--device", "cuda:1")
    assert done.returncode == 2 and "Ray assigns the devices" in done.stderr


def test_an_actor_tags_as_the_program_does(toy_model, clips):
    from xclip_cli import Tagger

    names, settings = from_names("running,dunking,a dog"), TagSettings(model=toy_model, workers=1)
    actor, plain = Actor(), json.loads(json.dumps([asdict(settings), asdict(names)]))
    about = actor.open(*plain, str(clips))
    tagger = Tagger(toy_model, names, workers=1)
    assert about["fingerprint"] == tagger.checkpoint.fingerprint and about["room"] >= 4
    videos = [*map(str, clips.iterdir()), str(clips / "gone.mp4")]
    expected = {result.video: result for result in tagger.tag_many(videos)}
    for turn in (videos[:3], videos[3:], videos):  # each time anew: the last one is finished when no more is to come
        assert dict(answers(actor, turn)) == {video: expected[video] for video in turn}


def test_an_actor_without_labels_embeds_as_the_program_does(toy_model, clips):
    from xclip_cli.errors import VideoError
    from xclip_cli.tagger.encoder import Encoder

    actor = Actor()
    actor.open(asdict(TagSettings(model=toy_model, workers=1)), None, str(clips))
    videos = [*map(str, clips.iterdir()), str(clips / "gone.mp4")]
    expected = dict(Encoder(toy_model, workers=1).embed_many(iter(videos)))
    found = pickle.loads(pickle.dumps(dict(answers(actor, videos))))
    assert found.keys() == expected.keys()
    for video, ours in expected.items():
        if isinstance(ours, VideoError):
            assert found[video].message == ours.message
        else:
            assert np.array_equal(found[video].windows, ours.windows) and np.array_equal(found[video].whole, ours.whole)


def answers(actor, videos):
    found = actor.exchange([*videos, None])
    while len(found) < len(videos):
        found += actor.exchange([])
    return found


def test_an_actor_without_the_model_says_so(tmp_path):
    settings = asdict(TagSettings(model=str(tmp_path / "gone.safetensors")))
    about = Actor().open(settings, asdict(from_names("a,b")), str(tmp_path))
    assert "gone.safetensors" in about["error"] and about["node"]


def command(*arguments, name="tag"):
    return [sys.executable, "-m", "xclip_cli", name, *map(str, arguments)]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1"}


def on_ray(*arguments, name="tag"):
    return command(*arguments, "--engine", "ray", "--address", "local", "--workers", 1, name=name)


def run(arguments):
    return subprocess.run(arguments, capture_output=True, text=True, env=environment(), timeout=400)


@pytest.fixture(scope="module")
def many(tmp_path_factory, make_clip):
    folder = tmp_path_factory.mktemp("many")
    for index in range(60):
        make_clip(folder / f"{index:02}.mp4", num_frames=6, shade=index)
    (folder / "broken.mp4").write_bytes(b"no video")
    os.utime(folder / "broken.mp4", (1, 1))  # else its row says that it may be still being written
    (folder / "empty.mp4").write_bytes(b"")
    return folder


def descendants(pid: int) -> dict[int, str]:
    """The processes below one, and what each calls itself."""
    parents, names = {}, {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{entry}/cmdline") as file:
                names[int(entry)] = file.read().replace("\0", " ")
        except OSError:
            continue

    def below(child: int) -> bool:
        while child in parents and child != pid:
            child = parents[child]
        return child == pid

    return {child: name for child, name in names.items() if child != pid and below(child)}


def actors(pid: int) -> list[int]:
    return [child for child, name in descendants(pid).items() if name.startswith("ray::Actor")]


def alive(pids) -> list[int]:
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe") and os.path.lexists(f"/proc/{pid}/cwd")]


def gone(pids) -> bool:
    """Whether all have left, within a few seconds."""
    stop = time.monotonic() + 20
    while alive(pids) and time.monotonic() < stop:
        time.sleep(0.1)
    return not alive(pids)


def started(arguments, journal, lines):
    """The running program, once its journal has so many lines."""
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
        time.sleep(0.01)
    return process


@needs_ray
@needs_proc
@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_row_and_leaves_nothing_behind(toy_model, many, tmp_path):
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert run(command(many, "--model", toy_model, *LABELS, "-o", here)).returncode == 1  # broken.mp4, empty.mp4
    arguments = on_ray(many, "--model", toy_model, *LABELS, "-o", there)
    process = started(arguments, tmp_path / "there.csv.journal", lines=8)
    processes = descendants(process.pid)
    found = actors(process.pid)
    assert len(found) == os.cpu_count() or len(found) > 1
    os.kill(found[0], signal.SIGKILL)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 1 and "Traceback" not in said, said
    assert there.read_bytes() == here.read_bytes()
    assert gone(processes)


@needs_ray
@needs_proc
@pytest.mark.slow
def test_an_index_that_a_worker_died_for_is_that_of_one_machine(toy_model, many, tmp_path):
    own = "--model", toy_model, "--window", "0.2", "--index"
    here, there = tmp_path / "here", tmp_path / "there"
    assert run(command(many, *own, here, name="index")).returncode == 1  # broken.mp4, empty.mp4
    arguments = on_ray(many, *own, there, name="index")
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment())
    while process.poll() is None and not any(file.stat().st_size for file in there.glob("*.rows")):
        time.sleep(0.01)
    found = actors(process.pid)
    os.kill(found[0], signal.SIGKILL)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 1 and "60 videos indexed (0 before), 2 failed" in said, said
    tags = [run(command(many, *LABELS, *own, index, "--from-index")).stdout for index in (here, there)]
    assert tags[0] == tags[1] and tags[0].count(",ok,") >= 60


@needs_ray
@pytest.mark.slow
def test_timelines_and_pipes_are_those_of_one_machine(toy_model, many):
    window = ["--window", "0.2", "--model", toy_model, *LABELS]
    here, there = run(command(many, *window)), run(on_ray(many, *window))
    assert there.stdout == here.stdout and there.returncode == here.returncode == 1
    assert there.stderr.count("failed:") == here.stderr.count("failed:") and "ray" not in there.stderr.lower()


@needs_ray
@needs_proc
@pytest.mark.slow
def test_a_video_that_ends_every_worker_is_a_failed_one(toy_model, bikes, tmp_path):
    """Whoever begins with the long video is killed; the short ones, some of which it takes with it, are tagged."""
    for index in range(6):
        shutil.copy(bikes, tmp_path / f"{index}.mp4")
    long = tmp_path / "long.mp4"
    joined = tmp_path / "list.txt"
    joined.write_text(f"file '{bikes}'\n" * 60)
    from imageio_ffmpeg import get_ffmpeg_exe

    subprocess.run(
        [get_ffmpeg_exe(), "-f", "concat", "-safe", "0", "-i", joined, "-c", "copy", long],
        check=True,
        capture_output=True,
    )
    output = tmp_path / "o.csv"
    arguments = on_ray(tmp_path, "--model", toy_model, *LABELS, "--window", "1", "--stride", "0.1", "-o", output)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment())
    kills = 0
    while process.poll() is None and kills < MAX_DEATHS:
        for actor in actors(process.pid):
            if any("xclip_cli.video.worker" in name for name in descendants(actor).values()) and works_on(actor, long):
                os.kill(actor, signal.SIGKILL)
                kills += gone([actor])
        time.sleep(0.05)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 1 and kills == MAX_DEATHS, said
    rows = output.read_text().splitlines()
    [failed] = [row for row in rows if "long.mp4" in row]
    assert f"'long.mp4' ended its worker {MAX_DEATHS} times" in failed
    assert len({row.split(",")[0] for row in rows[1:] if "ended its worker" not in row}) == 6


def works_on(actor: int, video) -> bool:
    """Whether a decoder of the actor has the video open."""
    for child in descendants(actor):
        try:
            links = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
        except OSError:
            continue
        if str(video) in links:
            return True
    return False


@needs_ray
@needs_proc
@pytest.mark.slow
def test_ctrl_c_stops_a_cluster_too(toy_model, many, tmp_path):
    arguments = on_ray(many, "--model", toy_model, *LABELS, "-o", tmp_path / "o.csv")
    process = started(arguments, tmp_path / "o.csv.journal", lines=5)
    processes = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 130 and "Traceback" not in said and "run the same command again" in said
    assert gone(processes)


def listening(pids) -> set[str]:
    """The addresses, as /proc/net has them, on which these processes listen."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            rows = [line.split() for line in file.readlines()[1:]]
        sockets |= {f"socket:[{row[9]}]": row[1].split(":")[0] for row in rows if row[3] == "0A"}
    found = set()
    for pid in pids:
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        found |= {sockets[link] for link in links if link in sockets}
    return found


@needs_ray
@needs_proc
@pytest.mark.slow
def test_a_cluster_of_our_own_listens_on_loopback_alone(toy_model, many, tmp_path):
    arguments = on_ray(many, "--model", toy_model, *LABELS, "-o", tmp_path / "o.csv")
    process = started(arguments, tmp_path / "o.csv.journal", lines=3)
    found = listening([process.pid, *descendants(process.pid)])
    process.communicate(timeout=400)
    assert found and found <= {"0100007F", "0000000000000000FFFF00000100007F", "0" * 24 + "01000000"}


@needs_ray
@pytest.mark.slow
def test_scores_that_are_no_numbers_end_the_run_at_once(toy_model, clips, tmp_path):
    """With the local engine's words: no worker died, and no video is to blame."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(toy_model, "pt") as file:
        metadata = file.metadata()
    state = load_file(toy_model) | {"logit_scale": torch.tensor(1000.0)}
    model = tmp_path / "toy.safetensors"
    save_file(state, model, metadata=metadata)
    here, there = (run(make(clips, "--model", model, *LABELS)) for make in (command, on_ray))
    assert here.returncode == there.returncode == 1
    assert here.stderr == there.stderr and "gives scores that are no numbers" in there.stderr


def test_an_address_where_nobody_speaks_ray_is_given_up(monkeypatch):
    """Ray itself waits for minutes. The probe's own limit is that of this test."""
    pytest.importorskip("ray")
    monkeypatch.setattr(ray, "_ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(XclipError, match=f"no Ray cluster at '{address}': nobody answers as Ray does") as caught:
            ray._connect(address)
    assert "ray start --head" in caught.value.hint


def test_a_cluster_that_cannot_start_is_one_line(monkeypatch):
    real = pytest.importorskip("ray")

    def fail(*_, **__):
        raise Exception("The current node timed out during startup.\nThis could happen because ...")

    monkeypatch.setattr(real, "init", fail)
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    with pytest.raises(XclipError, match="no Ray cluster at 'local': The current node timed out") as caught:
        ray._connect("local")
    assert "\n" not in caught.value.message and "/dev/shm" in caught.value.hint


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "settings", "address", "said"),
    [
        ("another", "workers=1", "local", "ModelError: the node '.*' has another file of the model 'toy'"),
        ("same", "workers=64", "local", "XclipError: no node of the Ray cluster has the 64 CPUs"),
        ("same", "workers=1", "127.0.0.1:1", "XclipError: there is no Ray cluster at '127.0.0.1:1'"),
    ],
)
def test_what_is_wrong_with_a_cluster_is_one_line(toy_model, clips, checkpoint, settings, address, said):
    fingerprint = "open_checkpoint(model).fingerprint" if checkpoint == "same" else "'0' * 64"
    program = f"""
import types
from xclip_cli.checkpoint.load import open_checkpoint
from xclip_cli.runs import ray
from xclip_cli.errors import XclipError
from xclip_cli.labels import from_names
from xclip_cli.settings import TagSettings
if __name__ == "__main__":
    model = {toy_model!r}
    checkpoint = types.SimpleNamespace(name="toy", fingerprint={fingerprint})
    try:
        settings = TagSettings(model=model, {settings})
        print(list(ray.tag([{str(clips / "a.mp4")!r}], from_names("a,b"), settings, checkpoint, {address!r})))
    except XclipError as error:
        print(type(error).__name__ + ":", error.message)
"""
    done = run([sys.executable, "-c", program])
    import re

    assert re.match(said, done.stdout), (done.stdout, done.stderr)
