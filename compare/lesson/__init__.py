"""A network as a lesson: its derivation step by step, the lines of source that do it, and the numbers of a tiny run."""

from compare.errors import BadInput, unknown
from compare.lesson import gpt, layered, shallow
from compare.lesson.content import Lesson
from compare.lesson.subject import Progress, taught

MODELS = {"shallow": shallow.subject, **layered.SUBJECTS, "gpt": gpt.subject}


def lesson(model: str = "shallow", *, seed: int = 0, progress: Progress = lambda what, steps: None) -> Lesson:
    """The lesson on one of MODELS. The same seed gives the same lesson. Raises BadInput for what there is not."""
    if model not in MODELS:
        raise unknown("lesson", model, MODELS)
    if not 0 <= seed < 2**32:
        raise BadInput(f"seed must be from 0 to 2**32 - 1 = 4294967295, got {seed}.")
    progress("building the model", 0)
    return taught(MODELS[model](seed=seed), seed=seed, progress=progress)
