"""Folders, CSV files and Kinetics lists become samples."""

import os
import random
import unicodedata

import pytest

from xclip_cli.dataset import Sample, read_samples
from xclip_cli.dataset.sample import assign_folds
from xclip_cli.errors import UsageError


def test_a_folder_has_one_folder_per_class(tmp_path):
    for name in ("b/2.mp4", "a a/1.MOV", "a a/.hidden.mp4", "a a/notes.txt", "top.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert read_samples(tmp_path) == [
        Sample(str(tmp_path / "a a/1.MOV"), "a a"),
        Sample(str(tmp_path / "b/2.mp4"), "b"),
    ]


def test_a_csv_may_give_spans_and_splits(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text('video,label,start_seconds,end_seconds,split\n"a, b.mp4",dunk,1.5,2,val\nc.mp4,run,,,\n')
    first, second = read_samples(path)
    assert first == Sample(str(tmp_path / "a, b.mp4"), "dunk", 1.5, 2.0, "val")
    assert second == Sample(str(tmp_path / "c.mp4"), "run")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video,name\na.mp4,x\n", "no column 'label'"),
        ("video,label\na.mp4,\n", "line 2: label is empty"),
        ("video,label,start_seconds\na.mp4,x,soon\n", "line 2: start_seconds is 'soon'"),
        ("video,label,start_seconds,end_seconds\na.mp4,x,3,2\n", "line 2: end_seconds is 2.0"),
        ("video,label,split\na.mp4,x,dev\n", "line 2: split is 'dev'"),
        ("video,label\n", "no column"),
    ],
)
def test_a_wrong_csv_is_named_by_line_and_rule(tmp_path, text, said):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_samples(tmp_path / "list.csv")


@pytest.mark.parametrize("names", ["id,name\n0,dog sledding\n1,archery\n", "dog sledding\narchery\n"])
def test_a_kinetics_list_may_hold_paths_with_spaces(tmp_path, names):
    (tmp_path / "train.txt").write_text("my clips/a b.mp4 0\nc.mp4 1\n")
    (tmp_path / "names.csv").write_text(names)
    found = read_samples(tmp_path / "train.txt", tmp_path / "names.csv")
    assert found == [
        Sample(str(tmp_path / "my clips/a b.mp4"), "dog sledding"),
        Sample(str(tmp_path / "c.mp4"), "archery"),
    ]
    (tmp_path / "train.txt").write_text("c.mp4 7\n")
    with pytest.raises(UsageError, match=r"line 1: 'c\.mp4 7'"):
        read_samples(tmp_path / "train.txt", tmp_path / "names.csv")


@pytest.mark.parametrize(("label", "has"), [("turning left", True), ("LEFT_turn", True), ("leftovers", False)])
def test_a_label_with_a_side_is_known(label, has):
    assert Sample("a.mp4", label).has_side == has


def touch(folder, *files):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def table(folder, text, name="list.csv"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def found(source, *more):
    """(path from the folder, label) of each clip."""
    folder = source if source.is_dir() else source.parent
    return [(os.path.relpath(s.path, folder), s.label) for s in read_samples(source, *more)]


FOUR = [("t.mp4", "tennis"), ("t2.mp4", "tennis"), ("horse.mp4", "horse"), ("h2.mp4", "horse")]


@pytest.mark.parametrize("name", ["semi", "caps", "space", "pad", "trail", "utf16", "split", "kinetics"])
def test_tables_of_excel_windows_and_data_sets_are_read(shared, name):
    assert found(shared / "cases/csvs" / f"{name}.csv") == FOUR


def test_what_tables_say_of_splits_and_times(shared):
    csvs = shared / "cases/csvs"
    assert [s.split for s in read_samples(csvs / "split.csv")] == ["train", "val", "train", "val"]
    kinetics = [(s.start_seconds, s.end_seconds, s.split) for s in read_samples(csvs / "kinetics.csv")]
    assert kinetics == [(0, 3, "train")] * 2 + [(0, 2, "train")] * 2
    for name, end in (("hms", 2.0), ("dec", 1.5)):
        [sample] = read_samples(csvs / f"{name}.csv")
        assert sample == Sample(str(csvs / "t.mp4"), "tennis", 0.0, end)
    assert found(csvs / "hf.csv") == FOUR[:1] and found(csvs / "nfc.csv")[1] == FOUR[2]
    assert found(csvs / "win.csv") == [(f"clips/{path}", label) for path, label in FOUR]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lineno", "line 6: video is empty"),
        ("cp1252", "line 2: not UTF-8, probably cp1252: 't.mp4,tennis café'"),
        ("nul", "line 2: a NUL byte"),
        ("q", "line 2: a quote is opened"),
    ],
)
def test_tables_that_cannot_be_read_are_one_line(shared, name, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_samples(shared / "cases/csvs" / f"{name}.csv")
    assert f"{name}.csv" in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_a_file_is_found_however_its_accents_are_written(tmp_path, form, asked):
    name = unicodedata.normalize(form, "été/é 1.mp4")
    touch(tmp_path, name)
    path = table(tmp_path, "video,label\n" + unicodedata.normalize(asked, "été/é 1.mp4,café\nnone é.mp4,x\n"))
    first, second = read_samples(path)
    assert first == Sample(str(tmp_path / name), "café") and os.path.exists(first.path)
    assert second.path == str(tmp_path / unicodedata.normalize(asked, "none é.mp4"))


def test_back_slashes_are_windows_unless_a_file_has_them(tmp_path):
    touch(tmp_path, "clips/a b.mp4", "odd\\name.mp4")
    path = table(tmp_path, "video,label\r\nclips\\a b.mp4,x\r\nodd\\name.mp4,y\r\n")
    assert found(path) == [("clips/a b.mp4", "x"), ("odd\\name.mp4", "y")]
    path = table(tmp_path, "video,label\nC:\\clips\\a.mp4,x\n")
    with pytest.raises(UsageError, match=r"line 2: .* path on another machine"):
        read_samples(path)


@pytest.mark.parametrize(
    "head", ["path,class", "File_Name;Label", "filename\tlabel", "video path,class name", '"filepath","category"']
)
def test_columns_have_other_names_too(tmp_path, head):
    mark = next(mark for mark in ";\t," if mark in head)
    assert found(table(tmp_path, f"{head}\na.mp4{mark}x\n")) == [("a.mp4", "x")]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [("0:01:02.5,1:00:00", 62.5, 3600), ('"1,5","2,25"', 1.5, 2.25), (",0:02", None, 2), ('"0,500",2', 0.5, 2)],
)
def test_times_are_seconds_or_clock_times(tmp_path, text, start, end):
    [sample] = read_samples(table(tmp_path, f"video,label,start,end\na.mp4,x,{text}\n"))
    assert (sample.start_seconds, sample.end_seconds) == (start, end)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('video,label,start\na.mp4,x,"1,500"\n', "line 2: start_seconds is '1,500'.*comma"),
        ("video,label,start\na.mp4,x,0:75\n", "line 2: start_seconds is '0:75'"),
        ("video,label,start\na.mp4,x,1_0\n", "line 2: start_seconds is '1_0'"),
        ("video,label,start_frame\na.mp4,x,1\n", "line 1: the column 'start_frame' counts frames"),
        ("video,label,splt\na.mp4,x,val\n", "line 1: the column 'splt' is not known: did you mean 'split'"),
        ("video,path,label\na.mp4,b.mp4,x\n", "line 1: the columns 'video' and 'path'"),
        ("video,label\na.mp4,rock, paper\n", "line 2: 3 cells, and the header has 2"),
        ("video,label,split\n\na.mp4,x,holdout\n", "line 3: split is 'holdout'"),
        ("a.mp4,x\nb.mp4,y\n", "no column 'label'"),
        ("", "no column 'label'"),
    ],
)
def test_what_a_table_leaves_open_is_refused(tmp_path, text, said):
    with pytest.raises(UsageError, match=said):
        read_samples(table(tmp_path, text))


@pytest.mark.parametrize(
    ("word", "split"), [("TRAIN", "train"), ("training", "train"), ("Validate", "val"), ("Testing", "test"), ("", None)]
)
def test_splits_have_several_names(tmp_path, word, split):
    assert read_samples(table(tmp_path, f"video,label,Split\na.mp4,x, {word} \n"))[0].split == split


def test_kinetics_own_table_finds_cut_clips_and_parts_of_whole_videos(tmp_path):
    touch(tmp_path, "archery/abc_000005_000015.mkv", "long.webm")
    text = "label,youtube_id,time_start,time_end,split,is_cc\narchery,abc,5,15,validate,0\nyoga,long,1,11,test,0\n"
    cut, part, gone = read_samples(table(tmp_path, text + "yoga,gone,1,11,test,0\n"))
    assert cut == Sample(str(tmp_path / "archery/abc_000005_000015.mkv"), "archery", split="val")
    assert part == Sample(str(tmp_path / "long.webm"), "yoga", 1, 11, "test")
    assert gone.path == str(tmp_path / "gone_000001_000011.mp4")


def test_two_spellings_of_a_label_are_not_two_classes(tmp_path):
    path = table(tmp_path, "video,label\na.mp4,tai  chi\nb.mp4,Tai Chi\nc.mp4,x\n")
    with pytest.raises(UsageError, match="has the labels 'Tai Chi' and 'tai  chi'"):
        read_samples(path)


@pytest.mark.parametrize("word", ["nan", "NaN", "N/A", "null", "NULL", "None", "<NA>", "#N/A", ""])
def test_a_missing_label_is_no_class_unless_it_is_in_quotes(tmp_path, word):
    with pytest.raises(UsageError, match="line 3: label is empty") as caught:
        read_samples(table(tmp_path, f"video,label\na.mp4,x\nb.mp4,{word}\n"))
    assert word == "" or "needs quotes" in caught.value.hint
    if word:
        assert found(table(tmp_path, f'video,label\na.mp4,x\nb.mp4,"{word}"\n'))[1] == ("b.mp4", word)
    assert read_samples(table(tmp_path, "video,label,start,end\na.mp4,x,nan,NaN\n"))[0].start_seconds is None


def test_tables_of_the_field(shared):
    field = shared / "cases/tables_field"
    with pytest.raises(UsageError, match=r"nan\.csv, line 4: label is empty"):
        read_samples(field / "nan.csv")
    with pytest.raises(UsageError, match=r"labels '.*v/dog1\.mp4' 'dog' and 'drums': a clip has one label"):
        read_samples(field / "contradict.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video,label\na.mp4,x\n./a.mp4,y\n", "'x' and 'y': a clip has one label"),
        ("video,label,start,end\na.mp4,x,0,1\na.mp4,y,0,1.0\n", "'x' and 'y': a clip has one label"),
        ("video,label,split\na.mp4,x,train\na.mp4,y,val\n", "'x' and 'y': a clip has one label"),
        ("video,label\na.mp4,dog\nb.mp4,Dog\n", "the labels 'Dog' and 'dog'"),
        (f"video,label,start\na.mp4,x,{'9' * 5000}:00:00\n", "line 2: start_seconds is '9999"),
        (f"video,label,start\na.mp4,x,{'9' * 5000}\n", "line 2: start_seconds is '9999"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_samples(table(tmp_path, text))
    assert len(caught.value.message) < 500


def test_parts_of_one_file_may_show_different_things(tmp_path):
    text = "video,label,start,end\na.mp4,x,0,1\na.mp4,y,1,2\na.mp4,y,1,2\n"
    assert [s.label for s in read_samples(table(tmp_path, text))] == ["x", "y", "y"]


def test_folders_that_differ_in_case_are_refused(tmp_path):
    touch(tmp_path, "dog/1.mp4", "Dog /2.mp4")
    with pytest.raises(UsageError, match="the labels 'Dog' and 'dog'"):
        read_samples(tmp_path)


def test_a_table_may_have_full_width_commas(tmp_path):
    assert found(table(tmp_path, "video，label\na.mp4，跑步\n")) == [("a.mp4", "跑步")]


def test_a_folder_is_listed_once_however_many_files_are_missing(tmp_path, monkeypatch):
    touch(tmp_path, "v/é.mp4")
    path = table(tmp_path, "video,label\n" + "".join(f"v/gone{i}.mp4,x\n" for i in range(500)))
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or listdir(folder))
    assert len(read_samples(path)) == 500 and listed == [str(tmp_path / "v")]


def test_a_path_of_thousands_of_folders_is_a_missing_file(tmp_path):
    [sample] = read_samples(table(tmp_path, f"video,label\n{'a/' * 5000}b.mp4,x\n"))
    assert sample.path.endswith("a/a/b.mp4")


def test_a_long_list_looks_classes_up_once(tmp_path, monkeypatch):
    """240,000 lines of 400 classes took 15 minutes, when the classes' names were prepared for each line."""
    from xclip_cli.labels import classlist

    table(tmp_path, "".join(f"class {i}\n" for i in range(400)), "n.txt")
    path = table(tmp_path, "".join(f"class_{i % 400}/{i}.mp4 {i % 400}\n" for i in range(1000)), "l.txt")
    calls, letters = [], classlist.letters
    monkeypatch.setattr(classlist, "letters", lambda name: calls.append(name) or letters(name))
    assert len(read_samples(path, tmp_path / "n.txt")) == 1000 and len(calls) < 400 * 3 + 1000 * 8


# Lists


def test_official_lists_are_read_with_their_ids(shared):
    lists = shared / "cases/lists"
    right = [("horse.mp4", "horse"), ("h2.mp4", "horse"), ("t.mp4", "tennis"), ("t2.mp4", "tennis")]
    assert found(lists / "trainlist01.txt", lists / "classInd.txt") == right
    assert found(lists / "tab.txt", lists / "names.txt") == right
    assert found(lists / "raw.txt", lists / "names.txt") == [right[0], right[2]]


@pytest.mark.parametrize(
    ("name", "classes", "said"),
    [
        ("trainlist01", "names", "line 1: 'horse.mp4 2' is 'horse' if ids count from 1.* and 'tennis' if from 0"),
        ("tab", "classInd", "line 1: .* names 'horse', and id 1 of classInd.txt is 'ApplyEyeMakeup'"),
        ("raw", "classInd", "line 1: .* names 'horse', and id 1 of classInd.txt is 'ApplyEyeMakeup'"),
        ("lat", "classInd", "line 1: not UTF-8, probably cp1252"),
    ],
)
def test_a_list_that_leaves_its_ids_open_is_refused(shared, name, classes, said):
    lists = shared / "cases/lists"
    with pytest.raises(UsageError, match=said) as caught:
        read_samples(lists / f"{name}.txt", lists / f"{classes}.txt")
    assert f"{name}.txt" in caught.value.message and "\n" not in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        ("a.mp4 1\nb.mp4 2\n", "x\ny\n", "line 1: 'a.mp4 1' is 'x' if ids count from 1.* and 'y' if from 0"),
        ("\na.mp4 1\nb.mp4 1\n", "x\ny\nz\n", "line 2: .* is 'x' if ids count from 1"),
        ("a.mp4 0\nb.mp4 2\n", "x\ny\n", r"line 2: 'b.mp4 2' is not `path id` with an id of n.txt \(0 to 1\)"),
        ("a.mp4 0\nb.mp4 1\n", "1 x\n2 y\n", r"line 1: 'a.mp4 0' is not .* \(1 to 2\)"),
        ("x/a.mp4 1\ny/b.mp4 2\n", "0 x\n1 y\n2 z\n", "line 1: .* names 'x', and id 1 of n.txt is 'y'"),
        ("a.mp4 0\n\nb.mp4\n", "x\ny\n", "line 3: 'b.mp4' is not `path id`"),
        ("a.mp4 0\nb.mp4 -1\n", "x\ny\n", "line 2: 'b.mp4 -1' is not"),
        ("a.mp4 0 1\nb.mp4 1 0\n", "x\ny\n", "line 1: .* two numbers that may be ids"),
        ("frames/a 75 1\n", "0 x\n1 y\n", "line 1: .* names no video"),
        ("a.mp4 75 3 1\n", "0 x\n1 y\n", "line 1: .* names no video"),
        ("a.mp4 0\n", "name\nx\n", "may be a header or a class"),
        (f"a.mp4 {'9' * 5000}\n", "x\ny\n", "l.txt, line 1: the id 999999999999... has 5,000 digits"),
        (f"a.mp4 {'9' * 5000} 0\n", "x\ny\n", "l.txt, line 1: the id 999999999999... has 5,000 digits"),
        (f"video,label\na.mp4,{'9' * 5000}\n", "x\ny\n", "l.txt, line 2: the id 999999999999... has 5,000 digits"),
        ("a.mp4 0\n", f"{'9' * 5000} x\n1 y\n", "is the number of '9+' its id, or a part of its name"),
        ("a.mp4 0\n", "7 rings\n50 metre sprint\n", "is the number of '7 rings' its id, or a part of its name"),
    ],
)
def test_a_wrong_list_is_named_by_line(tmp_path, text, names, said):
    table(tmp_path, names, "n.txt")
    with pytest.raises(UsageError, match=said):
        read_samples(table(tmp_path, text, "l.txt"), tmp_path / "n.txt")


@pytest.mark.parametrize(
    "text",
    [
        "my x/a b.mp4 0\nc.mp4 1\n",
        "my x/a b.mp4\t0\nc.mp4\t1\n",
        "my x/a b.mp4,0\r\nc.mp4,1\r\n",
        '"my x/a b.mp4";0\n"c.mp4";1\n',
        "my x\\a b.mp4 300 0\nc.mp4 75 1\n",
        "path,label\nmy x/a b.mp4,0\nc.mp4,1\n",
        "video;label\nmy x/a b.mp4;one\nc.mp4;two\n",
    ],
)
def test_lists_come_in_many_dresses(tmp_path, text):
    for names in ("one\ntwo\n", "id,name\n0,one\n1,two\n"):
        table(tmp_path, names, "n.csv")
        assert found(table(tmp_path, text, "l.txt"), tmp_path / "n.csv") == [("my x/a b.mp4", "one"), ("c.mp4", "two")]


def test_a_list_without_ids_says_its_classes_by_its_folders(tmp_path):
    table(tmp_path, "1 ApplyEyeMakeup\n2 TaiChi\n", "classInd.txt")
    path = table(tmp_path, "TaiChi/v_TaiChi_g01_c01.avi\nApplyEyeMakeup/v.avi\n", "testlist01.txt")
    assert [label for _, label in found(path, tmp_path / "classInd.txt")] == ["TaiChi", "ApplyEyeMakeup"]


def test_the_list_beside_it_tells_where_ids_begin(tmp_path):
    table(tmp_path, "x\ny\nz\n", "n.txt")
    train, val = table(tmp_path, "a.mp4 0\nb.mp4 1\n", "train.txt"), table(tmp_path, "c.mp4 1\n", "val.txt")
    with pytest.raises(UsageError, match="count from 1"):
        read_samples(val, tmp_path / "n.txt")
    assert read_samples(val, tmp_path / "n.txt", beside=train)[0].label == "y"


PIECES = [*'"\0\r\n,;\t\ufeffé 1-\\:', "id,name\n", "video,label\n", "sep=;\n", "0:"]
SEEDS = ["video,label,split\na.mp4,x,train\nb.mp4,y,val\n", "a.mp4 1\nb.mp4 75 2\n", "1 x\n2 y\n", "id,name\n0,x\n"]


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(200):
        text = chance.choice(SEEDS)
        for _ in range(chance.randrange(1, 5)):
            place = chance.randrange(len(text) + 1)
            text = text[:place] + chance.choice(PIECES) + text[place + chance.randrange(3) :]
        encoding = chance.choice(["utf-8", "cp1252", "utf-16"])
        path = table(tmp_path, text.replace("\ufeff" * (encoding == "cp1252"), "").encode(encoding, "ignore"))
        table(tmp_path, chance.choice([text, *SEEDS]), "names.txt")
        for more in ((), (tmp_path / "names.txt",)):
            try:
                read_samples(path, *more)
            except UsageError as error:
                assert "\n" not in error.message


# Folders


def test_folders_of_folders_keep_their_clips_and_splits_are_splits(shared):
    folders = shared / "cases/folders"
    assert found(folders / "ds2") == [
        ("horse/group1/c.mp4", "horse"), ("other/o.mp4", "other"),
        ("tennis/a.mp4", "tennis"), ("tennis/b.mp4", "tennis"),
    ]  # fmt: skip
    splits = [(s.split, s.label) for s in read_samples(folders / "ds")]
    train = [("train", "horse")] * 3 + [("train", "tennis")] * 3
    assert splits == [*train, ("val", "horse"), ("val", "tennis")]
    assert found(folders / "brackets") == [("Show [1080p]/e1.mp4", "Show [1080p]")]


@pytest.mark.parametrize("names", [("Train", "VALID"), ("training", "validation"), ("TRAIN", "Test")])
def test_folders_of_splits_have_several_names(tmp_path, names):
    touch(tmp_path, f"{names[0]}/a/1.mp4", f"{names[0]}/b/deep/2.mp4", f"{names[1]}/a/3.mp4")
    got = {os.path.basename(s.path): (s.split, s.label) for s in read_samples(tmp_path)}
    other = "test" if names[1] == "Test" else "val"
    assert got == {"1.mp4": ("train", "a"), "2.mp4": ("train", "b"), "3.mp4": (other, "a")}


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/1.mp4", "bus/2.mp4")
    assert [(s.label, s.split) for s in read_samples(tmp_path)] == [("bus", None), ("train", None)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["train/1.mp4", "val/2.mp4"], "is in no class: 'train' is a split"),
        (["train/a/1.mp4", "val/2.mp4"], "is in no class: 'val' is a split"),
        (["train/a/1.mp4", "bus/2.mp4"], "'.*bus' stands beside 'train'"),
        (["a/1.mp4", "empty/notes.txt"], "the class folder '.*empty' holds no video"),
        (["a.mp4"], "has no folders"),
    ],
)
def test_folders_that_may_mean_two_things_are_refused(tmp_path, files, said):
    with pytest.raises(UsageError, match=said):
        read_samples(touch(tmp_path, *files))


def test_links_keep_clips_in_their_own_class(tmp_path):
    data, other = touch(tmp_path / "data", "a/1.mp4", "b/2.mp4"), touch(tmp_path / "other", "3.mp4", "deep/4.mp4")
    (data / "a" / "loop").symlink_to("..")
    (data / "b" / "self").symlink_to(".")
    (data / "b" / "more").symlink_to(other)
    (data / "c").symlink_to(other)
    assert found(data) == [
        ("a/1.mp4", "a"), ("b/2.mp4", "b"), ("b/more/3.mp4", "b"), ("b/more/deep/4.mp4", "b"),
        ("c/3.mp4", "c"), ("c/deep/4.mp4", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_even_in_every_class_and_hold_whole_sources(seed):
    counts = {"a": 10, "b": 5, "c": 1}
    all_samples = [Sample(f"{label}/{i}.mp4", label) for label, count in counts.items() for i in range(count)]
    sources = [min(i, 8) for i in range(10)] + list(range(10, 16))
    folds = assign_folds(all_samples, sources, 5, seed)
    assert folds == assign_folds(all_samples, sources, 5, seed) and set(folds) == set(range(5)) and folds[8] == folds[9]
    for label, most in (("a", 3), ("b", 1)):
        of_label = [fold for fold, sample in zip(folds, all_samples, strict=True) if sample.label == label]
        assert max(of_label.count(i) for i in range(5)) <= most and min(of_label.count(i) for i in range(5)) >= 1
    assert len(set(assign_folds(all_samples, [0] * 10 + [1] * 6, 5, seed))) == 2
