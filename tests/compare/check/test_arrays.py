"""Array files are read as they are, and what is none is refused before memory is taken."""

import contextlib
import io
import json
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.check.arrays import DTYPES, read_arrays, write_safetensors
from compare.errors import BadInput


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


def safetensors(path, header, numbers=bytes(64)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)


def entry(**changes):
    return {"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]} | changes}


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
    "objects.npy": (objects, "Python objects, which are not read"),
    "objects.npz": (lambda path: archive(path, a_npy=npy((1,), b"12345678", "|O")), "Python objects"),
    "text.npz": (lambda path: archive(path, readme_txt=b"hello"), "'readme.txt' in it is no array"),
    "huge.npz": (lambda path: archive(path, a_npy=npy((10**12,))), "does not fill"),
    "huge.npy": (lambda path: path.write_bytes(npy((10**12,))), "does not fill"),
    "negative.npy": (lambda path: path.write_bytes(npy((-1,))), "does not fill|cannot be read"),
    "cut.npy": (lambda path: path.write_bytes(npy((3,), bytes(20))), "does not fill"),
    "empty.npy": (lambda path: path.write_bytes(b""), "cannot be read"),
    "empty.safetensors": (lambda path: path.write_bytes(b""), "cut off"),
    "lies.safetensors": (lambda path: path.write_bytes((2**60).to_bytes(8, "little") + bytes(9)), "cut off"),
    "no.safetensors": (lambda path: safetensors(path, b"\xff\xfe{}"), "no JSON"),
    "deep.safetensors": (lambda path: safetensors(path, b"[" * 100_000), "no JSON"),
    "digits.safetensors": (lambda path: safetensors(path, b'{"a": ' + b"9" * 10_000 + b"}"), "no JSON"),
    "list.safetensors": (lambda path: safetensors(path, []), "names no arrays"),
    "number.safetensors": (lambda path: safetensors(path, {"a": 3}), "malformed"),
    "shape.safetensors": (lambda path: safetensors(path, entry(shape=[-1])), "malformed"),
    "bool.safetensors": (lambda path: safetensors(path, entry(shape=[True])), "malformed"),
    "float.safetensors": (lambda path: safetensors(path, entry(shape=[1.0])), "malformed"),
    "kind.safetensors": (lambda path: safetensors(path, entry(dtype=["F64"])), "malformed"),
    "dtype.safetensors": (lambda path: safetensors(path, entry(dtype="F4")), "dtype F4; known are"),
    "large.safetensors": (lambda path: safetensors(path, entry(shape=[10**9])), "does not lie within the file"),
    "beyond.safetensors": (lambda path: safetensors(path, entry(data_offsets=[60, 68])), "does not lie within"),
    "back.safetensors": (lambda path: safetensors(path, entry(data_offsets=[8, 0])), "does not lie within"),
}


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


def test_a_dtype_that_the_format_lacks_is_refused(tmp_path):
    with pytest.raises(BadInput, match="a has the dtype complex128"):
        write_safetensors(tmp_path / "a.safetensors", {"a": np.ones(2, complex)})
