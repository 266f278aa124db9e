"""Tables from other programs: what differs in them is found out and said, and what cannot be told is refused."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.errors import BadInput
from compare.suite.csv_file import DELIMITERS, read_csv

X = np.array([[1.5, 2], [3, -5.25]])


@pytest.fixture
def read(tmp_path):
    def read(content):
        path = tmp_path / "data.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_csv(path)

    return read


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ("a;b;y\n1.5;2;0\n3;-5.25;1\n", ["its cells are separated by semicolons"]),
        ("a\tb\ty\n1.5\t2\t0\n3\t-5.25\t1\n", ["its cells are separated by tabs"]),
        ("a|b|y\n1.5|2|0\n3|-5.25|1\n", ["its cells are separated by bars"]),
        (
            "a;b;y\n1,5;2;0\n3;-5,25;1\n",
            ["its cells are separated by semicolons", "a comma in a number was read as its decimal point"],
        ),
        ('"a,x";"b,x";y\n1.5;2;0\n3;-5.25;1\n', ["its cells are separated by semicolons"]),
        ("höhe,b,y\n1.5,2,0\n3,-5.25,1\n".encode("latin-1"), ["it is not UTF-8, and was read as Latin-1"]),
        (
            "a\tb\ty\n1.5\t2\t0\n3\t-5.25\t1\n".encode("utf-16"),
            ["its cells are separated by tabs", "it was read as UTF-16"],
        ),
        ("höhe,b,y\n1.5,2,0\n3,-5.25,1\n", []),
    ],
)
def test_delimiters_decimal_commas_and_encodings_are_found_out_and_said(read, content, notes):
    x, y, said = read(content)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, [0, 1])
    assert said == notes


def test_a_comma_that_parts_thousands_is_not_read_as_a_decimal_point(read):
    with pytest.raises(BadInput, match=r"line 2, column 'a': '1,234\.5' is not a number"):
        read("a;b;y\n1,234.5;2;0\n3,5;4;1\n")


@pytest.mark.parametrize("labels", [["no", "yes"], ["0", "yes"], ["größer", "kleiner"]])
def test_labels_of_text_stay_text(read, labels):
    _, y, _ = read(f"a,b,y\n1.5,2, {labels[0]}\n3,-5.25,{labels[1]} \n")
    assert y.tolist() == labels


def test_a_label_that_is_missing_is_refused_with_its_place(read):
    with pytest.raises(BadInput, match=r"line 3, column 'kind': there is no label\."):
        read("a,kind\n1,red\n2,\n")


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), min_size=1, max_size=5),
    st.sampled_from(list(DELIMITERS)),
    st.booleans(),
)
def test_what_was_written_is_read_whatever_the_delimiter_is(tmp_path_factory, rows, delimiter, decimal_commas):
    decimal_commas = decimal_commas and delimiter != ","
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["a", "b", "y"])
    for row in rows:
        cells = [repr(cell).replace(".", "," if decimal_commas else ".") for cell in row]
        writer.writerow([*cells, "yes"])
    path = tmp_path_factory.mktemp("tables") / "data.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    x, y, _ = read_csv(path)
    np.testing.assert_array_equal(x, rows)
    assert set(y) == {"yes"}
