"""The exceptions for unusable input and for errors of the code under test."""

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """The input cannot be used. The message says what was received, what was expected and what to do."""


def unknown(what: str, name: str, known: Iterable[str], more: str = "") -> BadInput:
    """What to raise for a name that there is not.

    Args:
        what: The kind of thing that is named, as "dataset".
        name: The name that was given.
        known: The names that there are.
        more: What could be given besides, as ", or a path".
    """
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.65)  # mpl is mlp, iris not digits
    there_are = f"; there are {', '.join(known)}{more}."
    if near:
        there_are = f". Did you mean {near[0]}? T{there_are[3:]}"
    return BadInput(f"no {what} is called {name!r}{there_are}")


class CodeUnderTestFailed(Exception):
    """The code under test raised an exception or returned something unusable; `error` says what.

    At the caller's own point, `error` itself is raised. At a perturbed point it becomes a note, because the code may
    reject values that its caller never uses. An exception in the judge's own code is never wrapped in this class.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


class Untraceable(TypeError):
    """JAX cannot trace hand-written NumPy, because it needs the values of its arrays. The message says what for."""
