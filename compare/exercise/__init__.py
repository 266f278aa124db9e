"""Exercises: a forward pass is given, the learner derives and writes the backward pass, and the judge checks it.

    entry.py            what an exercise is
    layers.py activations.py losses.py normalization.py windows.py sequences.py training.py    the exercises
         |
    sheet.py            the file or notebook that the learner fills in
         |
    reading.py          runs the learner's code; a sentence if it cannot be run
         |
    references.py judging.py    the same functions in JAX, and the judge's checks
    mistakes.py         common wrong answers that the judge detects but does not explain
         |
    outcome.py          the judge's report on an answer; the page of `manual` beside the learner's lines
    progress.py         the learner's record
    classroom.py worker.py      hands out exercises and collects answers; each learner's code has its own process

There are no solutions here. The solution of an exercise is the function of `manual` that it names as its page.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compare.exercise import activations, layers, losses, normalization, sequences, training, windows
from compare.exercise.entry import Exercise

if TYPE_CHECKING:
    from compare.exercise.outcome import Outcome

_MODULES = (layers, activations, losses, normalization, windows, sequences, training)
_ALL = {name: exercise for module in _MODULES for name, exercise in module.EXERCISES.items()}
_FROM_EASY_TO_HARD = (
    *("bias", "relu", "sigmoid", "tanh", "dense", "broadcast", "mean_squared_error", "softmax", "cross_entropy"),
    *("two_layer", "embedding", "dropout", "rms_norm", "layer_norm", "batch_norm", "max_pool", "convolution"),
    *("tied_embedding", "attention", "causal_attention", "rnn", "lstm_step", "momentum", "adam", "adamw"),
)

EXERCISES: dict[str, Exercise] = {name: _ALL.pop(name) for name in _FROM_EASY_TO_HARD}
assert not _ALL, f"these exercises have no place in the order: {', '.join(_ALL)}"

__all__ = ["EXERCISES", "Exercise", "check", "hint", "solution"]


class Sentence(str):
    """A string that a notebook displays without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def check(name: str, namespace: Mapping[str, Any]) -> "Outcome | Sentence":
    """Check an answer in a notebook: `check("bias", globals())`.

    Args:
        name: The exercise.
        namespace: The learner's functions by their names.

    Returns:
        The outcome, which a notebook displays. If the answer cannot be judged, because a blank is left, its code raises
        an exception, or it returns something that is no gradient, a sentence that says so.

    Raises:
        BadInput: A ValueError, if there is no such exercise.
    """
    from compare.errors import BadInput
    from compare.exercise.outcome import judged
    from compare.exercise.reading import Answer, known

    name = known(name)
    try:
        return judged(name, Answer(namespace))
    except BadInput as error:
        return Sentence(error)


def hint(name: str, step: int = 1) -> Sentence:
    """A hint for an exercise, for use in a notebook.

    Args:
        name: The exercise.
        step: 1 for the shapes, 2 for what is often forgotten, 3 for the formula.

    Returns:
        The hint.

    Raises:
        BadInput: A ValueError, if there is no such exercise or step.
    """
    from compare.errors import BadInput
    from compare.exercise.reading import known

    hints = EXERCISES[known(name)].hints
    if step not in range(1, len(hints) + 1):
        raise BadInput(f"the hints are 1 to {len(hints)}, got {step!r}.")
    return Sentence(hints[step - 1])


def solution(name: str) -> Sentence:
    """The solution of an exercise, which is a function of `manual`, for use in a notebook.

    Args:
        name: The exercise.

    Returns:
        Its derivation and its source.

    Raises:
        BadInput: A ValueError, if there is no such exercise.
    """
    from compare.exercise.outcome import page_beside
    from compare.exercise.reading import known

    return Sentence(page_beside(known(name), None, width=0))
