import os

import pytest

from xclip_cli import batch, outputs
from xclip_cli.errors import OutputError, UsageError
from xclip_cli.journal import Journal
from xclip_cli.results import VideoResult


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


SUFFIXES = """.m2t .m2v .mpe .3gp .3gpp .3g2 .f4v .rm .rmvb .divx .dv .ogm .qt .insv .lrv .mp4 .mkv .mov .avi .webm .gif
.apng .ts .m2ts .mts .vob .mxf .wmv .asf .flv .ogv .mpg .mpeg .m4v"""


@pytest.mark.parametrize("suffix", SUFFIXES.split())
def test_a_suffix_of_this_field_is_found_in_any_case(tmp_path, suffix):
    for name in ("a", "B"):
        (tmp_path / f"{name}{suffix.upper() if name == 'B' else suffix}").write_bytes(b"x")
    assert len(batch.find_videos([str(tmp_path)])) == 2


def names(videos, folder):
    return [os.path.relpath(video, folder) for video in videos]


def test_a_folder_gives_its_videos_in_order(folder):
    assert names(batch.find_videos([str(folder)]), folder) == ["a.mp4", "b.MP4", "new\nline.webm", "with space.mov"]
    deep = names(batch.find_videos([str(folder)], recursive=True), folder)
    assert deep[-2:] == ["sub/c.avi", "x.mp4/d.mkv"]


def test_files_are_taken_as_named_and_once(folder):
    wanted = [str(folder / "notes.txt"), str(folder / "missing.mp4")]
    assert batch.find_videos([*wanted, *wanted]) == wanted


def test_patterns_match_and_a_real_name_with_brackets_wins(folder):
    assert names(batch.find_videos([str(folder / "*.mp4")]), folder) == ["a.mp4"]
    (folder / "[x].mp4").write_bytes(b"x")
    assert names(batch.find_videos([str(folder / "[x].mp4")]), folder) == ["[x].mp4"]


@pytest.mark.parametrize("path", ["sub/empty", "*.nothing"])
def test_nothing_found_is_an_error(folder, path):
    (folder / "sub" / "empty").mkdir()
    with pytest.raises(UsageError):
        batch.find_videos([str(folder / path)])


def test_symlink_loops_end(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "self.mp4").symlink_to(folder / "self.mp4")
    assert "self.mp4" in names(batch.find_videos([str(folder)], recursive=True), folder)


@pytest.mark.parametrize("output", ["o.csv", "sub/o.csv", "a.mp4"])
def test_an_output_inside_the_input_is_refused(folder, output):
    with pytest.raises(UsageError, match="inside the input"):
        batch.check_output(folder / output, [str(folder)], overwrite=True)


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
