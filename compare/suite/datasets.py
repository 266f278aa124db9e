"""Datasets: those bundled with scikit-learn, those generated from a seed, and the user's own files."""

import importlib.util
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compare.errors import BadInput, unknown
from compare.suite.csv_file import read_csv
from compare.suite.labels import Labels, labels, told
from compare.suite.problem import Problem

Rows = tuple[np.ndarray, np.ndarray]  # x (examples, features), y (examples,) or (examples, outputs)


@dataclass(frozen=True)
class Dataset:
    """A bundled or generated data set.

    Attributes:
        rows: a function from a seed to (x, y).
        hidden: the default number of hidden units.
        learning_rate: the default learning rate.
    """

    rows: Callable[[int], Rows]
    hidden: int
    learning_rate: float


def load(name: str, *, seed: int = 0) -> Problem:
    """Load a data set.

    In a table with a header, the labels are in the column named `y`, or in the last one if there is no such column. In
    an .npz file, `x` has the shape (examples, features) and `y` (examples,) or (examples, outputs). Labels may be texts
    or numbers, of any number of classes.

    Args:
        name: a name in DATASETS, or the path of a .csv, .tsv, .txt or .npz file.
        seed: the seed of generated data and of the choice of held-out examples.

    Returns:
        The problem. Its notes say how the file was read.

    Raises:
        BadInput: if there is no such dataset, or the file cannot be read or has unsuitable data.
    """
    if name in DATASETS:
        return Problem.from_rows(name, *DATASETS[name].rows(seed), seed=seed)
    suffix = Path(name).suffix.lower()
    if suffix in TABLES:
        x, y, notes = read_csv(Path(name))
    elif suffix == ".npz":
        x, y, notes = *_read_npz(Path(name)), []
    else:
        raise unknown("dataset", name, DATASETS, ", or give the path of a .csv or .npz file")
    one_column = y.shape in ((len(y),), (len(y), 1)) if y.ndim else False
    found = labels(name, y) if one_column and y.size and y.dtype.kind in "biufU" else Labels(y, [])
    problem = Problem.from_rows(name, x, found.y, seed=seed)
    sentences = [f"{name}: {sentence}." for sentence in (*notes, *told(found))]
    return replace(problem, notes=tuple(sentences + _remarks(name, x, found.y)))


TABLES = (".csv", ".tsv", ".txt")


def _remarks(name: str, x: np.ndarray, y: np.ndarray) -> list[str]:
    if len(x) > 1:
        alike = y.size > 0 and (y == y.reshape(-1)[0]).all()
        return [f"{name}: every label is {y.reshape(-1)[0]:g}. Give examples of both classes."] if alike else []
    return [
        f"{name}: there is one example only. The mean over one example is its sum, so a missing factor of 1/batch "
        "cannot be detected, and every feature becomes 0 when it is standardized. Give two examples or more."
    ]


# ---------------------------------------------------------------------------------------- files


def _read_npz(path: Path) -> Rows:
    try:
        with path.open("rb") as file:  # opened here, because NumPy does not close a file that is not a valid archive
            if not zipfile.is_zipfile(file):
                raise BadInput(f"{path}: cannot be read as .npz: it was not written by numpy.savez.")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                missing = [name for name in ("x", "y") if name not in archive]
                if missing:
                    raise BadInput(
                        f"{path}: contains {', '.join(archive.files) or 'nothing'}, but arrays x and y are needed."
                    )
                x, y = archive["x"], archive["y"]
    except BadInput:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or error
        hint = " Pickled objects are never loaded; save plain arrays." if "pickle" in str(error) else ""
        raise BadInput(f"{path}: cannot be read as .npz: {said}.{hint}") from error
    if not (isinstance(x, np.ndarray) and isinstance(y, np.ndarray)):
        raise BadInput(f"{path}: x and y must both be arrays that numpy.savez has written.")
    return x, y


# -------------------------------------------------------------------------- bundled and generated


def _bundled(set_name: str, file: str, header_lines: int = 0) -> Rows:
    """A dataset of scikit-learn, read from its file, because importing scikit-learn takes longer than many checks."""
    for folder in getattr(importlib.util.find_spec("sklearn"), "submodule_search_locations", None) or []:
        with suppress(OSError, ValueError):  # other versions of scikit-learn may have another file or format
            table = np.loadtxt(Path(folder, "datasets", "data", file), delimiter=",", skiprows=header_lines)
            return table[:, :-1], table[:, -1]
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{set_name}")(return_X_y=True)
    return np.asarray(x), np.asarray(y, float)


def _breast_cancer(seed: int) -> Rows:
    """Wisconsin diagnostic breast cancer (UCI): 569 patients with 30 measurements. The label 1 means benign."""
    return _bundled("breast_cancer", "breast_cancer.csv", header_lines=1)


def digits() -> Rows:
    """Handwritten digits (UCI): 1,797 images of 8x8 pixels with values from 0 to 16, and the digit that each shows."""
    x, labels = _bundled("digits", "digits.csv.gz")
    return x, labels.astype(int)


def _digits(seed: int) -> Rows:
    """The digits with labels for ten outputs, one for each digit."""
    x, labels = digits()
    return x, np.eye(10)[labels]


def _moons(seed: int) -> Rows:
    """Points on two interleaving half circles, with noise. The label is the half circle."""
    from sklearn.datasets import make_moons

    x, y = make_moons(n_samples=400, noise=0.2, random_state=seed)
    return np.asarray(x), np.asarray(y)


def _flower(seed: int) -> Rows:
    """The planar dataset of Ng's course: the rose r = 4 sin(4 t) with noise, whose two halves are the classes."""
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
    """The digits as images (1797, 8, 8, 1) of mean 0 and standard deviation 1, and their classes, 0 to 9."""
    x, labels = digits()
    x = x.reshape(-1, 8, 8, 1)
    return (x - x.mean()) / x.std(), labels


def characters() -> tuple[str, np.ndarray]:
    """The help texts of Python's standard library: the characters that occur, and the text as indices into them."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    alphabet = "".join(sorted(set(text)))
    return alphabet, np.searchsorted(list(alphabet), list(text))
