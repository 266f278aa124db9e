"""What an answer to an exercise is: a wrong one that people have given, with its source, or a right but unusual one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]


@dataclass(frozen=True)
class Answer:
    """`kinds` are the causes that may be named, of which one must be; any other is false.

    Without kinds, a wrong answer is one whose cause the judge does not know yet: it must be caught and placed, and no
    cause may be named. `source` is where the mistake is public, and empty for a right answer; `note` says where it was
    made if elsewhere. `places` are the rows of which one must be named first, "-" where it is in none.
    """

    exercise: str
    name: str
    function: Function
    source: str = ""
    places: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    note: str = ""

    @property
    def right(self) -> bool:
        return not self.source


def into(answers: list[Answer]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two decorators, `wrong` and `right`, which append the function below them to `answers`."""

    def wrong(exercise: str, source: str, places: str, kinds: str, note: str = "") -> Callable[[Function], Function]:
        def register(function: Function) -> Function:
            there, causes = tuple(places.split()), frozenset(kinds.split())
            answers.append(Answer(exercise, _name(function), function, source, there, causes, note))
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
