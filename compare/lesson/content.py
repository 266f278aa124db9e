"""The content of a lesson: its steps with their lines of source, and their numbers at each recorded moment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from compare.judge.reports.verdict import Row, Verdict, plain
from compare.lesson.backward_mode import BackwardMode
from compare.lesson.formulas import Formulas, as_text
from compare.lesson.source import Excerpt

ALL, SOME = 8, 5  # A quantity with at most ALL entries is shown whole; of a larger one, SOME entries are shown.


@dataclass(frozen=True)
class Quantity:
    """An intermediate value, or the gradient of the loss with respect to one.

    Attributes:
        label: The key under which its numbers are kept.
        path: The path of the value among the parameters and intermediate values.
        gradient: Whether the quantity is the gradient with respect to the value, and not the value itself.
        along: Whether it is the directional derivative as the parameters move along a vector.
        symbol: Its notation for readers, such as "dJ/dW (layer 2)". Empty if the label is notation already.
    """

    label: str
    path: str
    gradient: bool
    along: bool = False
    symbol: str = ""

    @property
    def shown(self) -> str:
        """The name for readers."""
        return self.symbol or self.label


@dataclass(frozen=True)
class Step:
    """One step of the derivation.

    Attributes:
        name: The step's key.
        backward: Whether it belongs to the backward pass.
        title: Its heading.
        words: The reason for the formula. For an op, the first paragraph of the docstring of its function.
        by_hand: The lines of `manual` that compute it.
        by_jax: The lines of `autodiff` from which JAX derives the same.
        quantities: What the step computes.
        formulas: The formulas, made from `by_hand`.
        derivation: For an op, the rest of the docstring.
        order: 2 for a step of the Hessian-vector product, which is neither forward nor backward.
        short: What a list of steps calls it. Empty if the name is notation already.
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
    order: int = 1
    short: str = ""

    @property
    def shown(self) -> str:
        """The name for readers."""
        return self.short or self.name


@dataclass(frozen=True)
class Entry:
    """One entry of a quantity. For a gradient, `value` is the entry of the array that is differentiated; else None."""

    index: tuple[int, ...]
    value: float | None
    by_hand: float
    by_jax: float
    difference: float


@dataclass(frozen=True)
class Numbers:
    """A quantity at one moment: some of its entries, and the largest difference over all of them.

    `error` and `tolerance` are those of the entry that is closest to its tolerance. These two and the verdict come from
    `check_gradients`. They are None for forward values except the loss, because it does not compare these.
    """

    shape: tuple[int, ...]
    entries: Sequence[Entry]
    largest_difference: float
    error: float | None
    tolerance: float | None
    verdict: Verdict | None


@dataclass(frozen=True)
class Moment:
    """The state after `step` steps of training. For data in the plane, `boundary` is the probability of class 1 on a
    grid."""

    step: int
    loss: float
    loss_by_jax: float
    verdict: Verdict
    sentence: str
    numbers: dict[str, Numbers]  # by label
    boundary: np.ndarray | None = None


@dataclass(frozen=True)
class Plane:
    """Data with two features, for the picture: the examples, their classes, and the ticks of the grid."""

    x: np.ndarray
    y: np.ndarray
    ticks: tuple[np.ndarray, np.ndarray]

    @property
    def grid(self) -> np.ndarray:
        """The points of the grid, (2, count), row by row."""
        return np.stack([axis.ravel() for axis in np.meshgrid(*self.ticks)])

    @property
    def y_and_x(self) -> tuple[int, int]:
        """The shape of an array with a number for each point of the grid."""
        return len(self.ticks[1]), len(self.ticks[0])


@dataclass(frozen=True, repr=False)
class Lesson:
    """The derivation of one network, with the numbers of a short training run. A notebook displays it as its page."""

    model: str
    title: str
    about: Sequence[str]
    settings: dict[str, Any]
    steps: Sequence[Step]
    moments: Sequence[Moment]
    losses: np.ndarray
    backward_mode: BackwardMode
    root: Excerpt  # the line of `autodiff` that derives all gradients
    second_root: Excerpt | None = None  # the line that derives the second order; None for a lesson without it
    plane: Plane | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all moments."""
        return Verdict.of([moment.verdict for moment in self.moments])

    @property
    def sentence(self) -> str:
        """The verdict in one sentence; unless it is AGREE, that of the first moment with this verdict."""
        if self.verdict is Verdict.AGREE:
            count, second = (sum(s.backward for s in self.steps), sum(s.order == 2 for s in self.steps))
            steps = f"{count} backward steps" + (f" and {second} steps of second order" if second else "")
            return (
                f"AGREE: all {steps} agree with JAX at {counted(len(self.moments), 'moment')} of a training run of "
                f"{counted(len(self.losses) - 1, 'step')}."
            )
        moment = next(moment for moment in self.moments if moment.verdict is self.verdict)
        return f"After {counted(moment.step, 'step')} of training: {moment.sentence}"

    def __repr__(self) -> str:
        return f"<Lesson: {self.title}. {self.sentence}>"

    def _repr_html_(self) -> str:
        from compare.html.lesson import lesson_frame  # when it is displayed, because pages are made of lessons

        return lesson_frame(self)

    def to_dict(self) -> dict[str, Any]:
        """The lesson as JSON types, without the pictures."""
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


def counted(number: int, what: str) -> str:
    """A number of things: "1 step", "2 steps"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def numbers(
    value: np.ndarray | None, by_hand: np.ndarray, by_jax: np.ndarray, where: Sequence[tuple[int, ...]], row: Row | None
) -> Numbers:
    """The numbers of a quantity at one moment.

    Args:
        value: The array that is differentiated; None unless the quantity is a gradient.
        by_hand: The quantity by `manual`.
        by_jax: The quantity by JAX.
        where: The indices of the entries that are shown.
        row: The quantity's row in the judge's report; None if it has none.
    """
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
    """The indices of all entries if there are at most ALL; else those of the first example, which is a column."""
    indices = list(np.ndindex(*shape))
    return indices if len(indices) <= ALL else [index for index in indices if not any(index[1:])]


def largest(gradient: np.ndarray) -> list[tuple[int, ...]]:
    """The indices of the SOME entries with the largest magnitudes, in the order of the array."""
    order = np.argsort(-np.abs(gradient), axis=None, kind="stable")[:SOME]
    return [tuple(int(i) for i in np.unravel_index(place, gradient.shape)) for place in sorted(order.tolist())]
