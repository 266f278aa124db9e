"""The content of a lesson: its steps with their lines of source, and their numbers at each recorded moment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from compare.judge.reports.verdict import Row, Verdict, plain
from compare.lesson.backward_mode import BackwardMode
from compare.lesson.formulas import Formulas, as_text
from compare.lesson.source import Excerpt

ALL, SOME = 8, 5  # entries shown: all of a quantity, if it has no more than that; or some of it


@dataclass(frozen=True)
class Quantity:
    """An intermediate value, or the gradient of the loss with respect to one. `label` is its name in a step.

    With `along`, it is the derivative of that as the parameters move along a direction.
    """

    label: str
    path: str
    gradient: bool
    along: bool = False


@dataclass(frozen=True)
class Step:
    """One step of the derivation.

    `words` say why it is so; for an op they are the first paragraph of the docstring of the function that does it, and
    `derivation` is the rest. `by_hand` are the lines of `manual`, `by_jax` those of `autodiff` that make them
    unnecessary; `formulas` are made from the former.
    """

    name: str
    backward: bool
    title: str
    words: str
    by_hand: Sequence[Excerpt]
    by_jax: Sequence[Excerpt]
    quantities: Sequence[Quantity]
    formulas: Sequence[Formulas]
    derivation: str = ""
    order: int = 1  # 2: a step of the product of the Hessian with a vector, which is neither forward nor backward


@dataclass(frozen=True)
class Entry:
    """One entry of a quantity. `value` is that of the thing whose gradient it is, None where it is a value itself."""

    index: tuple[int, ...]
    value: float | None
    by_hand: float
    by_jax: float
    difference: float


@dataclass(frozen=True)
class Numbers:
    """A quantity at one moment: some entries, and the largest difference of all of them.

    `error` and `tolerance` are those of the entry that is closest to its tolerance. They and the verdict are from
    `check_gradients`, and None for values other than the loss, which it does not compare.
    """

    shape: tuple[int, ...]
    entries: Sequence[Entry]
    largest_difference: float
    error: float | None
    tolerance: float | None
    verdict: Verdict | None


@dataclass(frozen=True)
class Moment:
    """Everything after so many steps of training. `boundary` is the share of class 1 on a grid, for plane data."""

    step: int
    loss: float
    loss_by_jax: float
    verdict: Verdict
    sentence: str
    numbers: dict[str, Numbers]  # by label
    boundary: np.ndarray | None = None


@dataclass(frozen=True)
class Plane:
    """Data in the plane, for the picture: the examples, their classes, and the ticks of the grid."""

    x: np.ndarray
    y: np.ndarray
    ticks: tuple[np.ndarray, np.ndarray]

    @property
    def grid(self) -> np.ndarray:
        """Its points, (2, count), row by row."""
        return np.stack([axis.ravel() for axis in np.meshgrid(*self.ticks)])

    @property
    def y_and_x(self) -> tuple[int, int]:
        """The shape of a picture with a number for each point of the grid."""
        return len(self.ticks[1]), len(self.ticks[0])


@dataclass(frozen=True)
class Lesson:
    """The derivation of one network, and a tiny run of it."""

    model: str
    title: str
    about: Sequence[str]
    settings: dict[str, Any]
    steps: Sequence[Step]
    moments: Sequence[Moment]
    losses: np.ndarray
    backward_mode: BackwardMode
    root: Excerpt  # the line of `autodiff` that derives everything
    second_root: Excerpt | None = None  # and that of second order, where the lesson has it
    plane: Plane | None = None

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([moment.verdict for moment in self.moments])

    @property
    def sentence(self) -> str:
        if self.verdict is Verdict.AGREE:
            count, second = (sum(s.backward for s in self.steps), sum(s.order == 2 for s in self.steps))
            steps = f"{count} steps backward" + (f", and {second} of second order" if second else "")
            return (
                f"AGREE: all {steps}, by hand and by JAX, at {len(self.moments)} moments of a training of "
                f"{len(self.losses) - 1} steps."
            )
        moment = next(moment for moment in self.moments if moment.verdict is self.verdict)
        return f"After {moment.step} steps of training: {moment.sentence}"

    def to_dict(self) -> dict[str, Any]:
        return plain(
            {
                "verdict": self.verdict,
                "sentence": self.sentence,
                "model": self.model,
                "title": self.title,
                "about": self.about,
                "settings": self.settings,
                "root": asdict(self.root),
                "steps": [asdict(step) | {"formulas": [*map(as_text, step.formulas)]} for step in self.steps],
                "losses": self.losses,
                "moments": [
                    {key: value for key, value in asdict(moment).items() if key != "boundary"}
                    for moment in self.moments
                ],
                "backward_mode": asdict(self.backward_mode),
            }
        )


def numbers(
    value: np.ndarray | None, by_hand: np.ndarray, by_jax: np.ndarray, where: Sequence[tuple[int, ...]], row: Row | None
) -> Numbers:
    """The entries at `where`. `value` is None if the quantity is a value and not a gradient."""
    difference = np.abs(np.subtract(by_hand, by_jax, dtype=np.float64))
    entries = [
        Entry(
            index,
            None if value is None else float(value[index]),
            float(by_hand[index]),
            float(by_jax[index]),
            float(difference[index]),
        )
        for index in where
    ]
    largest = float(difference.max()) if difference.size else 0.0
    judged = (None, None, None) if row is None else (row.error, row.tolerance, row.verdict)
    return Numbers(by_hand.shape, entries, largest, *judged)


def all_or_first(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All entries if they are few, else those of the first example, which is the first column."""
    indices = list(np.ndindex(*shape))
    return indices if len(indices) <= ALL else [index for index in indices if not any(index[1:])]


def largest(gradient: np.ndarray) -> list[tuple[int, ...]]:
    """The entries with the largest gradients, in their own order."""
    order = np.argsort(-np.abs(gradient), axis=None, kind="stable")[:SOME]
    return [tuple(int(i) for i in np.unravel_index(place, gradient.shape)) for place in sorted(order.tolist())]
