import dataclasses
import random
import re
import time

import pytest

from xclip_cli import labels
from xclip_cli.errors import LabelError
from xclip_cli.labels import Label, LabelSet


@pytest.fixture
def load(tmp_path):
    """Loads a label file of this text or these bytes."""

    def write_and_load(content, name="my.yaml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return labels.load(path)

    return write_and_load


def names(label_set):
    return [label.name for label in label_set.labels]


# Files


def test_a_full_file_gives_what_it_says(load):
    label_set = load("""
name: dog-park
template: "a video of {}"
labels:
  - running
  - name: dunking
    prompts: ["slam dunk", "a person dunking a basketball"]
    parent: basketball
    threshold: 0.3
    names: {zh: 灌篮, pt-BR: enterrada}
background: [an empty scene, {name: people, prompts: a person standing}]
""")
    running, dunking = label_set.labels
    assert label_set.name == "dog-park"
    assert running == Label("running", ("a video of running",)) and running.source.endswith("my.yaml:5")
    assert dunking.prompts == ("slam dunk", "a person dunking a basketball")
    assert (dunking.parent, dunking.threshold, dunking.names["zh"]) == ("basketball", 0.3, "灌篮")
    assert [x.prompts for x in label_set.background] == [("a video of an empty scene",), ("a person standing",)]
    assert label_set.languages == ["pt-BR", "zh"]


def test_a_list_of_templates_gives_a_prompt_for_each(load):
    label_set = load("template: ['{}', 'a video of {}, or {}']\nlabels: [a cat]")
    assert label_set.labels[0].prompts == ("a cat", "a video of a cat, or a cat")


@pytest.mark.parametrize("text", ["- a\n- b b\n", "[a, b b]", "labels:\n- a\n- 'b b '\n", "\ufeff- a\r\n- b b\r\n"])
def test_short_forms_of_yaml(load, text):
    assert load(text) == load("- a\n- b b") and load(text).name == "my"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_files_hold_one_label_a_line(load, end):
    lines = ["\ufeff# my dogs", "", "  dogs pulling sled ", "rock, paper: #1", "   # not this", "no"]
    label_set = load(end.join(lines), "my.txt")
    assert names(label_set) == ["dogs pulling sled", "rock, paper: #1", "no"]
    assert label_set.labels[1].source.endswith("my.txt:4") and label_set.about == "my dogs"


BROKEN = [
    ("- a\n- no\n", 2, "label no means true or false in YAML; it must be text", 'Quote it: "no"'),
    ("- On", 1, "true or false", '"On"'),
    ("- 3:20", 1, "means a number", '"3:20"'),
    ("- 1.0", 1, "means a number", '"1.0"'),
    ("- 2024-01-01", 1, "means a date", "Quote"),
    ("- a\n- ~", 2, "means nothing", "Quote"),
    ("- a\n-\n- b", 2, "label is empty", None),
    ("- ''", 1, "label is empty", None),
    ("- '  '", 1, "name is empty", None),
    ("- [a]", 1, "label is a list", None),
    ('- "a\\eb"', 1, "control character", None),
    ("- a\n- " + "b" * 1001, 2, "too long; at most 1,000", None),
    ("- running\n-  Running ", 2, "'Running' is listed twice (first: ", None),
    ("- a  b\n- A b", 2, "listed twice", None),
    ("labels: [a]\nbackground: [A]", 2, "listed twice", None),
    ("labels: [a]\nlabel: [b]", 2, "unknown key 'label' in label set", "Did you mean 'labels'?"),
    ("- name: a\n  promts: [b]", 2, "unknown key 'promts'", "'prompts'"),
    ("- running: fast", 1, "unknown key 'running'", "quoted"),
    ("labels: [a]\nbackground: [{name: b, threshold: 1}]", 2, "unknown key 'threshold' in background entry", None),
    ("- name: a\n  name: b", 2, "stands twice", None),
    ("- prompts: [a]", 1, "label has no name", None),
    ("- name: a\n  prompts: []", 2, "empty list", None),
    ("- name: a\n  prompts: [b, b]", 1, "same prompt twice", None),
    ("- name: a\n  prompts: [b, yes]", 2, "prompt yes means true or false", None),
    ("- name: a\n  threshold: 1.5", 2, "threshold is 1.5; it must be a number between 0 and 1", None),
    ("- name: a\n  threshold: .nan", 2, "threshold is .nan", None),
    ("- name: a\n  threshold: 0:30", 2, "threshold is 0:30", None),
    ("- name: a\n  threshold: high", 2, "threshold is high", None),
    ("- name: a\n  names: [b]", 2, "names must be a mapping", None),
    ("- name: a\n  names: {no: b}", 2, "key of names no means true or false", '"no"'),
    ("- name: a\n  names: {chinese: b}", 2, "'chinese' is no language code", None),
    ("- name: a\n  parent: A", 1, "lead back to it", None),
    ("- name: a\n  parent: b\n- {name: b, parent: c}\n- {name: c, parent: a}", 1, "lead back to it", None),
    ("name: 5\nlabels: [a]", 1, "label set name 5 means a number", None),
    ("template: a video\nlabels: [a]", 1, "template 'a video' must hold {} and no other braces", None),
    ("labels: [a]\ntemplate: '{} {x}'", 2, "no other braces", None),
    ("labels: {a: b}", 1, "labels must be a list", None),
    ("just text", 1, "labels must be a list", None),
    ("- a\n- &x b\n- *x", 2, "anchors, aliases and tags", None),
    ("- a\n- !!python/object/apply:os.system [exit]", 2, "anchors, aliases and tags", None),
    ("- a\n---\n- b", 3, "second YAML document", None),
    ("- a\n\t- b", 2, "not valid YAML", "Indent with spaces"),
    ("labels: [a", 1, "not valid YAML", None),
    ("- a\n- b\x07", 2, "not valid YAML: control characters", None),
    ("- a\n- @b", 2, "not valid YAML", "starts with one of"),
]


@pytest.mark.parametrize(("text", "line", "message", "hint"), BROKEN, ids=lambda value: str(value)[:30])
def test_a_broken_rule_is_one_line_with_its_place(load, tmp_path, text, line, message, hint):
    with pytest.raises(LabelError) as caught:
        load(text)
    error = caught.value
    assert error.message.startswith(f"{tmp_path / 'my.yaml'}:{line}: ") and message in error.message
    assert "\n" not in error.message and (not hint or hint in error.hint)


def test_the_parser_in_python_finds_the_same(load, monkeypatch):
    import yaml

    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    for text, line, _, _ in BROKEN:
        with pytest.raises(LabelError, match=f"my.yaml:{line}: "):
            load(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 labels"),
        (b"# nothing\n", "has 0 labels"),
        (b"background: [a]", "has 0 labels"),
        (b"- a\n- \xb2\xe2\xca\xd4\n", "my.yaml, line 2: not UTF-8"),
        (b"- a\n" * 300_000, "too large"),
        ("".join(f"- {i:x}g\n" for i in range(20_001)).encode(), "has 20,001 labels"),
        (b"- " + b"[" * 900_000, "nest"),  # our limit or, in newer releases, that of PyYAML
        (b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", "anchors"),
        (b"".join(b"k%d: x\n" % n for n in range(1_000_000)), "too large"),
        (b"".join(b"k%d: x\n" % n for n in range(40_000)), "unknown key 'k0'"),
        (b"- {name: a, names: {" + b"".join(b"k%d: x," % n for n in range(40_000)) + b"}}", "is no language code"),
        (b"- " + b"a" * 990_000, "is too long"),
        (b'- "x' + b"\\n" * 490_000 + b'x"', "is too long"),
        (b"- a: " * 190_000, "not valid YAML"),
        (b"- ? " * 240_000, "nest"),
    ],
)
def test_a_hostile_file_is_refused_quickly(load, content, message):
    start = time.process_time()
    with pytest.raises(LabelError, match=re.escape(message)):
        load(content)
    assert time.process_time() - start < 5


def test_a_file_of_the_largest_size_loads(load):
    assert len(load("".join(f"action {i}\n" for i in range(20_000)), "my.txt").labels) == 20_000


def test_files_that_cannot_be_read_are_label_errors(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    for name, message in [("absent.yaml", "No such file"), ("folder.yaml", "regular file"), ("a.csv", "must end in")]:
        with pytest.raises(LabelError, match=message):
            labels.load(tmp_path / name)


# Lists


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("dogs pulling sled,dunking", ["dogs pulling sled", "dunking"]),
        (' a , "b, c" ', None),
        ('a, "b, c",  d ', ["a", "b, c", "d"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        ("don't stop,跑步", ["don't stop", "跑步"]),
        ("射箭，骑自行车", ["射箭", "骑自行车"]),
        ("射箭、 骑自行车；a b;c,d", ["射箭", "骑自行车", "a b;c", "d"]),
        ('a，"b，c、d"， "e ""f"",g"', ["a", "b，c、d", 'e "f",g']),
        ('5" disc，6" disc', ['5" disc', '6" disc']),
        ("a，，b", None),
        (["a，b"], ["a，b"]),
        (["a, b", " c "], ["a, b", "c"]),
        ("a,,b", None),
        ("a,A", None),
        ("", None),
        ([], None),
        ('"a', None),
        ("a\udcff", None),
    ],
)
def test_names_are_one_row_of_csv(given, expected):
    if expected is None:
        with pytest.raises(LabelError):
            labels.from_names(given)
    else:
        assert names(labels.from_names(given)) == expected


def test_names_go_through_the_template():
    assert labels.from_names("a,b", template="a video of {}").labels[1].prompts == ("a video of b",)
    with pytest.raises(LabelError, match="template"):
        labels.from_names("a", template="{name}")


# Combining


def test_sets_add_up_in_order_and_equal_labels_merge(load):
    first, second = load("labels: [a, b]\nbackground: [e, f]"), load("name: two\nlabels: [c, A, e]\nbackground: [f, g]")
    both = labels.combine([first, second])
    assert both.name == "my+two" and names(both) == ["a", "b", "c", "e"]
    assert [x.name for x in both.background] == ["f", "g"]
    assert labels.combine([first]) is first


def test_a_bare_name_takes_the_definition_of_another_set(load):
    described = load("- name: dunking\n  prompts: [slam dunk]")
    for order in ([labels.from_names("a,dunking"), described], [described, labels.from_names("dunking,a")]):
        assert {x.name: x.prompts for x in labels.combine(order).labels} == {"a": ("a",), "dunking": ("slam dunk",)}
    with pytest.raises(LabelError, match=r"'dunking' is also defined, differently, in .*my.yaml:1"):
        labels.combine([described, labels.from_names("dunking", template="a {}")])
    with pytest.raises(LabelError):
        labels.combine([])


def test_the_only_calibration_is_kept_with_a_note_and_two_are_refused():
    first, other = labels.Calibration("mini", "1e10", 0.5), labels.Calibration("mini", "1e10", 0.7)
    a, b = (dataclasses.replace(labels.from_names(name), name=name, calibration=first) for name in "ab")
    for sets in ([a, labels.from_names("c")], [labels.from_names("c"), a]):
        both = labels.combine(sets)
        assert both.calibration == first
        assert both.notes == ("label set 'a' was calibrated alone: among more labels its thresholds may be too high",)
    assert labels.combine([a, b]).calibration == first  # the same one
    with pytest.raises(LabelError, match="label sets 'a' and 'b' are both calibrated, differently"):
        labels.combine([a, dataclasses.replace(b, calibration=other)])
    assert labels.combine([labels.from_names("c"), labels.from_names("d")]).calibration is None
    assert a.with_background(labels.from_names("z")).notes and not a.with_background(labels.from_names("a")).notes


# Display, warnings, fingerprint


def test_display_falls_back_to_the_name():
    label_set = LabelSet("x", (Label("run", ("run",), names={"zh": "跑", "zh-TW": "跑步"}), Label("eat", ("eat",))))
    run, eat = label_set.labels
    shown = [label_set.display(run, lang) for lang in ("zh", "zh-CN", "zh-TW", "fr", None, "")]
    assert shown == ["跑", "跑", "跑步", "run", "run", "run"]
    assert [label_set.display(x, "zh") for x in ("run", eat, "absent")] == ["跑", "eat", "absent"]


def test_warnings_name_what_is_probably_not_meant(load):
    label_set = load("""
- ApplyEyeMakeup
- brush_hair
- 跑步
- café
- chạy bộ
- cha\u0323y bo\u0323̣
- {name: a, prompts: x y, names: {zh: 甲}}
- {name: b, prompts: X y}
""")
    assert [re.sub(r".*my.yaml:", "", line)[:32] for line in label_set.warnings()] == [
        "2: prompt 'ApplyEyeMakeup' reads",
        "3: prompt 'brush_hair' reads as ",
        "4: prompt '跑步' is not in Latin l",
        "prompt 'x y' belongs to 2 labels",
        "7 of 8 labels have no display na",
    ]


def random_set(chance):
    """A label set as YAML can hold it, with awkward texts."""
    pieces = [
        "run",
        "a: b",
        "#1",
        "no",
        "1.5",
        "'",
        '"',
        "{x}",
        "跑",
        "é",
        "\\",
        "- ",
        "a\nb",
        ",",
        "%",
        "@",
        "\U0001f415",
    ]
    count = iter(range(1000))

    def text():
        return f"{''.join(chance.choices(pieces, k=3)).strip()} {next(count)}"

    def label():
        prompts = tuple(text() for _ in range(chance.randint(1, 3)))
        given = (text(), chance.random()) if chance.random() < 0.5 else (None, None)
        return Label(text(), prompts, *given, {"zh": text()} if chance.random() < 0.5 else {})

    background = tuple(Label(text(), (text(),)) for _ in range(chance.randint(0, 2)))
    return LabelSet(text(), tuple(label() for _ in range(chance.randint(1, 6))), background)


def as_yaml(label_set, **style):
    import yaml

    def plain(label):
        given = {key: value for key, value in dataclasses.asdict(label).items() if value and key != "source"}
        return {**given, "prompts": list(label.prompts)}

    parts = {part: [plain(x) for x in getattr(label_set, part)] for part in ("labels", "background")}
    return yaml.safe_dump({"name": label_set.name, **parts}, allow_unicode=True, **style)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_back(load, seed):
    label_set = random_set(random.Random(seed))
    block = load(as_yaml(label_set))
    flow = load("# a comment\n" + as_yaml(label_set, default_flow_style=True, sort_keys=False, width=40), "other.yml")
    assert block == flow == label_set
    assert block.fingerprint == flow.fingerprint == label_set.fingerprint


@pytest.mark.parametrize("seed", range(5))
def test_the_fingerprint_follows_everything_that_can_change_a_result(seed):
    label_set = random_set(random.Random(seed))
    first, *others = label_set.labels
    changed = [
        dataclasses.replace(label_set, name="another"),
        dataclasses.replace(label_set, background=(*label_set.background, Label("new", ("new",)))),
        dataclasses.replace(label_set, labels=(*label_set.labels, Label("new", ("new",)))),
        dataclasses.replace(label_set, labels=(Label("new", ("new",)), *label_set.labels)),
    ]
    for change in (
        {"name": "another"},
        {"prompts": (*first.prompts, "new")},
        {"prompts": (first.prompts[0] + ".", *first.prompts[1:])},
        {"parent": "new"},
        {"threshold": 0.123},
        {"names": {"zh": "新"}},
    ):
        changed.append(dataclasses.replace(label_set, labels=(dataclasses.replace(first, **change), *others)))
    prints = [x.fingerprint for x in (label_set, *changed)]
    assert len(set(prints)) == len(prints) and all(re.fullmatch("[0-9a-f]{64}", x) for x in prints)
    moved = tuple(dataclasses.replace(label, source="elsewhere:1") for label in label_set.labels)
    assert dataclasses.replace(label_set, labels=moved, about="other").fingerprint == label_set.fingerprint


# Files of data sets


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classInd.txt", "1 Brush hair\n2 rock, paper\n"),
        ("classInd.txt", "# UCF101\r\n0\tBrush hair\r\n\r\n1\trock, paper\r\n"),
        ("classes.csv", 'id,name\n1,"rock, paper"\n0,Brush hair\n'),
        ("classes.csv", '\ufeffID;Name;note\r\n0;Brush hair;x\r\n1;"rock, paper";\r\n'),
        ("classes.csv", 'Brush hair\n"rock, paper"\n'),
    ],
)
def test_numbers_of_data_sets_are_no_part_of_the_names(load, name, text):
    assert names(load(text, name)) == ["Brush hair", "rock, paper"]


@pytest.mark.parametrize("name", ["my.txt", "my.csv"])
@pytest.mark.parametrize(
    "text",
    [
        "100 metres\n200 metres\n",
        "1 on 1\n2 on 2\nfree throw\nlay-up\n",
        "3 point shot\n",
        "1 on 1 basketball\n",
        "7 rings\n50 metre sprint\n3 point shot\n",
        "2 man game\n1 on 1\n",
        f"{'9' * 900} bottles\n1 on 1\n",
    ],
)
def test_numbers_that_do_not_count_the_lines_stay(load, text, name):
    label_set = load(text, name)
    assert names(label_set) == text.splitlines() and label_set.notes == ()


def test_that_numbers_were_taken_for_ids_is_said(load):
    label_set = load("1 on 1\n2 on 2\n", "my.txt")
    assert names(label_set) == ["on 1", "on 2"]
    [note] = label_set.notes
    assert note.endswith("my.txt: its lines count from 1 to 2: the numbers are ids, the first label is 'on 1'")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("text", "name"),
    [("跑步\n灌篮\n", "l.txt"), ("- 跑步\n- 灌篮\n", "l.yaml"), ("id,name\n0,跑步\n1,灌篮\n", "l.csv")],
)
def test_every_kind_of_label_file_may_be_utf_16(load, text, name, encoding):
    assert names(load(text.encode(encoding), name)) == ["跑步", "灌篮"]


def test_a_class_of_a_table_may_be_called_null_where_it_is_in_quotes(load):
    assert names(load('id,name\n0,"null"\n1,b\n', "l.csv")) == ["null", "b"]


def test_a_label_of_a_csv_knows_its_line(load):
    assert load("id,name\n\n0,a\n1,b\n", "c.csv").labels[1].source.endswith("c.csv:4")


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"a\ncaf\xe9\n", "l.txt", r"l\.txt, line 2: not UTF-8, probably cp1252: 'café'"),
        (b"id,name\n0,caf\xe9\n", "l.csv", r"l\.csv, line 2: not UTF-8, probably cp1252: '0,café'"),
        ("- 跑步\n".encode("gbk"), "l.yaml", r"l\.yaml, line 1: not UTF-8, probably gb18030: '- 跑步'"),
        ("- a".encode("utf-16-le"), "l.yaml", "line 1: the file is UTF-16 without its mark"),
        (b"id,name\n0,nan\n1,b\n", "l.csv", r"l\.csv, line 2: '0 ' is no id and name"),
        (b"0,N/A\n1,b\n", "l.csv", r"l\.csv, line 1: the name is empty"),
        (b"name,about\nnull,x\n", "l.csv", r"l\.csv, line 2: '' is no id and name"),
        (b"a\nNaN\n", "l.csv", r"l\.csv, line 2: the class 'NaN' says that it is missing"),
        (b"dog\nDog\n", "l.csv", r"l\.csv, line 2: the class 'Dog' \(first as 'dog'\) is listed twice"),
        (b"id,name\n0,a\n0,b\n", "l.csv", r"l\.csv, line 3: the id 0 is listed twice"),
        (b"id,name\n", "l.csv", "a header and no classes"),
        (b"", "l.csv", "is empty"),
        (b"x" * 1_000_001, "l.csv", "too large"),
    ],
)
def test_a_file_of_another_kind_is_one_line(load, content, name, said):
    with pytest.raises(LabelError, match=said) as caught:
        load(content, name)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", labels.builtin_names())
def test_a_dumped_set_is_read_as_it_was(name, tmp_path):
    label_set = labels.builtin(name)
    calibration = labels.Calibration("mini", "1e10", 0.125)
    for given in (label_set, dataclasses.replace(label_set, calibration=calibration)):
        (tmp_path / "set.yaml").write_text(labels.dump(given), encoding="utf-8")
        again = labels.load(tmp_path / "set.yaml")
        assert again == given and again.fingerprint == given.fingerprint and again.about == given.about


def test_names_that_yaml_takes_for_something_else_are_dumped_as_text(tmp_path):
    names = [
        "yes",
        "12",
        "1e3",
        "2024-01-01",
        "null",
        "- a",
        "a: b",
        "#x",
        "&a",
        "!b",
        "*c",
        "'q'",
        '"w"',
        "{}",
        "灌篮",
        "~",
    ]
    (tmp_path / "set.yaml").write_text(labels.dump(labels.from_names(names)), encoding="utf-8")
    assert [x.name for x in labels.load(tmp_path / "set.yaml").labels] == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{model: a, fingerprint: b}", "calibration has no temperature"),
        ("{model: a, fingerprint: b, temperature: 0}", "temperature is 0; it must be a number between 0.01 and 100"),
        ("{model: a, fingerprint: b, temperature: .nan}", "temperature is .nan; it must be a number"),
        ("{model: a, fingerprint: b, temperature: 1, x: 2}", "unknown key 'x' in calibration"),
        ("7", "calibration must be a mapping"),
    ],
)
def test_a_calibration_that_breaks_a_rule_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "set.yaml").write_text(f"labels: [a, b]\ncalibration: {text}\n")
    with pytest.raises(LabelError, match=f"set.yaml:2: {re.escape(said)}"):
        labels.load(tmp_path / "set.yaml")


def test_names_that_differ_in_width_or_blanks_are_one_label():
    for pair in (["ｄｏｇ", "Dog"], ["a  dog", "A dog"]):
        with pytest.raises(LabelError, match="listed twice"):
            labels.from_names(pair)
