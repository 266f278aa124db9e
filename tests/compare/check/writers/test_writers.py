"""The writers in C, Rust and Python: one file by one script, read as it was, and bad use refused."""

import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import compare.check.recording
from compare.check.arrays import read_arrays
from tests.compare.check.writers.languages import NAMES, WRITERS, record

LANGUAGES = ("python", "c", "rust")
SPECIAL = [0.0, -0.0, 1.5, -3e-41, 1e38, np.inf, -np.inf, np.nan]


def bits(array):
    return array.shape, array.dtype, array.tobytes()


def contents():
    """Every dtype that all writers have; empty arrays, scalars, and numbers that are easily changed on the way."""
    floats: dict[str, np.ndarray] = {}
    floats |= {f"parameters/{np.dtype(dtype)}": np.array(SPECIAL).astype(dtype) for dtype in (np.float64, np.float32)}
    floats["parameters/bf"] = np.array(SPECIAL).astype(ml_dtypes.bfloat16).reshape(2, 2, 2)
    floats["parameters/f16"] = np.array([1.0, 6e-8, -65504.0], np.float16)
    floats["parameters/nan/with.payload"] = np.array([0x7FF0DEAD_BEEF0001], np.uint64).view(np.float64)
    integers = {
        f"inputs/i{8 * n}": np.array([[-(2 ** (8 * n - 1)), 2 ** (8 * n - 1) - 1]], f"i{n}") for n in (1, 2, 4, 8)
    }
    others = {"inputs/u8": np.arange(256, dtype=np.uint8), "inputs/mask": np.array([True, False])}
    empty = {"gradients/empty": np.zeros((0, 3), np.float32), "intermediates/none": np.zeros(0, np.int64)}
    return floats | integers | others | empty | {"loss": np.array(0.1), "next/one": np.array(-7, np.int64)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("writers")


@pytest.mark.sweep
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("steps", [0, 3])
def test_what_is_recorded_is_read_bit_for_bit(language, steps, folder):
    path, expected, script = folder / f"{language}{steps}.safetensors", {}, []
    for step in range(1, steps + 1) if steps else [0]:
        arrays = {name: np.roll(array, step) for name, array in contents().items()}
        script += [("step", step)] * bool(step) + list(arrays.items())
        expected |= {f"step.{step}/{name}" if step else name: array for name, array in arrays.items()}
    assert record(language, folder, path, script) == ""
    found = read_arrays(path)
    assert list(found) == list(expected)
    assert [bits(array) for array in found.values()] == [bits(array) for array in expected.values()]
    assert not path.with_suffix(".safetensors.part").exists()


NAME = st.sampled_from(["parameters/W1", "inputs/x", "gradients/a.b/c", "values/%s%n", "next/~ <&>", "loss"])
ARRAY = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 2, shape).astype(dtype),
    st.sampled_from(
        sorted(NAMES.keys() - {np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2)}, key=str)
    ),
    st.lists(st.integers(0, 3), max_size=4),
    st.integers(0, 99),
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.dictionaries(NAME, ARRAY, min_size=1), st.lists(st.integers(1, 10**6), unique=True, max_size=3))
def test_all_languages_write_the_very_same_file(folder, arrays, numbers):
    arrays = {name.replace(" ", "_"): array for name, array in arrays.items()}  # words of a script
    script = [line for n in sorted(numbers) for line in [("step", n), *arrays.items()]] or list(arrays.items())
    files = []
    for language in LANGUAGES:
        path = folder / f"same-{language}.safetensors"
        try:
            assert record(language, folder, path, script) == ""
        except pytest.skip.Exception:
            continue
        files.append(path.read_bytes())
    assert len(set(files)) == 1


ONE = ("loss", np.ones((), np.float32))
FOLLOWS = "a name is loss, or begins with"
REFUSED = {
    "another name": ([("weights/W1", ONE[1])], FOLLOWS),
    "a part without a leaf": ([("parameters/", ONE[1])], FOLLOWS),
    "a part alone": ([("parameters", ONE[1])], FOLLOWS),
    "a loss with a leaf": ([("loss/a", ONE[1])], FOLLOWS),
    "a step in the name": ([("step.1/loss", ONE[1])], FOLLOWS),
    "a quote": ([('inputs/"x', ONE[1])], "without quotes"),
    "a backslash": ([("inputs/\\x", ONE[1])], "without quotes"),
    "a control character": ([("inputs/\x1b[31mx", ONE[1])], "printable"),
    "a letter beyond ASCII": ([("inputs/é", ONE[1])], "printable"),
    "a name too long": ([("inputs/" + "x" * 1000, ONE[1])], FOLLOWS),
    "a name twice": ([ONE, ONE], "recorded twice in one step"),
    "a name twice in a step": ([("step", 1), ONE, ("step", 2), ONE, ONE], "recorded twice in one step"),
    "a step twice": ([("step", 1), ONE, ("step", 1)], "must increase from 1"),
    "step zero": ([("step", 0)], "must increase from 1"),
    "a tensor before the first step": ([ONE, ("step", 1)], "before the first step"),
    "nothing": ([], "nothing was recorded"),
    "a step of nothing": ([("step", 1)], "nothing was recorded"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_bad_use_is_refused_and_leaves_no_file(language, folder):
    for name, (script, message) in REFUSED.items():
        path = folder / f"refused-{language}.safetensors"
        path.write_bytes(b"an earlier run")
        assert re.search(message, record(language, folder, path, script)), name
        assert not list(folder.glob("refused-*")), name


ONLY_THERE = {
    ("c", "null"): "the array is NULL",
    ("c", "huge"): "larger than memory; is a size negative",
    ("c", "dtype"): "there is no such dtype",
    ("c", "rank"): "0 to 32 dimensions",
    ("rust", "short"): r"2 numbers do not fill the shape \[3\]",
}


@pytest.mark.parametrize(("language", "mistake"), ONLY_THERE)
def test_mistakes_of_one_language(language, mistake, folder):
    path = folder / "mistake.safetensors"
    assert re.search(ONLY_THERE[language, mistake], record(language, folder, path, [ONE, (mistake, "inputs/x"), ONE]))
    assert not list(folder.glob("mistake*"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_folder_that_is_not_there_is_refused(language, folder):
    words = record(language, folder, folder / "no" / "a.safetensors", [ONE])
    assert re.search(r"does its folder exist|No such file", words)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_file_that_cannot_be_put_there_is_refused(language, folder):
    """Numbers are written beside it, and at the end it is a folder."""
    path = folder / f"{language}-taken.safetensors"
    path.mkdir(exist_ok=True)
    (path / "inside").write_text("")
    assert record(language, folder, path, [ONE])
    assert (path / "inside").exists()
    assert not list(folder.glob(f"{language}-taken*.part"))


def rule(text):
    """The five lines of the naming rule, wherever they stand."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if "step.1/..." in line and "in front of" in line)
    indent = lines[first].index("step.1")
    return [line[indent:].rstrip() for line in lines[first : first + 5]], lines[first + 5].strip("/!* ")


QUOTED = [*WRITERS.glob("backproof_record.*"), WRITERS.parents[2] / "docs" / "recording.md"]


@pytest.mark.parametrize("path", QUOTED, ids=lambda path: path.name)
def test_the_naming_rule_stands_in_one_place_and_is_quoted_as_it_is(path):
    five, after = rule(compare.check.recording.__doc__)
    assert after == ""
    assert rule(path.read_text(encoding="utf-8"))[0] == five


def test_the_folder_of_the_writers_is_printed():
    command = [sys.executable, "-m", "compare.check.writers"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=WRITERS.parents[2])
    assert done.stdout.strip() == str(WRITERS)
