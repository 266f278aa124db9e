"""Reads array files safely: .npz, .npy and .safetensors.

Nothing is unpickled, and sizes are checked before memory is allocated. A .safetensors file consists of the length of
a JSON header in eight bytes, the header, and the data. For each array, the header has the dtype, the shape, and the
first and last byte of its data (https://huggingface.co/docs/safetensors).
"""

import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from compare.errors import BadInput

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
LONGEST_HEADER = 100_000_000  # bytes, as in the library of the format
LONGEST_NAME = 1000  # characters


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Args:
        path: a .npz, .npy or .safetensors file.

    Returns:
        The arrays by name, in the order of the file. The array of a .npy file has the name of the file, without .npy.

    Raises:
        BadInput: a ValueError, if the file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file.")
    if path.suffix not in (".npz", ".npy", ".safetensors"):
        raise BadInput(f"{path}: array files end with .npz, .npy or .safetensors.")
    try:
        if path.suffix == ".safetensors":
            arrays = _safetensors(path)
        elif path.suffix == ".npy":
            with path.open("rb") as file:
                arrays = [(path.stem, _npy(file, path.stat().st_size))]
        else:
            arrays = _npz(path)
    except BadInput:
        raise
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as {path.suffix}: {error}.") from None
    except zlib.error as error:
        raise BadInput(f"{path} cannot be read as {path.suffix}: its contents are damaged ({error}).") from None
    return _by_name(path, arrays)


def _by_name(path: Path, arrays: list[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, array in arrays:
        if not name.isprintable() or len(name) > LONGEST_NAME:  # escape sequences would control the user's terminal
            raise BadInput(f"{path}: {name!r:.80} is no name of an array: it is too long, or not printable.")
        if name in found:
            raise BadInput(f"{path}: the file has two arrays called {name!r}.")
        found[name] = array
    return found


def _fits(path: Path, size: int) -> None:
    """Raises BadInput if arrays of `size` bytes are larger than this machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else size
    if size > memory:
        raise BadInput(
            f"{path}: its arrays have {size / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB of memory. "
            "Record fewer steps, or a smaller network."
        )


def _npz(path: Path) -> list[tuple[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _fits(path, sum(member.file_size for member in members))  # the sizes after decompression
        return [(member.filename.removesuffix(".npy"), _member(archive, member)) for member in members]


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if not member.filename.endswith(".npy"):
        raise ValueError(f"its member {member.filename!r} is not an array")
    with archive.open(member) as file:
        return _npy(file, member.file_size)


def _npy(file: Any, size: int) -> np.ndarray:
    """The array of a .npy file of `size` bytes. Raises ValueError before memory is allocated if the size is wrong."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read(file)
    except Exception as error:  # NumPy parses the header as a Python literal, which may raise many kinds of errors
        raise ValueError(f"its header is damaged ({type(error).__name__}: {error})") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded because that could run code")
    left = size - file.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"an array of shape {shape} and {dtype} does not have the {left} bytes that are in the file")
    array = np.frombuffer(file.read(left), dtype)
    if array.size != math.prod(shape):
        raise ValueError("it is truncated")
    return array.reshape(shape, order="F" if in_columns else "C").copy(order="K")


def _safetensors(path: Path) -> list[tuple[str, np.ndarray]]:
    size = path.stat().st_size
    _fits(path, size)
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(LONGEST_HEADER, size - 8):
            raise BadInput(f"{path} is no .safetensors file, or is truncated: its header is longer than the file.")
        try:
            header = json.loads(file.read(length), object_pairs_hook=list)
        except (ValueError, RecursionError):  # also raised for bytes that are not UTF-8, and for very long numbers
            raise BadInput(f"{path} is no .safetensors file: its header is not JSON.") from None
        if not _is_object(header):
            raise BadInput(f"{path} is no .safetensors file: its header names no arrays.")
        entries = [(name, *_entry(path, name, entry)) for name, entry in header if name != "__metadata__"]
        taken = 0
        for name, dtype, shape, begin, end in sorted(entries, key=lambda entry: entry[3:]):
            if end > size - 8 - length or end - begin != math.prod(shape) * dtype.itemsize:
                raise BadInput(
                    f"{path}: the array {name!r} extends beyond the file, or has a size other than its shape."
                )
            if begin < taken and end > begin:  # overlapping arrays would let a small file fill the memory
                raise BadInput(f"{path}: the array {name!r} overlaps another.")
            taken = max(taken, end)
        arrays = []
        for name, dtype, shape, begin, end in entries:
            file.seek(8 + length + begin)
            arrays.append((name, np.frombuffer(file.read(end - begin), dtype).reshape(shape)))
    return arrays


def _is_object(pairs: Any) -> bool:
    """Whether this was a JSON object. Objects are read as lists of pairs, so that duplicate names are detected."""
    return isinstance(pairs, list) and bool(pairs) and all(isinstance(pair, tuple) for pair in pairs)


def _entry(path: Path, name: str, pairs: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    try:
        if not _is_object(pairs):
            raise ValueError
        entry = dict(pairs)
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise BadInput(f"{path}: the entry of {name!r} in its header is malformed.") from None
    if dtype not in DTYPES:
        raise BadInput(f"{path}: the array {name!r} has the dtype {dtype}; supported are {', '.join(DTYPES)}.")
    return np.dtype(DTYPES[dtype]), shape, begin, end
