import os
import re
from pathlib import Path

import pytest

from xclip_cli import outputs
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.labels import from_names
from xclip_cli.outputs.journal import Journal, MemoryJournal
from xclip_cli.results import Segment, Tag, VideoResult
from xclip_cli.runs import batch
from xclip_cli.settings import TagSettings
from xclip_cli.video.source import VIDEO_SUFFIXES


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.MP4",
        "a.mp4",
        "notes.txt",
        ".hidden.mp4",
        "with space.mov",
        "new\nline.webm",
        "sub/c.avi",
        "x.mp4/d.mkv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(videos, folder):
    return [os.path.relpath(video, folder) for video in videos]


def test_a_folder_gives_its_videos_in_order(folder):
    flat = ["a.mp4", "b.MP4", "new\nline.webm", "with space.mov"]
    assert names(batch.find_videos([str(folder)]).videos, folder) == flat
    deep = names(batch.find_videos([str(folder)], recursive=True).videos, folder)
    assert deep == [*flat, "sub/c.avi", "x.mp4/d.mkv"]


def test_files_are_taken_as_named_and_once(folder):
    wanted = [str(folder / "notes.txt"), str(folder / "missing.mp4")]
    assert batch.find_videos([*wanted, *wanted]).videos == wanted


def test_patterns_match_and_a_real_name_with_brackets_wins(folder):
    assert names(batch.find_videos([str(folder / "*.mp4")]).videos, folder) == ["a.mp4"]
    (folder / "[x].mp4").write_bytes(b"x")
    assert names(batch.find_videos([str(folder / "[x].mp4")]).videos, folder) == ["[x].mp4"]


@pytest.mark.parametrize("path", ["sub/empty", "*.nothing"])
def test_nothing_found_is_an_error(folder, path):
    (folder / "sub" / "empty").mkdir()
    with pytest.raises(UsageError):
        batch.find_videos([str(folder / path)])


@pytest.mark.parametrize("path", ["sub/empty", "*.nothing"])
def test_what_holds_no_video_is_a_warning_beside_what_does(folder, path):
    (folder / "sub" / "empty").mkdir()
    found = batch.find_videos([str(folder / path), str(folder / "sub")])
    assert found.videos == batch.find_videos([str(folder / "sub")]).videos != []
    [warning] = found.warnings
    assert repr(str(folder / path)) in warning


def test_symlink_loops_end(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "self.mp4").symlink_to(folder / "self.mp4")
    assert "self.mp4" in names(batch.find_videos([str(folder)], recursive=True).videos, folder)


def fill(folder, *files):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def find(folder, *paths, recursive=True, **more):
    found = batch.find_videos([str(folder / path) for path in paths or ("",)], recursive, **more)
    return names(found.videos, folder), dict(found.skipped)


SUFFIXES = """.m2t .m2v .mpe .3gp .3gpp .3g2 .f4v .rm .rmvb .divx .dv .ogm .qt .insv .lrv .mp4 .mkv .mov .avi .webm .gif
.apng .ts .m2ts .mts .vob .mxf .wmv .asf .flv .ogv .mpg .mpeg .m4v"""


@pytest.mark.parametrize("suffix", SUFFIXES.split())
def test_a_suffix_of_this_field_is_found_in_any_case(tmp_path, suffix):
    fill(tmp_path, f"a{suffix}", f"b{suffix.upper()}")
    assert find(tmp_path) == ([f"a{suffix}", f"b{suffix.upper()}"], {})


def test_the_page_of_formats_names_every_suffix():
    page = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    [suffixes] = re.findall(r"^- \*\*Folders\*\*[^`]*`--recursive`[^`]*`([^`]*)`", page, re.M)
    assert suffixes.split() == sorted(VIDEO_SUFFIXES)


def test_what_is_left_out_of_a_folder_is_counted_by_reason(tmp_path):
    fill(tmp_path, "a.mp4", "a.TXT", "sub/b.txt", "photo.webp", "LICENSE", "x.\x1b[31mred", "x.a long sentence")
    fill(tmp_path, ".DS_Store", ".a.mp4", "Thumbs.db", "sub/desktop.ini", ".hidden/b.mp4")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    counts = {".txt": 2, ".webp": 1, "no suffix": 1, "other suffix": 2, "link": 1}
    assert find(tmp_path) == (["a.mp4"], counts)
    heard = []
    batch.find_videos([str(tmp_path)], on_skip=lambda path, reason: heard.append((os.path.basename(path), reason)))
    assert ("a.TXT", ".txt") in heard and ("link.mp4", "link") in heard and len(heard) == 6


def test_pictures_are_taken_where_they_are_named(tmp_path):
    fill(tmp_path, "a.webp", "b.avif")
    assert find(tmp_path, "a.webp", "*.avif") == (["a.webp", "b.avif"], {})


def test_linked_folders_are_followed_and_nothing_is_found_twice(tmp_path):
    fill(tmp_path, "in/z/a.mp4", "in/store/f.bin", "out/b.mp4", "out/deep/c.mp4")
    (tmp_path / "in/a-link").symlink_to("z")  # before z in the alphabet: what really lies there is named first
    (tmp_path / "in/out").symlink_to("../out")
    (tmp_path / "out/back").symlink_to("../in")
    (tmp_path / "in/one.mp4").symlink_to("store/f.bin")
    (tmp_path / "in/two.mp4").symlink_to("store/f.bin")
    (tmp_path / "in/same.mp4").symlink_to("z/a.mp4")
    every = ["in/one.mp4", "in/z/a.mp4", "in/out/b.mp4", "in/out/deep/c.mp4"]
    assert find(tmp_path, "in") == (every, {".bin": 1, "link": 4})
    assert find(tmp_path, "in", "out", "in/z", "out/back")[0] == every
    assert set(find(tmp_path, "in/**/*.mp4")[0]) == set(every)
    assert find(tmp_path, "in", recursive=False)[0] == ["in/one.mp4", "in/same.mp4"]
    assert find(tmp_path, "out/back", recursive=False)[0] == ["out/back/one.mp4", "out/back/same.mp4"]


def test_many_loops_cost_no_time(tmp_path):
    fill(tmp_path, "a.mp4")
    for index in range(12):
        (tmp_path / f"loop{index}").symlink_to(tmp_path)
    assert find(tmp_path) == find(tmp_path, "**/*.mp4") == (["a.mp4"], {"link": 12})


def test_a_file_is_found_once_however_it_is_named(folder):
    fill(folder, "sub/c.avi")
    (folder / "door").symlink_to("sub")
    assert find(folder, "sub/c.avi", "sub", "door/c.avi", "sub/../sub/*.avi") == (["sub/c.avi"], {})
    assert find(folder, "sub", "sub/c.avi", "sub/gone.avi") == (["sub/c.avi", "sub/gone.avi"], {})
    os.link(folder / "sub/c.avi", folder / "sub/d.avi")
    assert find(folder, "sub")[0] == ["sub/c.avi", "sub/d.avi"]  # two names, none of them the other's link


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_is_found(folder, monkeypatch):
    fill(folder, "lost+found/x.mp4")
    scandir = os.scandir

    def guarded(path):
        if os.path.basename(path) == "lost+found":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    lost = str(folder / "lost+found")
    for paths in ((folder,), (folder / "**/*.mp4",), (folder / "lost+found",), (folder / "lost+found/*.mp4",)):
        found = batch.find_videos(map(str, paths), recursive=True)
        assert lost in found.videos
        assert found.unreadable == {lost: "the folder 'lost+found' cannot be listed: Permission denied"}
    assert len(batch.find_videos([str(folder)], recursive=True).videos) == 7
    assert batch.find_videos([lost, lost + "/x.mp4"]).videos == [lost, lost + "/x.mp4"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_folder_is_named(folder):
    (folder / "sub").chmod(0)
    found = batch.find_videos([str(folder)], recursive=True)
    (folder / "sub").chmod(0o700)
    assert list(found.unreadable) == [str(folder / "sub")] and "x.mp4/d.mkv" in names(found.videos, folder)


def test_an_unreadable_folder_is_a_result_without_the_engine_and_in_its_place():
    def engine(videos, label_set, settings):
        videos = list(videos)
        assert videos == ["a", "c"]
        segments = (Segment(0.0, 1.0, (Tag("running", 1.0, 0.5),)),)
        yield from (VideoResult(video, "m", "l", segments) for video in reversed(videos))

    labels = from_names(["running"])
    job = batch.Batch(["a", "b", "c"], labels, TagSettings(), engine, unreadable={"b": "cannot be listed"})
    with MemoryJournal() as record:
        assert len(list(job.run(record))) == 3 and job.failed == 1
        results = list(job.results)
    assert [(result.video, result.error) for result in results] == [("a", None), ("b", "cannot be listed"), ("c", None)]
    assert results[1].model == "mini" and results[1].labelset == labels.name


def test_a_part_of_a_path_that_exists_is_no_pattern(tmp_path):
    fill(tmp_path, "Show [1080p]/e1.mp4", "Show [1080p]/e2.mp4", "Show 1/e3.mp4", "x/[y]/a.mp4", "x/y/b.mp4")
    assert find(tmp_path, "Show [1080p]/*.mp4")[0] == ["Show [1080p]/e1.mp4", "Show [1080p]/e2.mp4"]
    assert find(tmp_path, "Show [1080p]/e[13].mp4")[0] == ["Show [1080p]/e1.mp4"]
    assert find(tmp_path, "*/[y]/*.mp4")[0] == ["x/[y]/a.mp4"]
    assert find(tmp_path, "Show [1-3]/*.mp4")[0] == ["Show 1/e3.mp4"]
    assert find(tmp_path, "Show [1080p]/gone.mp4")[0] == ["Show [1080p]/gone.mp4"]  # a missing file: an error row
    assert find(tmp_path, "Show [1080p]")[0] == ["Show [1080p]/e1.mp4", "Show [1080p]/e2.mp4"]


def test_the_bracketed_folder_of_a_report_is_found(shared):
    folder = shared / "cases" / "folders" / "brackets"
    if not folder.is_dir():
        pytest.skip("no such cases on this machine")
    assert find(folder, "Show [1080p]/*.mp4")[0] == ["Show [1080p]/e1.mp4"]


def test_patterns_are_those_of_a_shell(folder):
    fill(folder, "sub/deep/e.mp4", "sub/.hidden/f.mp4", "sub/.g.mp4")
    assert find(folder, "**/*.mp4")[0] == ["a.mp4", "sub/deep/e.mp4"]
    assert find(folder, "sub/**")[0] == ["sub/c.avi", "sub/deep/e.mp4"]
    assert find(folder, "sub/.*")[0] == ["sub/.g.mp4"]
    assert find(folder, "?.mp4", "[!b].mp4", "*.txt")[0] == ["a.mp4", "notes.txt"]


def test_names_from_a_list_are_no_patterns_and_never_end_the_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    os.mkdir("empty")
    listed = ["[a].mp4", "*.mp4", "sub", "empty", "a.mp4"]
    found = batch.find_videos([], listed=listed)
    assert found.videos == ["[a].mp4", "*.mp4", "sub/c.avi", "empty", "a.mp4"]
    assert list(found.unreadable) == ["empty"]
    assert batch.find_videos([], listed=[]).videos == []


def test_a_folder_without_videos_says_what_to_do(tmp_path):
    fill(tmp_path, "sub/a.mp4")
    with pytest.raises(UsageError, match="no videos in the folder") as caught:
        batch.find_videos([str(tmp_path)])
    assert "--recursive" in caught.value.hint


def test_the_files_of_an_earlier_run_are_not_found(folder, monkeypatch):
    monkeypatch.chdir(folder)
    fill(folder, "tags.csv", "tags.csv.journal", "tags.csv.journal.windows", ".tags.csv.7.part")
    for path in (".", "[!n]*", str(folder)):
        found = batch.find_videos([path], output=Path("tags.csv"))
        assert not [video for video in found.videos if "tags" in video] and set(found.skipped) <= {".txt"}
    os.remove("tags.csv.journal")
    assert "tags.csv" in batch.find_videos(["*"], output=Path("tags.csv")).videos  # for all we know, an input


@pytest.mark.parametrize("output", ["o.csv", "sub/o.csv", "notes.txt"])
def test_an_output_may_lie_beside_the_videos(folder, output):
    batch.check_output(folder / output, batch.find_videos([str(folder)]).videos, overwrite=True)


@pytest.mark.parametrize("output", ["a.mp4", "sub/../a.mp4", "symbolic.csv", "hard.csv", "door/c.avi", "gone.mp4"])
@pytest.mark.parametrize("journal", [False, True])
def test_an_output_that_is_one_of_the_videos_is_refused(folder, output, journal):
    (folder / "symbolic.csv").symlink_to("a.mp4")
    (folder / "door").symlink_to("sub")
    os.link(folder / "a.mp4", folder / "hard.csv")
    target = folder / output
    if journal:
        Journal(target).path.write_bytes(b"")
    paths = [str(folder / "*.mp4"), str(folder / "sub"), str(folder / "gone.mp4")]
    videos = batch.find_videos(paths, output=target).videos
    with pytest.raises(UsageError, match="would replace the input"):
        batch.check_output(target, videos, overwrite=True)


@pytest.mark.parametrize("name", ["o.csv.journal", "o.csv.journal.windows"])
def test_a_journal_may_not_be_one_of_the_videos(folder, name):
    fill(folder, name)
    with pytest.raises(UsageError, match="would replace the input"):
        batch.check_output(folder / "o.csv", [str(folder / name)], overwrite=True)


def test_a_foreign_output_is_replaced_only_when_asked(tmp_path):
    output = tmp_path / "o.csv"
    output.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        batch.check_output(output, [], overwrite=False)
    batch.check_output(output, [], overwrite=True)
    Journal(output).path.write_bytes(b"")
    batch.check_output(output, [], overwrite=False)
    with pytest.raises(UsageError, match="folder"):
        batch.check_output(tmp_path, [], overwrite=True)


def finish(output, *videos, format_name="csv"):
    """As a run does: a journal and an output that it knows."""

    def engine(videos, label_set, settings):
        yield from (VideoResult(video, "m", "l", error="x") for video in videos)

    job = batch.Batch(videos, from_names("a,b"), TagSettings(), engine)
    with Journal(output) as journal:
        assert len(list(job.run(journal))) == len(videos)
        job.write(output, format_name, journal)


@pytest.mark.parametrize("format_name", ["csv", "json", "jsonl"])
def test_an_output_that_was_changed_by_hand_is_not_replaced(tmp_path, format_name):
    output, videos = tmp_path / "o.csv", [str(fill(tmp_path, "é a.mp4") / "é a.mp4")]
    finish(output, *videos, format_name=format_name)
    batch.check_output(output, videos, overwrite=False)
    made = output.read_bytes()
    for changed in (made.replace(b"x", b"y"), made + b"note\n", b""):
        output.write_bytes(changed)
        with pytest.raises(UsageError, match=r"o\.csv' was changed since the last run") as caught:
            batch.check_output(output, videos, overwrite=False)
        assert "--overwrite" in caught.value.hint and "rename" in caught.value.hint
        batch.check_output(output, videos, overwrite=True)
    output.write_bytes(made)
    batch.check_output(output, videos, overwrite=False)
    output.unlink()
    batch.check_output(output, videos, overwrite=False)


def test_rows_of_other_videos_are_not_dropped(tmp_path, monkeypatch):
    output = fill(tmp_path, "one/a.mp4", "one/b.mp4", "two/a.mp4") / "o.csv"
    monkeypatch.chdir(tmp_path / "one")
    finish(output, "a.mp4", "b.mp4")
    for same in (["a.mp4", "b.mp4"], ["./b.mp4", str(tmp_path / "one/a.mp4"), "../two/a.mp4"]):
        batch.check_output(output, same, overwrite=False)
    monkeypatch.chdir(tmp_path / "two")
    for videos in (["a.mp4"], ["../one/a.mp4"]):
        with pytest.raises(UsageError, match=r"is of [12] other videos? too, such as '.*one/[ab]\.mp4'") as caught:
            batch.check_output(output, videos, overwrite=False)
        assert "--overwrite" in caught.value.hint and "another -o" in caught.value.hint
    batch.check_output(output, ["a.mp4"], overwrite=True)
    (tmp_path / "link").symlink_to("one")
    batch.check_output(output, ["../link/a.mp4", "../link/b.mp4"], overwrite=False)
    for gone in ("one/a.mp4", "one/b.mp4"):
        os.remove(tmp_path / gone)
    batch.check_output(output, ["a.mp4"], overwrite=False)


def test_results_are_given_in_order_as_soon_as_they_can_be():
    videos = ["a", "b", "c"]
    finished = []

    def out_of_order():
        for video in ("b", "a", "c"):
            finished.append(video)
            yield VideoResult(video, "m", "l")

    ordered = batch.in_order(videos, out_of_order())
    assert next(ordered).video == "a" and finished == ["b", "a"]
    assert [result.video for result in ordered] == ["b", "c"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    output = tmp_path / "o.csv"
    output.write_text("old")

    def breaking():
        yield VideoResult("a", "m", "l", error="x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        outputs.write(output, "csv", breaking())
    assert output.read_text() == "old"
    assert os.listdir(tmp_path) == ["o.csv"]
