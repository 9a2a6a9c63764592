"""Names of classes, and their ids where the list has them."""

import time

import pytest

from xclip_cli.errors import UsageError
from xclip_cli.labels.classlist import NameIndex, read_class_list


def read(tmp_path, text, name="classes.txt"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_class_list(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        "1 Brush hair\n2 swim\n",
        "1\tBrush hair\n2\tswim\n",
        "1. Brush hair\n2. swim\n",
        "\ufeff1,Brush hair\r\n2,swim\r\n",
        "1;Brush hair;\n\n2;swim;\n",
        "id,name\n1,Brush hair\n2,swim\n",
        "ID; Class Name; parent\n1;Brush hair;x\n2;swim;\n",
        "name,id\nBrush hair,1\nswim,2\n",
        "Brush hair,1\nswim,2\n",
        "id name\n1 Brush hair\n2 swim\n",
        '"id","name"\n"2","swim"\n"1","Brush hair"\n',
    ],
)
def test_ids_and_names_in_many_dresses(tmp_path, text):
    found = read(tmp_path, text)
    assert found.names == {1: "Brush hair", 2: "swim"} and found.numbered and found.span == "1 to 2"


@pytest.mark.parametrize(
    "text", ["swim\nrock, paper: a game\n3 point shot\n", '"swim"\n\n"rock, paper: a game"\n"3 point shot"\n']
)
def test_a_name_a_line_counts_from_0(tmp_path, text):
    found = read(tmp_path, text)
    assert found.names == {0: "swim", 1: "rock, paper: a game", 2: "3 point shot"} and not found.numbered


def test_a_column_of_names_alone_has_no_ids(tmp_path):
    found = read(tmp_path, "name,about\nswim,in water\nrun,on land\n")
    assert found.names == {0: "swim", 1: "run"} and not found.numbered


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("id,name\n", "a header and no classes"),
        ("label\nswim\nrun\n", "line 1: 'label' may be a header or a class"),
        ("id,name\n0,swim\n\nx,run\n", "line 4: 'x run' is no id and name"),
        ("id,name\n0,swim\n1,\n", "line 3: '1 ' is no id and name"),
        ("id name\n0 swim\n1 run\n1 dive\n", "line 4: the id 1 is listed twice"),
        ("0,swim\n1,Swim \n", "line 2: the class 'Swim' .first as 'swim'. is listed twice"),
        ("0 swim\n1 nan\n", "line 2: the class 'nan' says that it is missing"),
        ("swim\nN/A\n", "line 2: the class 'N/A' says that it is missing"),
        ("0,swim\n1,NULL\n", "line 2: the name is empty"),
        (f"id,name\n{'9' * 5000},swim\n", "line 2: the id 999999999999... has 5,000 digits"),
        (f"{'9' * 5000},swim\n", "line 1: the id 999999999999... has 5,000 digits"),
        (f"id name\n{'9' * 5000} swim\n", "line 2: the id 999999999999... has 5,000 digits"),
        ("0 swim\n1 swim\n", "line 2: the class 'swim' is listed twice"),
        ("0 swim\ndive\n2 run\n3 hop\n", "line 2: 'dive' has no id"),
        ("0,rock, paper\n1,run\n", "line 1: 3 cells"),
        ("id,name\n0,rock, paper\n", "line 2: 3 cells"),
    ],
)
def test_a_wrong_list_is_named_by_line(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read(tmp_path, text)
    assert "\n" not in caught.value.message and len(caught.value.message) < 500


def test_ids_that_do_not_count_up_need_a_header(tmp_path):
    assert read(tmp_path, "id name\n7 rings\n50 metre sprint\n").names == {7: "rings", 50: "metre sprint"}
    found = read(tmp_path, "7 rings\n50 metre sprint\n")
    assert found.names == {0: "7 rings", 1: "50 metre sprint"} and found.may_have_ids
    assert not read(tmp_path, '"null"\nrun\n').may_have_ids


def test_names_are_found_by_spelling_first_and_never_by_signs_alone():
    index = NameIndex(["+1", "-1", "Tai Chi", "C", "C++"])
    assert [index.get(name) for name in ("+1", "-1", "1", "tai_chi", "c", "c++", "*", "Café")] == [
        0, 1, None, 2, 3, 4, None, None,
    ]  # fmt: skip


def test_a_long_list_takes_time_in_proportion(tmp_path):
    """20,000 classes took 10 s, when each name was compared with all before it."""
    start = time.process_time()
    assert len(read(tmp_path, "".join(f"{i} class {i}\n" for i in range(20_000))).names) == 20_000
    assert time.process_time() - start < 2
