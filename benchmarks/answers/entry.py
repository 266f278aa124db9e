"""What an answer to an exercise is: a wrong one that people have given, with its source, or a right but unusual one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]
UNREPORTED = "a learner's try here; no public report is known"


@dataclass(frozen=True)
class Answer:
    """`kinds` are the causes that may be named; any other is false. A right answer has none.

    One of them must be named, unless `not_yet`: the judge catches and places that answer, and has no cause for it so
    far. `source` is where the mistake is public (or UNREPORTED), and empty for a right answer; `note` says where it was
    made if elsewhere. `places` are the rows of which one must be named first, "-" where it is in none.
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
    """Two decorators, `wrong` and `right`, which append the function below them to `answers`."""

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
