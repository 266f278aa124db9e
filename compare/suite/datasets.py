"""Where data comes from: sets bundled with scikit-learn, sets made from a seed, and the user's own file."""

import csv
import importlib.util
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compare.errors import BadInput
from compare.suite.problem import Problem

Rows = tuple[np.ndarray, np.ndarray]  # x (examples, features), y (examples,) or (examples, outputs)


@dataclass(frozen=True)
class Dataset:
    """Rows by seed, and the hidden size and learning rate with which the network learns them well."""

    rows: Callable[[int], Rows]
    hidden: int
    learning_rate: float


def load(name: str, *, seed: int = 0) -> Problem:
    """The data set called `name` in DATASETS, or the file at that path (.csv or .npz).

    In a CSV file with a header, the column named `y` holds the labels, or else the last one. In an .npz
    file, `x` is (examples, features) and `y` (examples,) or (examples, outputs). Raises BadInput.
    """
    if name in DATASETS:
        x, y = DATASETS[name].rows(seed)
    elif Path(name).suffix.lower() in _READERS:
        x, y = _READERS[Path(name).suffix.lower()](Path(name))
    else:
        raise BadInput(
            f"no dataset is called {name!r}; there are {', '.join(DATASETS)}, or give the path of a .csv or .npz file."
        )
    return Problem.from_rows(name, x, y, seed=seed)


# ---------------------------------------------------------------------------------------- files


def _read_csv(path: Path) -> Rows:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as CSV: {error}.") from error
    if len(lines) < 2:
        raise BadInput(f"{path}: a header line and at least one example are needed, found {len(lines)} lines.")
    (_, header), *examples = lines
    header = [name.strip() for name in header]
    if len(header) < 2:
        raise BadInput(f"{path}: one column only; at least one feature and one label column are needed.")
    if all(_is_number(cell) for cell in header):
        raise BadInput(f"{path}: the first line holds numbers only; it must be a header that names the columns.")
    if header.count("y") > 1:
        raise BadInput(f"{path}: {header.count('y')} columns are called 'y'; only one can hold the labels.")
    table = np.empty((len(examples), len(header)))
    for i, (line, row) in enumerate(examples):
        if len(row) != len(header):
            raise BadInput(f"{path}, line {line}: {len(row)} cells where the header names {len(header)} columns.")
        for j, cell in enumerate(row):
            if not _is_number(cell):
                raise BadInput(
                    f"{path}, line {line}, column {header[j]!r}: {cell!r} is not a number. "
                    "Encode text as numbers, or drop the column."
                )
            table[i, j] = float(cell)
    label = header.index("y") if "y" in header else len(header) - 1
    return np.delete(table, label, axis=1), table[:, label]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_npz(path: Path) -> Rows:
    try:
        with path.open("rb") as file:  # opened here, because NumPy leaves a file open that is no good archive
            if not zipfile.is_zipfile(file):
                raise BadInput(f"{path}: cannot be read as .npz: it is not an archive such as numpy.savez writes.")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                missing = [name for name in ("x", "y") if name not in archive]
                if missing:
                    raise BadInput(
                        f"{path}: holds {', '.join(archive.files) or 'nothing'}, but arrays named x and y are needed."
                    )
                x, y = archive["x"], archive["y"]
    except BadInput:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        hint = " Pickled objects are never loaded; save plain arrays." if "pickle" in str(error) else ""
        raise BadInput(f"{path}: cannot be read as .npz: {error}.{hint}") from error
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):
        raise BadInput(f"{path}: x and y are not both arrays such as numpy.savez writes.")
    return x, y


_READERS: dict[str, Callable[[Path], Rows]] = {".csv": _read_csv, ".npz": _read_npz}


# ------------------------------------------------------------------------------- bundled and made


def _bundled(set_name: str, file: str, header_lines: int = 0) -> Rows:
    """A set that comes with scikit-learn, read from its file: to import scikit-learn takes longer than many a check."""
    for folder in getattr(importlib.util.find_spec("sklearn"), "submodule_search_locations", None) or []:
        with suppress(OSError, ValueError):  # it has moved, or has another form
            table = np.loadtxt(Path(folder, "datasets", "data", file), delimiter=",", skiprows=header_lines)
            return table[:, :-1], table[:, -1]
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{set_name}")(return_X_y=True)
    return np.asarray(x), np.asarray(y, float)


def _breast_cancer(seed: int) -> Rows:
    """Wisconsin diagnostic breast cancer (UCI): 569 patients, 30 measurements; 1 is benign."""
    return _bundled("breast_cancer", "breast_cancer.csv", header_lines=1)


def digits() -> Rows:
    """Handwritten digits (UCI): 1,797 images of 8x8 pixels, from 0 to 16, and which digit each shows."""
    x, labels = _bundled("digits", "digits.csv.gz")
    return x, labels.astype(int)


def _digits(seed: int) -> Rows:
    """Ten outputs, one for each digit."""
    x, labels = digits()
    return x, np.eye(10)[labels]


def _moons(seed: int) -> Rows:
    """Two interleaving half circles with noise."""
    from sklearn.datasets import make_moons

    x, y = make_moons(n_samples=400, noise=0.2, random_state=seed)
    return np.asarray(x), np.asarray(y)


def _flower(seed: int) -> Rows:
    """The planar set of Ng's course: the rose r = 4 sin(4 t) with noise, its two halves as the classes."""
    random = np.random.default_rng(seed)
    half_turn, petals, radius, noise, per_class = 3.12, 4, 4.0, 0.2, 200
    halves = []
    for half in (0, 1):
        t = np.linspace(half * half_turn, (half + 1) * half_turn, per_class)
        t = t + noise * random.standard_normal(per_class)
        r = radius * np.sin(petals * t) + noise * random.standard_normal(per_class)
        halves.append(np.stack([r * np.sin(t), r * np.cos(t)], axis=1))
    return np.concatenate(halves), np.repeat([0.0, 1.0], per_class)


DATASETS = {
    "breast-cancer": Dataset(_breast_cancer, hidden=16, learning_rate=0.3),
    "digits": Dataset(_digits, hidden=32, learning_rate=1.0),
    "moons": Dataset(_moons, hidden=8, learning_rate=1.0),
    "flower": Dataset(_flower, hidden=8, learning_rate=1.0),
}

# ------------------------------------------------------------------------- for networks of the catalog


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """The digits as images (1797, 8, 8, 1) of mean 0 and deviation 1, and their classes, 0 to 9."""
    x, labels = digits()
    x = x.reshape(-1, 8, 8, 1)
    return (x - x.mean()) / x.std(), labels


def characters() -> tuple[str, np.ndarray]:
    """The help texts of Python's standard library: the alphabet that they use, and them as places in it."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    alphabet = "".join(sorted(set(text)))
    return alphabet, np.searchsorted(list(alphabet), list(text))
