"""Lessons on networks: the derivation step by step, with its source code and the numbers of a short training run."""

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
        model: The name of the model.
        seed: The seed of the initial weights and of generated data.
        progress: Is called with a description of the current work and the number of steps that are done.
        given: Options that replace those of the lesson. For shallow these are dataset, hidden, activation,
            learning_rate and iterations; for another model, those of `compare.suite.models`.

    Returns:
        The lesson, from which `compare.lesson.text` and `compare.html.lesson` make text and a page.

    Raises:
        BadInput: For an unknown model or option, or an unsuitable value.
    """
    if model not in MODELS:
        raise unknown("lesson", model, MODELS)
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed must be from 0 to 2**32 - 1 = 4294967295, got {seed}.")
    progress("building the model", 0)
    return taught(MODELS[model](seed=seed, **given), seed=seed, progress=progress)
