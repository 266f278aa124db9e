"""Array files, read safely: .npz, .npy and .safetensors. Nothing is unpickled, and sizes are checked before memory is
taken.

A .safetensors file is eight bytes with the length of a JSON header, the header, and the numbers: for each array its
dtype, shape, and where in the numbers it begins and ends (https://huggingface.co/docs/safetensors).
"""

import json
import math
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
LONGEST_HEADER = 100_000_000  # bytes, as the format's own library has it


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Args:
        path: a .npz, .npy or .safetensors file.

    Returns:
        The arrays by name, in the order of the file; that of a .npy file by the file's name.

    Raises:
        BadInput: a ValueError, for what is no array file.
    """
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file.")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix not in (".npz", ".npy"):
        raise BadInput(f"{path}: array files end with .npz, .npy or .safetensors.")
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return {path.stem: _npy(file, path.stat().st_size)}
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()}
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as {path.suffix}: {error}.") from None
    except zlib.error as error:
        raise BadInput(f"{path} cannot be read as {path.suffix}: its contents are damaged ({error}).") from None


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    if not name.endswith(".npy"):
        raise ValueError(f"{name!r} in it is no array")
    with archive.open(name) as file:
        return _npy(file, archive.getinfo(name).file_size)


def _npy(file: Any, size: int) -> np.ndarray:
    """The array of a .npy file of `size` bytes. Raises ValueError before memory is taken that it does not fill."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read(file)
    except Exception as error:  # NumPy parses the header as Python's literals, which fail in many ways
        raise ValueError(f"its header is damaged ({type(error).__name__}: {error})") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    left = size - file.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"an array of shape {shape} and {dtype} does not fill the {left} bytes that it has")
    array = np.frombuffer(file.read(left), dtype)
    if array.size != math.prod(shape):
        raise ValueError("it is cut off")
    return array.reshape(shape, order="F" if in_columns else "C").copy(order="K")


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(LONGEST_HEADER, size - 8):
            raise BadInput(f"{path} is no .safetensors file, or is cut off: its header does not fit into it.")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):  # or no text, or a number too long
            raise BadInput(f"{path} is no .safetensors file: its header is no JSON.") from None
        if not isinstance(header, dict):
            raise BadInput(f"{path} is no .safetensors file: its header names no arrays.")
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, shape, begin, end = _entry(path, name, entry)
            count = math.prod(shape)
            if not 0 <= begin <= end <= size - 8 - length or end - begin != count * dtype.itemsize:
                raise BadInput(f"{path}: the array {name!r} does not lie within the file, or has another size.")
            file.seek(8 + length + begin)
            arrays[name] = np.frombuffer(file.read(end - begin), dtype).reshape(shape)
    return arrays


def _entry(path: Path, name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if not isinstance(dtype, str) or not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError
    except (TypeError, KeyError, ValueError):
        raise BadInput(f"{path}: the entry of {name!r} in its header is malformed.") from None
    if dtype not in DTYPES:
        raise BadInput(f"{path}: the array {name!r} has the dtype {dtype}; known are {', '.join(DTYPES)}.")
    return np.dtype(DTYPES[dtype]), shape, begin, end


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as a .safetensors file.

    Args:
        path: of the file.
        arrays: by name, in their order.

    Raises:
        BadInput: a ValueError, for a dtype that the format does not have.
    """
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    header, blocks, at = {}, [], 0
    for name, array in arrays.items():
        block = np.ascontiguousarray(array)
        if block.dtype not in names:
            raise BadInput(f"{name} has the dtype {block.dtype}; known are {', '.join(DTYPES)}.")
        header[name] = {
            "dtype": names[block.dtype],
            "shape": list(np.shape(array)),
            "data_offsets": [at, at + block.nbytes],
        }
        blocks.append(block)
        at += block.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for block in blocks:
            file.write(block.tobytes())
