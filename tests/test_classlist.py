"""Names of classes, and their ids where the list has them."""

import pytest

from xclip_cli.classlist import read_class_list
from xclip_cli.errors import UsageError


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
        ("0 swim\n1 run\n1 dive\n", "line 3: the id 1 is listed twice"),
        ("0 swim\n1 swim\n", "line 2: the class 'swim' is listed twice"),
        ("0 swim\ndive\n2 run\n3 hop\n", "line 2: 'dive' has no id"),
        ("0,rock, paper\n1,run\n", "line 1: 3 cells"),
        ("id,name\n0,rock, paper\n", "line 2: 3 cells"),
    ],
)
def test_a_wrong_list_is_named_by_line(tmp_path, text, said):
    with pytest.raises(UsageError, match=said) as caught:
        read(tmp_path, text)
    assert "\n" not in caught.value.message
