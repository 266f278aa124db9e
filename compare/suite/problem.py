"""Data of a classification problem: checked, standardized, and split into training and held-out examples."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

from compare.errors import BadInput

DTYPES = ("float64", "float32")  # the dtypes in which networks are verified and timed


@dataclass(frozen=True)
class Problem:
    """Data in the notebook's convention: columns are examples, and labels are 0 or 1 with a row for each output.

    Features are standardized by the mean and the standard deviation of the training examples.

    Attributes:
        name: the name of the data.
        train_x: the features of the training examples.
        train_y: their labels.
        test_x: the features of the held-out examples; no columns if there are too few examples.
        test_y: their labels.
        notes: sentences on how a file was read.
    """

    name: str
    train_x: Float[np.ndarray, "n_x m"]
    train_y: Float[np.ndarray, "n_y m"]
    test_x: Float[np.ndarray, "n_x held_out"]
    test_y: Float[np.ndarray, "n_y held_out"]
    notes: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, name: str, x: np.ndarray, y: np.ndarray, *, seed: int) -> Self:
        """Make a problem from rows of examples.

        Every fourth example of a random permutation is held out, if there are eight or more.

        Args:
            name: the name of the data.
            x: (examples, features).
            y: (examples,) or (examples, outputs), 0 or 1.
            seed: the seed of the permutation.

        Raises:
            BadInput: if shapes or labels are wrong, or entries are missing or not finite.
        """
        x, y = _checked(name, x, y)
        order = np.random.default_rng(seed).permutation(len(x))
        held_out = order[::4] if len(x) >= 8 else order[:0]
        training = np.setdiff1d(order, held_out)
        x = _standardized(name, x, training)
        split = [np.ascontiguousarray(part[rows].T) for rows in (training, held_out) for part in (x, y)]
        train_x, train_y, test_x, test_y = split
        return cls(name, train_x, train_y, test_x, test_y)

    def astype(self, dtype: np.dtype) -> Self:
        arrays = (self.train_x, self.train_y, self.test_x, self.test_y)
        return type(self)(self.name, *(array.astype(dtype) for array in arrays), notes=self.notes)

    def __str__(self) -> str:
        features, examples = self.train_x.shape
        counts = ((features, "feature"), (self.train_y.shape[0], "output"), (examples, "example"))
        told = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)
        return f"{self.name}: {told} to train on, {self.test_x.shape[1]} held out"


def _standardized(name: str, x: np.ndarray, training: np.ndarray) -> np.ndarray:
    """x with columns of mean 0 and standard deviation 1 on the training rows. A constant column becomes 0."""
    # x is divided by the largest entry, so that its squares neither overflow nor underflow. It is centered twice,
    # because the first mean has a rounding error, and a constant column must become exactly 0.
    with np.errstate(over="ignore", invalid="ignore"):
        largest = np.abs(x[training]).max(axis=0)
        x = x / np.where(largest > 0, largest, 1)
        x = x - x[training].mean(axis=0)
        x = x - x[training].mean(axis=0)
        deviation = x[training].std(axis=0)
        x = np.where(deviation > 0, x / np.where(deviation > 0, deviation, 1), 0)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise BadInput(
            f"{name}: x overflows when it is standardized by the training examples, at example {row}, column {column} "
            "(counted from 0). Remove this example, or rescale the column."
        )
    return x


def _checked(name: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if y.ndim == 1:
        y = y[:, np.newaxis]
    if x.ndim != 2 or y.ndim != 2:
        raise BadInput(
            f"{name}: x must be (examples, features) and y (examples,) or (examples, outputs); "
            f"got shapes {x.shape} and {y.shape}."
        )
    if len(x) != len(y):
        raise BadInput(f"{name}: x has {len(x)} examples (rows) and y has {len(y)}; give one label row per example.")
    if x.size == 0 or y.size == 0:
        raise BadInput(f"{name}: no data: x has shape {x.shape} and y {y.shape}. Give at least one of each.")
    for letter, array in (("x", x), ("y", y)):
        if array.dtype.kind not in "biuf":
            raise BadInput(f"{name}: {letter} must hold real numbers, its dtype is {array.dtype}.")
    x, y = x.astype(np.float64), y.astype(np.float64)
    for letter, array in (("x", x), ("y", y)):
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise BadInput(
                f"{name}: {letter} is {array[row, column]} at example {row}, column {column} (counted from 0). "
                "Remove it, or fill in a value."
            )
    if not np.isin(y, (0, 1)).all():
        row, column = np.argwhere(~np.isin(y, (0, 1)))[0]
        raise BadInput(
            f"{name}: labels must be 0 or 1, but y is {y[row, column]:g} at example {row}, column {column} "
            "(counted from 0). Give each class a column of 0 and 1."
        )
    return x, y
