"""Published protocols are read from their official lists; what does not fit is named."""

import pytest

from xclip_cli import labels
from xclip_cli.benchmark.protocols import PROTOCOLS, read_task
from xclip_cli.benchmark.settings import AccuracySettings
from xclip_cli.errors import UsageError
from xclip_cli.labels.tables import letters


def settings(protocol=None, split=None, classes=None, **more):
    files = {"split_file": split and str(split), "class_list": classes and str(classes)}
    return AccuracySettings(protocol=protocol, **files, **more)


def places(task, root):
    return {s.path.removeprefix(f"{root}/"): task.label_set.labels[i].name for s, i in task.targets.items()}


def test_ucf101_is_its_first_test_list(tmp_path):
    (tmp_path / "testlist01.txt").write_text(
        "TaiChi/v_TaiChi_g01_c01.avi\nHandstandPushups/v_HandStand_g01_c01.avi 2\n"
    )
    (tmp_path / "videos/TaiChi").mkdir(parents=True)
    (tmp_path / "videos/TaiChi/v_TaiChi_g01_c01.avi").touch()
    task = read_task(str(tmp_path / "videos"), None, settings("ucf101-split1", tmp_path / "testlist01.txt"))
    assert places(task, tmp_path / "videos") == {
        "TaiChi/v_TaiChi_g01_c01.avi": "tai chi",
        "v_HandStand_g01_c01.avi": "handstand pushups",
    }
    assert len(task.label_set.labels) == 101 and "sha256" in task.facts["split"]


def test_the_text_of_ucf101s_classes_can_be_the_data_sets_own(tmp_path, shared):
    """Official models learned from `ApplyEyeMakeup`; what is printed stays, and the facts say which text was used."""
    split = tmp_path / "testlist01.txt"
    split.write_text("TaiChi/v_TaiChi_g01_c01.avi\n")
    asked = settings("ucf101-split1", split), settings("ucf101-split1", split, class_names="original")
    readable, original = (read_task(str(tmp_path), None, each) for each in asked)
    assert readable.facts["class names"] == "readable, as in 'apply eye makeup'"
    assert original.facts["class names"] == "original, as in 'ApplyEyeMakeup'"
    assert [x.name for x in original.label_set.labels] == [x.name for x in readable.label_set.labels]
    assert original.label_set.fingerprint != readable.label_set.fingerprint
    official = (shared / "data/labels/ucf101.txt").read_text().split()
    assert {label.prompts for label in original.label_set.labels} == {(name,) for name in official}
    with pytest.raises(UsageError, match="belongs to a protocol"):
        read_task(str(tmp_path), None, settings(class_names="original"))
    with pytest.raises(UsageError, match="--class-names is 'camel': it must be readable or original"):
        settings(class_names="camel")


def test_hmdb51_is_what_its_lists_mark_with_2(tmp_path):
    (tmp_path / "brush_hair_test_split1.txt").write_text("a b.avi 1\nc d.avi 2 \ne.avi 0\n")
    (tmp_path / "brush_hair_test_split2.txt").write_text("e.avi 2\n")
    task = read_task(str(tmp_path), None, settings("hmdb51-split1", tmp_path))
    assert places(task, tmp_path) == {"brush_hair/c d.avi": "brush hair"} and len(task.label_set.labels) == 51


def test_kinetics_videos_are_found_by_id_and_time_and_those_that_are_gone_stay(tmp_path):
    (tmp_path / "v/archery").mkdir(parents=True)
    (tmp_path / "v/archery/abc_000005_000015.mkv").touch()
    (tmp_path / "val.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "archery,abc,5,15,validate\nabseiling,gone,0,10,validate\nyoga,abc,5,15,train\n"
    )
    task = read_task(str(tmp_path / "v"), None, settings("k400-val", tmp_path / "val.csv"))
    assert places(task, tmp_path / "v") == {
        "archery/abc_000005_000015.mkv": "archery",
        "gone_000000_000010.mp4": "abseiling",
    }


def test_kinetics_own_table_may_be_another_programs_and_a_whole_video_is_measured_in_its_part(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/abc.mp4").touch()
    text = "Label;YouTube_ID;Time_Start;Time_End;Split\r\narchery;abc;5;15;Validate\r\n;;;;\r\nyoga;abc;5;15;train\r\n"
    (tmp_path / "val.csv").write_bytes(text.encode("utf-8-sig"))
    [sample] = read_task(str(tmp_path / "v"), None, settings("k400-val", tmp_path / "val.csv")).samples
    assert (sample.path, sample.start_seconds, sample.end_seconds) == (str(tmp_path / "v/abc.mp4"), 5, 15)
    (tmp_path / "val.csv").write_text("label,youtube_id,time_start,time_end\n\narchery,abc,five,15\n")
    with pytest.raises(UsageError, match=r"val\.csv, line 3: start_seconds is 'five'"):
        read_task(str(tmp_path / "v"), None, settings("k400-val", tmp_path / "val.csv"))


def test_lists_of_protocols_may_have_tabs_spaces_in_names_and_no_latin_1(tmp_path):
    (tmp_path / "testlist01.txt").write_text("TaiChi/v a b.avi\t2\r\n\r\nTaiChi/c d.avi\r\n")
    task = read_task(str(tmp_path), None, settings("ucf101-split1", tmp_path / "testlist01.txt"))
    assert list(places(task, tmp_path)) == ["v a b.avi", "c d.avi"]
    (tmp_path / "testlist01.txt").write_bytes(b"TaiChi/a.avi\nTaiChi/\xe9.avi\n")
    with pytest.raises(UsageError, match=r"testlist01\.txt, line 2: not UTF-8, probably cp1252"):
        read_task(str(tmp_path), None, settings("ucf101-split1", tmp_path / "testlist01.txt"))
    (tmp_path / "brush_hair_test_split1.txt").write_text("c  d.avi\t2 \n")
    task = read_task(str(tmp_path), None, settings("hmdb51-split1", tmp_path))
    assert list(places(task, tmp_path)) == ["brush_hair/c  d.avi"]


def test_a_zero_shot_split_keeps_its_own_160_classes(tmp_path):
    names = [label.name for label in labels.builtin("kinetics600").labels]
    (tmp_path / "classes.csv").write_text("id,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names[:160])))
    (tmp_path / "val.csv").write_text(f"label,youtube_id,time_start,time_end\n{names[3]},a,0,10\n{names[300]},b,0,10\n")
    asked = settings("k600-zeroshot-2", tmp_path / "val.csv", tmp_path / "classes.csv")
    task = read_task(str(tmp_path), None, asked)
    assert list(places(task, tmp_path).values()) == [names[3]] and len(task.label_set.labels) == 160
    (tmp_path / "list.txt").write_text("a b.mp4 7\n")
    task = read_task(str(tmp_path), None, settings("k600-zeroshot-1", tmp_path / "list.txt", tmp_path / "classes.csv"))
    assert places(task, tmp_path) == {"a b.mp4": names[7]}
    (tmp_path / "classes.csv").write_text("\n".join(names[:150]))
    with pytest.raises(UsageError, match="150 classes"):
        read_task(str(tmp_path), None, asked)


# Clips of groups 1 to 7 of each class of UCF101, in alphabetical order: what testlist01.txt is made of.
UCF101_CLIPS = (
    "64677775445554775556646445664444474777474764757777664444746464667777774745756675765445555774445574445"
    "44547474777777777744575574444444475455654654456454776774545477777775445654777767477576676555544564777"
    "45445477655555644674576476745446544644554656777675444444444457465774675574654644564667777777745544577"
    "67667444464546755677444675474755664474744556545756754574444777444446767776546465454676444444757645474"
    "54774777547477757777777777776764775774444444467776744564444444444577755474454474444444544577754454444"
    "44444455746774644745467644577666564774777776577746454456577474444444444545455646657655577654744444444"
    "47776444445547777645776444444447777777474457746454457674676444444444475474655556445457677746777565544"
)


def test_a_list_that_is_not_the_published_one_is_named(tmp_path):
    split = tmp_path / "testlist01.txt"
    names = PROTOCOLS["ucf101-split1"].original
    classes = sorted((names(label.name) for label in labels.builtin("ucf101").labels), key=str.casefold)
    lines = [
        f"{name}/v_{name}_g{group + 1:02}_c{clip + 1:02}.avi"
        for i, name in enumerate(classes)
        for group, count in enumerate(UCF101_CLIPS[7 * i : 7 * i + 7])
        for clip in range(int(count))
    ]
    other = [*lines[:-1], "YoYo/v_YoYo_g08_c01.avi"]
    told = ("it has 3,782 clips, and the published list 3,783",), ("it has other clips than the published list",)
    for rows, said in ((lines, ()), (lines[::-1], ()), (lines[:-1], told[0]), (other, told[1])):
        split.write_text("\n".join(rows))
        task = read_task(str(tmp_path), None, settings("ucf101-split1", split))
        assert len(task.warnings) == len(said) and task.facts["split"].endswith(f"{len(rows):,} clips")
        assert all(
            warning == f"{split} is not the list of ucf101-split1: {what}; the numbers cannot be compared"
            for warning, what in zip(task.warnings, said, strict=True)
        )
    actions = [label.name.replace(" ", "_") for label in labels.builtin("hmdb51").labels]
    for count, action in enumerate(actions):
        number = 30 + (count == 0) - (count == 1)
        text = "".join(f"{i}.avi 2\n" for i in range(number)) + "x.avi 1\n"
        (tmp_path / f"{action}_test_split1.txt").write_text(text)
    [warning] = read_task(str(tmp_path), None, settings("hmdb51-split1", tmp_path)).warnings
    assert "clips of" in warning and "the published list 30 of each class" in warning


@pytest.mark.parametrize(
    ("protocol", "text", "said"),
    [
        ("ucf101", "", "must be one of ucf101-split1"),
        ("ucf101-split1", "no slash\n", "line 1: 'no slash'"),
        ("ucf101-split1", "Juggling/v.avi\n", "'Juggling'.*not in the label set 'ucf101'"),
        ("hmdb51-split1", "", "no folder of"),
        ("k400-val", "a.mp4 0\n", "gives numbers"),
    ],
)
def test_a_wrong_request_is_named(tmp_path, protocol, text, said):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_task(str(tmp_path), None, settings(protocol, tmp_path / "list.txt"))


def test_a_protocol_needs_its_list_and_a_list_its_protocol(tmp_path):
    with pytest.raises(UsageError, match=r"needs testlist01\.txt"):
        read_task(str(tmp_path), None, settings("ucf101-split1"))
    with pytest.raises(UsageError, match="belongs to a protocol"):
        read_task(str(tmp_path), None, settings(split=tmp_path))
    (tmp_path / "l.txt").touch()
    with pytest.raises(UsageError, match="its own labels"):
        read_task(str(tmp_path), labels.from_names("a,b"), settings("ucf101-split1", tmp_path / "l.txt"))


def test_clips_of_ones_own_are_read_once_and_may_have_a_split(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("video,label\na.mp4,Tai_Chi\na.mp4,Tai_Chi\nb.mp4,run\n")
    task = read_task(str(path), None, settings())
    assert len(task.samples) == 2 and [label.name for label in task.label_set.labels] == ["Tai_Chi", "run"]
    task = read_task(str(path), labels.from_names("tai chi,run,dive"), settings())
    assert list(task.targets.values()) == [0, 1]
    with pytest.raises(UsageError, match=r"'Tai_Chi'.*is not in the label set"):
        read_task(str(path), labels.from_names("run,dive"), settings())
    path.write_text("video,label,split\na.mp4,x,train\nb.mp4,y,val\nc.mp4,x,test\n")
    assert [s.split for s in read_task(str(path), None, settings()).samples] == ["val", "test"]
    assert read_task(str(path), None, settings()).facts == {"splits": "1 val, 1 test"}


@pytest.mark.parametrize(
    ("name", "labelset"), [("ucf101", "ucf101"), ("hmdb51", "hmdb51"), ("kinetics600", "kinetics600")]
)
def test_every_class_of_a_dataset_has_its_label(shared, name, labelset):
    known = {letters(label.name) for label in labels.builtin(labelset).labels}
    lines = (shared / "data/labels" / f"{name}.txt").read_text().splitlines()
    assert {letters(line) for line in lines if line} == known


def test_published_numbers_are_the_registrys():
    assert PROTOCOLS["k400-val"].published("xclip-base-patch16") == 83.8
    assert PROTOCOLS["ucf101-split1"].published("microsoft/xclip-base-patch16-zero-shot") == 72.0
    assert PROTOCOLS["ucf101-split1"].published("xclip-base-patch16-ucf-2-shot") == 76.4
    assert PROTOCOLS["hmdb51-split1"].published("open_clip:ViT-B-16/openai") == 47.9
    assert PROTOCOLS["k600-zeroshot-1"].published("xclip-base-patch16-zero-shot") == 65.2
    assert PROTOCOLS["k400-val"].published("mini") is None


def test_a_class_list_that_nothing_would_read_is_refused(tmp_path):
    (tmp_path / "testlist01.txt").write_text("TaiChi/v_TaiChi_g01_c01.avi\n")
    asked = settings("ucf101-split1", tmp_path / "testlist01.txt", tmp_path / "classes.txt")
    with pytest.raises(UsageError, match="--class-list is given, and ucf101-split1 names its classes itself"):
        read_task(str(tmp_path), None, asked)


def test_class_folders_in_chinese_have_the_prompts_of_the_labels_they_name(tmp_path):
    for name in ("灌篮", "编织"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").touch()
    task = read_task(str(tmp_path), None, settings())
    prompts = {label.name: label.prompts for label in task.label_set.labels}
    assert prompts["灌篮"] == labels.builtin("sports").labels[1].prompts
