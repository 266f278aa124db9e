"""Lessons on networks: the derivation step by step, with its lines of source and the numbers of a short run."""

from typing import Any

from compare.errors import BadInput, unknown
from compare.lesson import gpt, layered, shallow
from compare.lesson.content import Lesson
from compare.lesson.subject import Progress, taught

MODELS = {"shallow": shallow.subject, **layered.SUBJECTS, "gpt": gpt.subject}


def lesson(
    model: str = "shallow", *, seed: int = 0, progress: Progress = lambda what, steps: None, **given: Any
) -> Lesson:
    """The lesson on one of MODELS. The same seed gives the same lesson.

    Args:
        model: What is taught.
        seed: For the initial weights and made data.
        progress: Is told what is done, and how much of it.
        given: Options instead of the lesson's own: of shallow dataset, hidden, activation, learning_rate, iterations;
            of the other models those of `compare.suite.models`.

    Raises:
        BadInput: For what there is not.
    """
    if model not in MODELS:
        raise unknown("lesson", model, MODELS)
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed must be from 0 to 2**32 - 1 = 4294967295, got {seed}.")
    progress("building the model", 0)
    return taught(MODELS[model](seed=seed, **given), seed=seed, progress=progress)
