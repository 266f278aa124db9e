"""Array files are read as they are, and what is none is refused before memory is taken."""

import contextlib
import io
import json
import pickle
import tracemalloc
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.check import arrays as reader
from compare.check.arrays import DTYPES, read_arrays
from compare.errors import BadInput
from tests.compare.check.records import safetensors, write_safetensors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
def test_what_is_written_is_read(dtype, shape, tmp_path):
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(DTYPES[dtype])
    write_safetensors(tmp_path / "a.safetensors", {"a/b.c <é>": array, "other": np.ones(1, np.int8)})
    found = read_arrays(tmp_path / "a.safetensors")
    assert list(found) == ["a/b.c <é>", "other"]
    assert found["a/b.c <é>"].dtype == array.dtype
    np.testing.assert_array_equal(found["a/b.c <é>"].astype(float), array.astype(float))


def test_files_that_pytorch_writes_and_reads(tmp_path):
    """The format's own library is no dependency; its header is written by hand here, with metadata in it."""
    values = np.arange(6, dtype="<f4")
    header = json.dumps(
        {"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    ).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.safetensors")["w"], values.reshape(2, 3))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpys_archives_are_read(save, tmp_path):
    arrays = {"b": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "a": np.array(3), "c": np.ones((0, 2), np.float16)}
    save(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == ["b", "a", "c"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    np.save(tmp_path / "one.npy", arrays["b"])
    np.testing.assert_array_equal(read_arrays(tmp_path / "one.npy")["one"], arrays["b"])


def npy(shape, contents=b"", descr="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + contents


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, contents in members.items():
            file.writestr(name.replace("_", "."), contents)


def entry(**changes):
    return {"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]} | changes}


NOTHING = {"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}


def same_names(one):
    return b'{"a": %s, "a": %s}' % ((json.dumps(one).encode(),) * 2)


def twice(path):
    with zipfile.ZipFile(path, "w") as file, warnings.catch_warnings(action="ignore"):
        for _ in range(2):
            file.writestr("a.npy", npy((1,), bytes(8)))


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def objects(path):
    np.save(path, np.array([Trap()], dtype=object), allow_pickle=True)


BAD = {
    "missing.npz": (lambda path: None, "no such file"),
    "a.txt": (lambda path: path.write_text("1"), "array files end with"),
    "garbage.npz": (lambda path: path.write_bytes(b"garbage"), "not a zip file"),
    "garbage.npy": (lambda path: path.write_bytes(b"garbage"), "magic string"),
    "pickled.npz": (lambda path: path.write_bytes(pickle.dumps(Trap())), "not a zip file"),
    "pickled.npy": (lambda path: path.write_bytes(pickle.dumps(Trap())), "magic string"),
    "objects.npy": (objects, "Python objects, which are not loaded"),
    "objects.npz": (lambda path: archive(path, a_npy=npy((1,), b"12345678", "|O")), "Python objects"),
    "text.npz": (lambda path: archive(path, readme_txt=b"hello"), "'readme.txt' is not an array"),
    "huge.npz": (lambda path: archive(path, a_npy=npy((10**12,))), "does not have the"),
    "huge.npy": (lambda path: path.write_bytes(npy((10**12,))), "does not have the"),
    "negative.npy": (lambda path: path.write_bytes(npy((-1,))), "does not have the|cannot be read"),
    "cut.npy": (lambda path: path.write_bytes(npy((3,), bytes(20))), "does not have the"),
    "empty.npy": (lambda path: path.write_bytes(b""), "cannot be read"),
    "empty.safetensors": (lambda path: path.write_bytes(b""), "truncated"),
    "lies.safetensors": (lambda path: path.write_bytes((2**60).to_bytes(8, "little") + bytes(9)), "truncated"),
    "no.safetensors": (lambda path: safetensors(path, b"\xff\xfe{}"), "not JSON"),
    "deep.safetensors": (lambda path: safetensors(path, b"[" * 100_000), "not JSON"),
    "digits.safetensors": (lambda path: safetensors(path, b'{"a": ' + b"9" * 10_000 + b"}"), "not JSON"),
    "list.safetensors": (lambda path: safetensors(path, []), "names no arrays"),
    "number.safetensors": (lambda path: safetensors(path, {"a": 3}), "malformed"),
    "shape.safetensors": (lambda path: safetensors(path, entry(shape=[-1])), "malformed"),
    "bool.safetensors": (lambda path: safetensors(path, entry(shape=[True])), "malformed"),
    "float.safetensors": (lambda path: safetensors(path, entry(shape=[1.0])), "malformed"),
    "kind.safetensors": (lambda path: safetensors(path, entry(dtype=["F64"])), "malformed"),
    "dtype.safetensors": (lambda path: safetensors(path, entry(dtype="F4")), "dtype F4; supported are"),
    "large.safetensors": (lambda path: safetensors(path, entry(shape=[10**9])), "extends beyond the file"),
    "beyond.safetensors": (lambda path: safetensors(path, entry(data_offsets=[60, 68])), "extends beyond"),
    "back.safetensors": (lambda path: safetensors(path, entry(data_offsets=[8, 0])), "extends beyond"),
    "pairs.safetensors": (lambda path: safetensors(path, {"a": list(entry()["a"].items())}), "malformed"),
    "sixty-five.safetensors": (lambda path: safetensors(path, entry(shape=[1] * 65)), "cannot be read"),
    "empty-and-huge.safetensors": (
        lambda path: safetensors(path, entry(shape=[0, 2**63], data_offsets=[0, 0])), "cannot be read"),
    "twice.safetensors": (
        lambda path: safetensors(path, same_names(entry()["a"])), "'a' overlaps another"),
    "empty-twice.safetensors": (
        lambda path: safetensors(path, same_names(NOTHING)), "two arrays called 'a'"),
    "bomb.safetensors": (lambda path: safetensors(path, dict.fromkeys("abcd", entry()["a"])), "overlaps another"),
    "twice.npz": (twice, "two arrays called 'a'"),
    "escapes.safetensors": (lambda path: safetensors(path, {"\x1b[31m": entry()["a"]}), "not printable"),
    "escapes.npz": (lambda path: archive(path, **{"\x9b31m_npy": npy((1,), bytes(8))}), "not printable"),
    "rightwards.safetensors": (lambda path: safetensors(path, {"a\u202eb": entry()["a"]}), "not printable"),
    "surrogate.safetensors": (lambda path: safetensors(path, {"\ud800": NOTHING}), "not printable"),
    "long.safetensors": (lambda path: safetensors(path, {"a" * 1001: entry()["a"]}), "too long"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_array_file_is_refused(name, tmp_path):
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(BadInput, match=message) as caught:
        read_arrays(tmp_path / name)
    assert name in str(caught.value)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_a_file_with_any_byte_changed_or_cut_off_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("files")
    suffix = data.draw(st.sampled_from([".npz", ".safetensors", ".npy"]))
    path = folder / f"a{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, a=np.arange(50.0), b=np.ones((2, 3), np.float32))
    elif suffix == ".npy":
        np.save(path, np.arange(50.0))
    else:
        write_safetensors(path, {"a": np.arange(50.0), "b": np.ones((2, 3), ml_dtypes.bfloat16)})
    contents = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(contents) - 1))
    if data.draw(st.booleans()):
        contents = contents[:place]
    else:
        contents[place] = data.draw(st.integers(0, 255))
    path.write_bytes(contents)
    with contextlib.suppress(BadInput):
        assert all(isinstance(array, np.ndarray) for array in read_arrays(path).values())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_that_memory_does_not_hold_are_refused(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, a=np.zeros(100_000))  # 800 bytes of file
    else:
        write_safetensors(path, {"a": np.zeros(100_000)})
    assert read_arrays(path)["a"].size == 100_000
    monkeypatch.setattr(reader.os, "sysconf", lambda name: 800)  # bytes a page, and pages
    with pytest.raises(BadInput, match="GiB of memory"):
        read_arrays(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["F64"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
SIZES = st.integers(0, 70) | st.sampled_from([2**31, 2**62, 2**63, 2**64, 2**70])
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*DTYPES, "F4", "C64"]) | JSON,
        "shape": st.lists(SIZES, max_size=3) | st.integers(0, 80).map(lambda n: [1] * n) | JSON,
        "data_offsets": st.tuples(SIZES, SIZES) | st.integers(0, 8).map(lambda n: (0, 8 * n)) | JSON,
    },
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(max_size=3), ENTRIES | JSON, max_size=3) | JSON, st.binary(max_size=70))
def test_any_header_is_read_or_refused_and_takes_no_more_memory_than_the_file(tmp_path_factory, header, numbers):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    safetensors(path, header, numbers)
    tracemalloc.start()
    with contextlib.suppress(BadInput):
        arrays = read_arrays(path)
        assert sum(array.nbytes for array in arrays.values()) <= len(numbers)
        assert all(name.isprintable() for name in arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
