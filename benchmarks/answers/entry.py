"""An answer to an exercise: a typical wrong one, with its public source, or an unusual right one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]
UNREPORTED = "no public report is known"


@dataclass(frozen=True)
class Answer:
    """An answer and the expected report on it.

    `kinds` are the causes that may be named; any other is false. A right answer has none. One of them must be named,
    except for an answer with `not_yet`, for which the judge names the place but has no hypothesis. `source` is a public
    report of the mistake or UNREPORTED, and empty for a right answer; `note` says in which other function the mistake
    was made. `places` are the possible first wrong rows, or "-" if no row is wrong.
    """

    exercise: str
    name: str
    function: Function
    source: str = ""
    places: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    note: str = ""
    not_yet: bool = False

    @property
    def right(self) -> bool:
        return not self.source


def into(answers: list[Answer]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two decorators, `wrong` and `right`, which append the decorated function to `answers`."""

    def wrong(
        exercise: str, source: str, places: str, kinds: str, note: str = "", *, not_yet: bool = False
    ) -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            there, causes = tuple(places.split()), frozenset(kinds.split())
            answers.append(Answer(exercise, _name(function), function, source, there, causes, note, not_yet))
            return function

        return register

    def right(exercise: str) -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            answers.append(Answer(exercise, _name(function), function))
            return function

        return register

    return wrong, right


def _name(function: Any) -> str:
    return function.__name__.replace("_", " ")
