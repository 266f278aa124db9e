"""What an exercise is: a forward pass that is given, a backward pass to write, and the function that solves it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Door = Literal["backward", "gradients", "step"]


@dataclass(frozen=True)
class Exercise:
    """An exercise.

    Attributes:
        title: A few words on what is derived.
        task: The equation to differentiate, the shapes of all arrays, and a question to begin with.
        blank: The body of the learner's function, in which `...` stands for each unknown expression.
        returns: The names of the values that the learner's function returns. Each is worth a point.
        hints: Three hints: on the shapes, on the term that is most often forgotten, and the formula.
        page: The function of `manual` that solves the exercise.
        inputs: The arguments of `given`, parameters first. For a step of an optimizer, the names of its state.
        door: What the learner writes: "backward" for a backward pass `<name>_backward(dy, cache)`, "gradients" for the
            gradients of a network `<name>_backward(parameters, cache)`, "step" for a step `<name>_step(...)` of an
            optimizer.
        signature: The arguments of the learner's function.
        given: The forward pass in NumPy, which is copied into the learner's file. None for an optimizer.
        output: The output of the forward pass, as the task calls it. dy is the gradient with respect to it.
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
        """The part of the function's name that follows the name of the exercise."""
        return "step" if self.door == "step" else "backward"

    @property
    def points(self) -> int:
        """The number of points: one for each gradient, or for each value that a step returns."""
        return len(self.returns)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Normally distributed numbers that depend only on the shape and the seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)
