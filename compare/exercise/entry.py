"""What an exercise is: a forward pass that is given, a backward pass that is not, and the page that has it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Door = Literal["backward", "gradients", "step"]


@dataclass(frozen=True)
class Exercise:
    """`given` is written into the learner's file as it stands, and `page` is the function of `manual` that solves it.

    `door` says what the learner writes: a backward pass `<name>_backward(dy, cache)`, the gradients of a network
    `<name>_backward(parameters, cache)`, or one step of an optimizer, `<name>_step(...)`.

    Attributes:
        title: what is derived, in a few words.
        task: the equation to differentiate, the shapes of all arrays, and what to think about first.
        blank: the body of the learner's function, each unknown `...`.
        returns: what the learner's function returns, by name, as many as there are points.
        hints: about the shape; about the term that is most often forgotten; the formula.
        page: the function of `manual` that solves it.
        inputs: what `given` is called with, parameters first; of a step, the state as it begins, by name.
        door: which check judges it.
        signature: the arguments of the learner's function.
        given: the forward pass, in NumPy alone; None where there is none, as for an optimizer.
        output: what the forward pass returns, in the words of the task; dy is the gradient with respect to it.
    """

    title: str
    task: str
    blank: str
    returns: tuple[str, ...]
    hints: tuple[str, str, str]
    page: Callable[..., Any]
    inputs: tuple[Any, ...]
    door: Door = "backward"
    signature: str = "dy, cache"
    given: Callable[..., Any] | None = None
    output: str = "y"

    @property
    def suffix(self) -> str:
        """What the learner's function is called after the exercise's name."""
        return "step" if self.door == "step" else "backward"

    @property
    def points(self) -> int:
        """One for each gradient, or for each value that a step returns."""
        return len(self.returns)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that are the same in every session, and others for every shape."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)
