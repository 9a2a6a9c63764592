"""A million videos: what a run keeps of each is small, whether it has a result or not, and a resumed run is equal."""

import gc
import os
import tracemalloc
from types import SimpleNamespace

import pytest

from xclip_cli.labels import from_names
from xclip_cli.outputs.journal import Journal, MemoryJournal
from xclip_cli.results import Segment, Tag, VideoResult
from xclip_cli.runs import batch
from xclip_cli.settings import TagSettings

LABELS = from_names("running,dunking,a dog")
CHECKPOINT = SimpleNamespace(name="m", fingerprint="f" * 64)


def result(video, failed=False):
    if failed:
        return VideoResult(video, "m", "custom", error="'x' is empty (0 bytes)")
    return VideoResult(
        video, "m", "custom", (Segment(0.0, 1.5, tuple(Tag(x.name, 0.25, -1 / 3) for x in LABELS.labels)),)
    )


def engine(videos, label_set, settings):
    return (result(video, failed=video.endswith("3.mp4")) for video in videos)


def new_job(videos, engine=engine):
    return batch.Batch(videos, LABELS, TagSettings(), engine, checkpoint=CHECKPOINT)


def run(output, listed, engine=engine, stop_after=None):
    """As the program does; gives the peak of what Python took, in bytes."""
    tracemalloc.start()
    videos = batch.find_videos([], listed=listed, output=output).videos
    batch.check_output(output, videos, overwrite=False)
    job = new_job(videos, engine)
    with Journal(output) as journal:
        for count, _ in enumerate(job.run(journal), start=1):
            if count == stop_after:
                break
        else:
            job.write(output, "csv", journal)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def names(count):
    return [f"a/folder/of/videos/recorded in 2026/{number:07}" for number in range(count)]


def test_memory_does_not_grow_with_results(tmp_path):
    """A list in memory, the names it is known by and where each result is: less than a kilobyte for each video."""
    peaks = {}
    for count in (100, 900):
        listed = names(count)
        peaks[count] = [run(tmp_path / f"{count}.csv", listed) for _ in ("anew", "again")]
    for few, many in zip(peaks[100], peaks[900], strict=True):
        assert (many - few) / 800 < 700


@pytest.mark.parametrize("with_output", [True, False])
def test_results_are_read_back_and_not_kept(tmp_path, with_output):
    videos = names(1000)
    job = new_job(videos)
    with Journal(tmp_path / "o.csv") if with_output else MemoryJournal() as record:
        assert sum(1 for _ in job.run(record)) == 1000
        assert sum(type(x) is VideoResult for x in gc.get_objects()) < 10
        assert [found.video for found in job.results] == videos
        assert next(job.results) == result(videos[0])


@pytest.mark.parametrize("stop_after", [1, 7, 49])
def test_a_run_that_was_stopped_gives_what_one_run_gives(tmp_path, stop_after):
    videos = [str(tmp_path / f"{n}.avi") for n in range(50)]
    for video in videos:
        with open(video, "wb") as file:
            file.write(b"x")

    def backwards(videos, *rest):
        return reversed(list(engine(videos, *rest)))

    run(tmp_path / "whole.csv", videos)
    run(tmp_path / "o.csv", videos, backwards, stop_after)
    assert not (tmp_path / "o.csv").exists()
    tagged = []
    run(tmp_path / "o.csv", videos, lambda videos, *rest: (tagged.append(v) or result(v) for v in videos))
    assert len(tagged) == 50 - stop_after and tagged == videos[: 50 - stop_after]
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_file_that_changes_while_it_is_tagged_is_tagged_again(tmp_path):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"x")

    def slow(videos, *rest):
        for path in videos:
            os.utime(path, (1, 1))
            yield result(path)

    run(tmp_path / "o.csv", [str(video)], slow)
    job = new_job([str(video)])
    with Journal(tmp_path / "o.csv") as journal:
        assert len(list(job.run(journal))) == 1 and job.resumed == 0


def test_an_engine_is_given_a_video_when_it_asks(tmp_path):
    videos = [str(tmp_path / name) for name in "abc"]
    asked = []

    def one_by_one(videos, *rest):
        for video in videos:
            asked.append(video)
            yield result(video)

    job = new_job(videos, one_by_one)
    with Journal(tmp_path / "o.csv") as journal:
        results = job.run(journal)
        next(results)
        assert asked == videos[:1]
        (tmp_path / "b").write_bytes(b"late")
        assert len(list(results)) == 2
    again = new_job(videos)
    with Journal(tmp_path / "o.csv") as journal:
        assert list(again.run(journal)) == []  # b was looked at when it was begun
