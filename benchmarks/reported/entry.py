"""An entry: a publicly reported bug, rebuilt, with its repair."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compare import (
    GradientReport,
    TrajectoryReport,
    check_gradients,
    check_hessian,
    check_hvp,
    check_jacobian,
    check_jvp,
    check_trajectory,
    check_vjp,
)

Report = GradientReport | TrajectoryReport
Pair = Callable[[bool], tuple[Any, ...]]

DOORS: dict[str, Callable[..., Report]] = {
    "gradients": check_gradients,
    "vjp": check_vjp,
    "jvp": check_jvp,
    "hvp": check_hvp,
    "jacobian": check_jacobian,
    "hessian": check_hessian,
    "trajectory": check_trajectory,
}


@dataclass(frozen=True)
class ReportedFault:
    """A bug and the expected report on it.

    `pair(broken)` returns the arguments of the check that `door` names, with the broken or the repaired code. `source`
    is the issue or pull request. `wrong` says in a sentence what was wrong. `places` are the possible first wrong rows;
    there are several only if the same error is in all of them. `kinds` are the causes that may be named; any other is
    false.
    """

    name: str
    source: str
    door: str
    places: tuple[str, ...]
    kinds: frozenset[str]
    wrong: str
    pair: Pair
    options: Mapping[str, Any] = field(default_factory=dict)

    def report(self, *, broken: bool) -> Report:
        return DOORS[self.door](*self.pair(broken), **self.options)


def into(faults: list[ReportedFault]) -> Callable[..., Callable[[Pair], Pair]]:
    """A decorator that makes an entry of the decorated function and appends it to `faults`."""

    def fault(
        name: str, source: str, door: str, places: str, wrong: str, kinds: str = "", **options: Any
    ) -> Callable[[Pair], Pair]:
        def register(pair: Pair) -> Pair:
            faults.append(
                ReportedFault(name, source, door, tuple(places.split()), frozenset(kinds.split()), wrong, pair, options)
            )
            return pair

        return register

    return fault
