"""Shell completion: the values that an option or argument takes, which the shell offers after TAB.

The modules that know these values are imported only when the shell asks for them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

Complete = Callable[[str], list[str]]


def among(names: Callable[[], Iterable[str]], *, several: bool = False) -> Complete:
    """A completion of names.

    Args:
        names: returns all names.
        several: whether the value is a list of names with commas between them, of which the last is completed.

    Returns:
        A function from an incomplete value to the values that begin with it.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",") if several else ("", "", incomplete)
        return [f"{before}{comma}{name}" for name in names() if name.startswith(begun)]

    return complete


def models() -> list[str]:
    from compare.suite.models import MODELS

    return ["shallow", *MODELS]


def presets() -> Iterable[str]:
    from manual.transformer import PRESETS

    return PRESETS


def optimizers() -> Iterable[str]:
    from manual.optimizers import OPTIMIZERS

    return OPTIMIZERS


def activations() -> Iterable[str]:
    from compare.lesson.shallow import ACTIVATIONS

    return ACTIVATIONS


def ops() -> list[str]:
    from compare.bench.ops import SIZES

    return [*SIZES, "all"]


def dtypes() -> Iterable[str]:
    from compare.suite.problem import DTYPES

    return DTYPES


def platforms() -> Iterable[str]:
    from compare.platform import PLATFORMS

    return PLATFORMS


def exhibits() -> Iterable[str]:
    from compare.museum import EXHIBITS

    return EXHIBITS


def exercises() -> Iterable[str]:
    from compare.exercise import EXERCISES

    return EXERCISES


def contestants() -> list[str]:
    from compare.bench import models, ops, shallow

    return list(dict.fromkeys(name for kind in (shallow, models, ops) for name in kind.CONTESTANTS))


def datasets(incomplete: str) -> list[str]:
    """The values of --dataset that begin with `incomplete`: names of data sets, folders, and files that can be read."""
    from compare.suite.datasets import DATASETS, TABLES

    named = [name for name in DATASETS if name.startswith(incomplete)]
    folder, _, begun = incomplete.rpartition("/")
    try:
        there = sorted(Path(folder + "/" if "/" in incomplete else ".").iterdir())
    except OSError:
        return named
    prefix = incomplete[: len(incomplete) - len(begun)]
    folders = [f"{prefix}{path.name}/" for path in there if path.name.startswith(begun) and path.is_dir()]
    known = (*TABLES, ".npz")
    files = [f"{prefix}{p.name}" for p in there if p.name.startswith(begun) and p.suffix.lower() in known]
    return [*named, *files, *(name for name in folders if begun or not name.startswith("."))]
