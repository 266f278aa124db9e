"""Exercises: a forward pass is given, the learner derives and writes the backward pass, and the judge says what of it.

    entry.py            what an exercise is
    layers.py activations.py losses.py normalization.py windows.py sequences.py training.py    the exercises
         |
    sheet.py            the learner's file, or notebook, with its blanks
         |
    reading.py          what the learner wrote, and sentences about what cannot be run
         |
    references.py judging.py    the same functions in JAX, and the judge's checks
         |
    outcome.py          what is said of it; the page of `manual` beside the learner's own
    progress.py         the learner's record
    classroom.py worker.py      exercises handed out and collected, each learner's code in a process of its own

No solution stands here: it is the function of `manual` that an exercise names as its page.
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
    """What a notebook shows as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def check(name: str, namespace: Mapping[str, Any]) -> "Outcome | Sentence":
    """Have the judge look at an answer in a notebook: `check("bias", globals())`.

    Args:
        name: which exercise.
        namespace: where the learner's functions are, by their names.

    Returns:
        The outcome, which shows itself; or, of an answer that cannot be judged (a blank is left, it raises, it returns
        what is no gradient), the sentence that says why.

    Raises:
        BadInput: a ValueError, if there is no such exercise.
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
    """A hint, in a notebook: 1 about the shapes, 2 about what is often forgotten, 3 the formula.

    Raises:
        BadInput: a ValueError, if there is no such exercise or step.
    """
    from compare.errors import BadInput
    from compare.exercise.reading import known

    hints = EXERCISES[known(name)].hints
    if step not in range(1, len(hints) + 1):
        raise BadInput(f"the hints are 1 to {len(hints)}, got {step!r}.")
    return Sentence(hints[step - 1])


def solution(name: str) -> Sentence:
    """The page of `manual` that solves an exercise. Raises BadInput, a ValueError, if there is no such exercise."""
    from compare.exercise.outcome import page_beside
    from compare.exercise.reading import known

    return Sentence(page_beside(known(name), None, width=0))
