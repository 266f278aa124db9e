"""The bundled sets are what they claim to be; a file is read whole and right, or refused with a message."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compare.errors import BadInput
from compare.suite.datasets import DATASETS, digits, load
from compare.suite.problem import Problem

PARTS = ("train_x", "train_y", "test_x", "test_y")
# Features, outputs, examples, and the examples of each class (or with each output on).
SIZES = {
    "breast-cancer": (30, 1, 569, [212, 357]),
    "digits": (64, 10, 1797, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
    "moons": (2, 1, 400, [200, 200]),
    "flower": (2, 1, 400, [200, 200]),
}


def assert_equal_problems(left, right):
    for part in PARTS:
        np.testing.assert_array_equal(getattr(left, part), getattr(right, part), strict=True)


def all_labels(problem):
    return np.concatenate([problem.train_y, problem.test_y], axis=1)


# ---------------------------------------------------------------------------------- bundled and made


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_its_size_and_its_classes(name):
    problem = load(name)
    features, outputs, examples, classes = SIZES[name]
    held_out = -(-examples // 4)
    assert problem.name == name
    assert problem.train_x.shape == (features, examples - held_out)
    assert problem.test_x.shape == (features, held_out)
    labels = all_labels(problem)
    assert labels.shape == (outputs, examples)
    on = labels.sum(axis=1).tolist()
    assert on == (classes if outputs > 1 else classes[1:])
    if outputs > 1:
        np.testing.assert_array_equal(labels.sum(axis=0), 1)
    assert np.isfinite(problem.train_x).all()
    # Each class is on both sides of the split.
    assert all(0 < part.sum() < part.size for part in (*problem.train_y, *problem.test_y))


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(
    ("name", "read"), [("breast_cancer", lambda: DATASETS["breast-cancer"].rows(0)), ("digits", digits)]
)
def test_a_bundled_set_is_what_scikit_learn_loads_wherever_it_keeps_its_file(monkeypatch, name, read, moved):
    if moved:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=["."]))
    x, y = read()
    expected_x, expected_y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    np.testing.assert_array_equal(x, expected_x, strict=True)
    np.testing.assert_array_equal(y, expected_y)


def test_the_default_set_is_there_without_the_import_of_scikit_learn():
    script = (
        "import sys; from compare.suite.datasets import load; load('breast-cancer'); sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


@pytest.mark.parametrize("name", DATASETS)
def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(name):
    assert_equal_problems(load(name, seed=4), load(name, seed=4))
    assert not np.array_equal(load(name, seed=4).train_x, load(name, seed=5).train_x)
    assert_equal_problems(load(name), load(name, seed=0))


@pytest.mark.parametrize("name", ["moons", "flower"])
def test_made_sets_are_made_from_the_seed_and_not_only_split_by_it(name):
    (one, labels), (other, _) = (DATASETS[name].rows(seed) for seed in (0, 1))
    assert one.shape == other.shape
    assert not set(one[:, 0]) & set(other[:, 0])
    assert set(labels) == {0, 1}


def test_flower_is_a_rose_of_two_classes():
    x, y = DATASETS["flower"].rows(0)
    assert [int((y == label).sum()) for label in (0, 1)] == [200, 200]
    radius = np.hypot(*x.T)
    assert 3.5 < radius.max() < 5
    assert radius.min() < 0.5


@pytest.mark.parametrize("name", ["unknown", "Moons", "", "moons.text", ".csv", "digits "])
def test_an_unknown_name_lists_what_exists(name):
    with pytest.raises(BadInput, match=r"no dataset is called '.*'.*here are .*\.csv or \.npz file") as caught:
        load(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in DATASETS)


# --------------------------------------------------------------------------------------------- files


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@st.composite
def rows(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    x = draw(arrays(float, shape, elements=st.floats(-1e9, -1e-9) | st.just(0.0) | st.floats(1e-9, 1e9)))
    return x, draw(arrays(float, shape[0], elements=st.sampled_from([0.0, 1.0])))


@given(rows=rows(), place=st.integers(0, 4), seed=st.integers(0, 3))
@settings(deadline=None)  # a disk may be slow
def test_csv_and_npz_give_the_problem_that_was_saved(tmp_path_factory, rows, place, seed):
    folder = tmp_path_factory.mktemp("files")
    x, y = rows
    place = min(place, x.shape[1])
    header = [f"feature {i}" for i in range(x.shape[1])]
    header.insert(place, "y")
    table = np.insert(x, place, y, axis=1)
    lines = [header, *([repr(float(cell)) for cell in row] for row in table)]
    (folder / "data.csv").write_text("\n".join(map(",".join, lines)), encoding="utf-8")
    np.savez(folder / "data.npz", x=x, y=y)
    expected = Problem.from_rows("data", x, y, seed=seed)
    assert_equal_problems(load(str(folder / "data.csv"), seed=seed), expected)
    assert_equal_problems(load(str(folder / "data.npz"), seed=seed), expected)


PLAIN = "a,b,y\n1,2,0\n3,5,1\n7,9,1\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a,b,label\n1,2,0\n3,5,1\n7,9,1\n", id="the last column without a y"),
        pytest.param("y,a,b\n0,1,2\n1,3,5\n1,7,9\n", id="y first"),
        pytest.param("a,y,b\n1,0,2\n3,1,5\n7,1,9\n", id="y in the middle"),
        pytest.param("a, y, b\n1, 0, 2\n3, 1, 5\n7, 1, 9\n", id="blanks after commas"),
        pytest.param(PLAIN.encode("utf-8-sig"), id="byte order mark"),
        pytest.param("y,a,b\n0,1,2\n1,3,5\n1,7,9\n".encode("utf-8-sig"), id="byte order mark before y"),
        pytest.param(PLAIN.replace("\n", "\r\n"), id="lines as on Windows"),
        pytest.param(PLAIN.replace("\n", "\n\n"), id="empty lines"),
        pytest.param(PLAIN.rstrip("\n"), id="no newline at the end"),
        pytest.param('"a","b","y"\n"1","2","0"\n3,5,1\n7,9,1\n', id="quotes"),
        pytest.param("a,b,y\n1e0,+2.0,0\n 3,5 ,1\n7,.9e1,1.0\n", id="other ways to write the numbers"),
        pytest.param("1,2,y\n1,2,0\n3,5,1\n7,9,1\n", id="numbers among the names"),
        pytest.param("ä,重さ,y\n1,2,0\n3,5,1\n7,9,1\n", id="names in other scripts"),
    ],
)
def test_csv_in_its_many_forms(write, text):
    expected = Problem.from_rows("", np.array([[1, 2], [3, 5], [7, 9]]), np.array([0, 1, 1]), seed=0)
    problem = load(write("data.CSV", text))
    assert_equal_problems(problem, expected)
    assert problem.name.endswith("data.CSV")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,color,y\n1,2,0\n1,red,1\n", r"line 3, column 'color': 'red' is not a number. Encode text as numbers"),
        ("a,y\n1,yes\n2,yes\n", r"every label is yes, so there is nothing to learn"),
        ("a,b,y\n1,,0\n", r"line 2, column 'b': the cell is empty\. Fill in a number, or remove the row"),
        ("a,b,y\n1,2,0\n1,NA,0\n", r"line 3, column 'b': the value is missing \('NA'\)\. Fill in a number"),
        ("kind,b\ncat,1\ndog,0\n", r"column 'kind': 'cat' is not a number\. If the column holds the labels, name it y"),
        ("a,y\n\n\n1,0\n\nx,1\n", r"line 6, column 'a': 'x' is not a number"),
        ('"first\nsecond",y\n1,0\nx,1\n', r"line 4, column 'first\\nsecond': 'x' is not a number"),
        ("a,b,y\n1,2,0\n1,2\n", r"line 3: 2 cells where the header names 3 columns"),
        ("a,b,y\n1,2,0,1\n", r"line 2: 4 cells where the header names 3 columns"),
        ("1,2,0\n3,4,1\n", r"the first line holds numbers only; it must be a header that names the columns"),
        ("", r"a header line and at least one example are needed, found 0 lines"),
        ("\n\n", r"found 0 lines"),
        ("a,b,y\n", r"a header line and at least one example are needed, found 1 lines?"),
        ("y\n0\n1\n", r"one column only; at least one feature and one label column are needed"),
        ("a b y\n1 2 0\n", r"one column only"),
        ("y,a,y\n0,3,1\n1,4,0\n", r"(?i)two|twice|more than one|2 columns"),
        ("a,y\n1,2.5\n3,1\n", r"y is 2\.5 at example 0 .* the target of a regression"),
        ("a,y\n1,0\nnan,1\n", r"nan at example 1, column 0"),
        ("a,y\n1,0\n1e999,1\n", r"inf at example 1, column 0"),
        (b"\xff\xfea,y\n1,0\n0", r"cannot be read as CSV: 'utf-16.*' codec can't decode"),
        (b"a,y\n1\x00,0\n", r"cannot be read as CSV: it contains zero bytes, so it is not text"),
        pytest.param('a,y\n"' + "1" * 200_000 + '",0\n', r"cannot be read as CSV: field larger", id="huge cell"),
    ],
)
def test_a_bad_csv_is_refused_with_its_name_and_the_place(write, text, message):
    path = write("data.csv", text)
    with pytest.raises(BadInput, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_a_missing_file_and_a_directory_are_refused(tmp_path, kind):
    with pytest.raises(BadInput, match=rf"missing\.{kind}: cannot be read as \.?\w+: No such file or directory\.$"):
        load(str(tmp_path / f"missing.{kind}"))
    (tmp_path / f"folder.{kind}").mkdir()
    with pytest.raises(BadInput, match=rf"folder\.{kind}: cannot be read as "):
        load(str(tmp_path / f"folder.{kind}"))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.array([[1, 2], [3, 5], [7, 9]]), np.array([False, True, True])),
        (np.array([[1, 2], [3, 5], [7, 9]], np.float32), np.array([[0], [1], [1]], np.uint8)),
        (np.array([[1, 2], [3, 5], [7, 9]]), np.array([[0, 1], [1, 1], [1, 0]])),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_takes_every_real_dtype_and_several_outputs(tmp_path, x, y, save):
    save(tmp_path / "data.npz", x=x, y=y, other=np.array(["is ignored"]))
    assert_equal_problems(load(str(tmp_path / "data.npz")), Problem.from_rows("", x, y, seed=0))


LABELS = np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.ones(3), "b": LABELS}, r"contains a, b, but arrays x and y are needed"),
        ({"x": np.ones((3, 1))}, r"contains x, but"),
        ({}, r"contains nothing, but"),
        ({"x": np.array([[1], ["a"], [None]], object), "y": LABELS}, r"Pickled objects are never loaded; save plain"),
        ({"x": np.ones((3, 1)), "y": LABELS.astype(object)}, r"Pickled"),
        ({"x": np.array([["a"], ["b"], ["c"]]), "y": LABELS}, r"x must hold real numbers"),
        ({"x": np.ones((3, 1), complex), "y": LABELS}, r"x must hold real numbers"),
        ({"x": np.ones(3), "y": LABELS}, r"\(examples, features\)"),
        ({"x": np.array(1.0), "y": np.array(0)}, r"\(examples, features\)"),
        ({"x": np.ones((2, 1)), "y": LABELS}, r"x has 2 .* y has 3"),
        ({"x": np.ones((0, 1)), "y": LABELS[:0]}, r"no data"),
        ({"x": np.ones((3, 1)), "y": LABELS + 0.5}, r"y is 0\.5 at example 0 .* regression"),
        ({"x": np.full((3, 1), np.nan), "y": LABELS}, r"nan at example 0, column 0"),
    ],
)
def test_an_npz_with_the_wrong_arrays_is_refused(tmp_path, content, message):
    np.savez(tmp_path / "data.npz", **content)
    with pytest.raises(BadInput, match=message) as caught:
        load(str(tmp_path / "data.npz"))
    assert str(caught.value).startswith(str(tmp_path / "data.npz"))


def test_loading_never_runs_what_a_file_asks_for(tmp_path):
    """A pickle may run anything when it is loaded; this one would make a directory."""

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    np.savez(tmp_path / "data.npz", x=np.array([Harmful()], object), y=LABELS)
    with pytest.raises(BadInput, match="Pickled"):
        load(str(tmp_path / "data.npz"))
    assert not (tmp_path / "made").exists()


def good_archive(path):
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal((50, 4)), y=np.arange(50) % 2)
    return path.read_bytes()


def damaged(content):
    """The first array's compressed bytes are overwritten; the directory at the end stays as it is."""
    return content[:60] + b"\xff" * 340 + content[400:]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 no zip either", b"x,y\n1,0\n"])
def test_a_file_that_is_no_archive_is_refused(write, content):
    with pytest.raises(BadInput, match=r"cannot be read as \.npz") as caught:
        load(write("data.npz", content))
    assert "pickle" not in str(caught.value)  # NumPy takes whatever it does not know for a pickle


@pytest.mark.parametrize("change", [damaged, lambda content: content[: len(content) // 2]], ids=["damaged", "cut"])
def test_a_damaged_archive_is_refused(tmp_path, write, change):
    content = good_archive(tmp_path / "good.npz")
    load(str(tmp_path / "good.npz"))
    with pytest.raises(BadInput, match=r"data\.npz: cannot be read as \.npz"):
        load(write("data.npz", change(content)))


def test_a_single_array_under_the_wrong_suffix_is_refused(tmp_path):
    with (tmp_path / "data.npz").open("wb") as file:
        np.save(file, np.ones(3))  # what belongs into a .npy file
    with pytest.raises(BadInput, match=r"data\.npz"):
        load(str(tmp_path / "data.npz"))


def test_an_archive_of_something_other_than_arrays_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x", "1 2 3")
        archive.writestr("y", "0 1 1")
    with pytest.raises(BadInput, match=r"data\.npz"):
        load(str(tmp_path / "data.npz"))


def test_labels_of_every_form_are_the_same_problem_and_the_notes_say_what_was_made_of_them(write, tmp_path):
    x, y = np.array([[1, 2], [3, 5], [7, 9], [4, 4]]), np.array([0, 1, 1, 0])
    expected = Problem.from_rows("", x, y, seed=0)
    texts = np.array(["no", "yes"])[y]
    np.savez(tmp_path / "texts.npz", x=x, y=texts)
    table = "\n".join(["a;b;y", *(f"{a};{b};{label}" for (a, b), label in zip(x, texts, strict=True))])
    for path in (write("data.csv", table), write("data.tsv", table), str(tmp_path / "texts.npz")):
        problem = load(path)
        assert_equal_problems(problem, expected)
        assert problem.notes[-1] == f"{path}: the label no is 0, and yes is 1."
        assert problem.astype(np.dtype(np.float32)).notes == problem.notes


@pytest.mark.parametrize("name", DATASETS)
def test_there_is_nothing_to_note_of_what_is_bundled(name):
    assert load(name).notes == ()


def test_one_example_only_is_remarked_upon_and_two_are_not(write):
    (remark,) = load(write("one.csv", "a,y\n1,0\n")).notes
    assert "one example only. The mean over one example is its sum" in remark
    assert load(write("two.csv", "a,y\n1,0\n2,1\n")).notes == ()


@pytest.mark.parametrize("label", [0, 1])
def test_labels_that_are_all_the_same_are_remarked_on(write, label):
    path = write("data.csv", f"a,y\n1,{label}\n2,{label}\n")
    assert f"{path}: every label is {label}. Give examples of both classes." in load(path).notes
    mixed = write("mixed.csv", "a,y\n1,0\n2,1\n")
    assert load(mixed).notes == ()
