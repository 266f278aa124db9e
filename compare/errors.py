"""The exceptions for unusable input and for errors of the code under test."""

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """The input cannot be used. The message says what was received, what was expected and what to do."""


def unknown(what: str, name: str, known: Iterable[str], more: str = "") -> BadInput:
    """The exception for an unknown name, with a suggestion if a known name is similar.

    Args:
        what: the noun for what is named, such as "dataset".
        name: the unknown name.
        known: the known names.
        more: the end of the list of known names, such as ", or a path".

    Returns:
        The exception, for the caller to raise.
    """
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.65)  # suggests mlp for mpl, no digits for iris
    there_are = f"; there are {', '.join(known)}{more}."
    if near:
        there_are = f". Did you mean {near[0]}? T{there_are[3:]}"
    return BadInput(f"no {what} is called {name!r}{there_are}")


class CodeUnderTestFailed(Exception):
    """The code under test raised an exception or returned an unusable result. `error` is the original exception.

    At the caller's own point, `error` itself is raised again. At a perturbed point, it becomes a note, because the code
    may reject values that its caller never uses. Exceptions of the judge's own code are never wrapped in this class.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


class Untraceable(TypeError):
    """JAX cannot trace a hand-written NumPy function. The message names the operation that cannot be traced."""
