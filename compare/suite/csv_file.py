"""Reads a table of numbers with a column of labels from a .csv, .tsv or .txt file.

The delimiter, the decimal separator and the encoding are detected, and reported if they are not the usual ones.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compare.errors import BadInput
from compare.suite.labels import is_number

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # the byte-order marks with which a file in UTF-16 begins


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a table. The labels are in the column named `y`, or in the last one if there is no such column.

    Args:
        path: the file.

    Returns:
        x of shape (examples, features); y of shape (examples,), which holds numbers, or texts if any label is not a
        number; and sentences on how the file was read.

    Raises:
        BadInput: if the file is not such a table. The message names the line and the column.
    """
    try:
        text, notes = _decoded(path.read_bytes())
        lines, delimiter = _lines(text)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read as CSV: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as CSV: {error}.") from error
    if len(lines) < 2:
        raise BadInput(f"{path}: a header line and at least one example are needed, found {len(lines)} lines.")
    (_, header), *examples = lines
    header = [name.strip() for name in header]
    if len(header) < 2:
        raise BadInput(f"{path}: one column only; at least one feature and one label column are needed.")
    if all(is_number(cell) for cell in header):
        raise BadInput(f"{path}: the first line holds numbers only; it must be a header that names the columns.")
    if header.count("y") > 1:
        raise BadInput(f"{path}: {header.count('y')} columns are called 'y'; only one can hold the labels.")
    for line, row in examples:
        if len(row) != len(header):
            raise BadInput(f"{path}, line {line}: {len(row)} cells where the header names {len(header)} columns.")
    label = header.index("y") if "y" in header else len(header) - 1
    if delimiter != "," and _has_decimal_commas(examples):
        examples = [(line, [cell.replace(",", ".") for cell in row]) for line, row in examples]
        notes.append("a comma in a number was read as its decimal point")
    if delimiter != ",":
        notes.insert(0, f"its cells are separated by {DELIMITERS[delimiter]}")
    x = np.empty((len(examples), len(header) - 1))
    for i, (line, row) in enumerate(examples):
        for j, (name, cell) in enumerate((header[k], cell) for k, cell in enumerate(row) if k != label):
            x[i, j] = _number(cell, f"{path}, line {line}, column {name!r}", named="y" in header)
    return x, _labels([(line, row[label].strip()) for line, row in examples], path, header[label]), notes


def _decoded(content: bytes) -> tuple[str, list[str]]:
    if content.startswith(UTF_16):
        return content.decode("utf-16"), ["it was read as UTF-16"]
    if b"\x00" in content:
        raise csv.Error("it contains zero bytes, so it is not text")
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        return content.decode("latin-1"), ["it is not UTF-8, and was read as Latin-1"]


def _lines(text: str) -> tuple[list[tuple[int, list[str]]], str]:
    """The rows that are not empty, each with the number of the line on which it ends, and the delimiter.

    The delimiter is the one that splits the header into the most names.
    """
    headers = {d: next((row for _, row in _parsed(text, d)), []) for d in DELIMITERS}
    delimiter = max(headers, key=lambda d: len(headers[d]))
    return list(_parsed(text, delimiter)), delimiter


def _parsed(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return ((reader.line_num, row) for row in reader if row)


def _has_decimal_commas(examples: Sequence[tuple[int, Sequence[str]]]) -> bool:
    """Whether commas are decimal separators: some cells have one, and no number has a point as well.

    In a number with both, such as 1,234.5, the comma separates thousands.
    """
    cells = [cell for _, row in examples for cell in row]
    commas = any(re.fullmatch(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*", cell) for cell in cells)
    return commas and not any("." in cell and is_number(cell.replace(",", "")) for cell in cells)


def _labels(cells: Sequence[tuple[int, str]], path: Path, name: str) -> np.ndarray:
    for line, cell in cells:
        if not cell:
            raise BadInput(f"{path}, line {line}, column {name!r}: there is no label.")
    if all(is_number(cell) for _, cell in cells):
        return np.array([float(cell) for _, cell in cells])
    return np.array([cell for _, cell in cells])


MISSING = {"", "na", "n/a", "null", "none", "missing", "?", "-", "."}  # what tables have in place of a number


def _number(cell: str, where: str, *, named: bool) -> float:
    """The number in a cell. `named` says whether a column is named y, so that this one cannot hold the labels."""
    if cell.strip().lower() in MISSING:
        what = f"the value is missing ({cell.strip()!r})" if cell.strip() else "the cell is empty"
        raise BadInput(f"{where}: {what}. Fill in a number, or remove the row.")
    if not is_number(cell):
        cure = "Encode text as numbers, or drop the column."
        if not named:
            cure = f"If the column holds the labels, name it y or move it to the end. Else: {cure}"
        raise BadInput(f"{where}: {cell!r} is not a number. {cure}")
    return float(cell)
