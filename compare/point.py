"""Both sides at one point."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.agreement import Row, Verdict, compare_trees, leaves_by_path
from compare.conduct import Watched
from compare.localize import LOSS, with_offsets, zero_offsets
from compare.rounding import CONFIRMED, SAMPLES, measure


@dataclass(frozen=True)
class Point:
    """Both sides at one point, and one row for each thing compared, in backward order."""

    parameters: Any
    args: tuple[Any, ...]
    loss: Any
    gradients: Any
    intermediates: dict[str, np.ndarray]
    right_loss: float
    right_gradients: Any
    rows: list[Row]

    @property
    def verdict(self) -> Verdict:
        return Verdict.of([row.verdict for row in self.rows])

    @property
    def wrong(self) -> set[str]:
        return {row.path for row in self.rows if row.verdict is Verdict.DISAGREE}


@dataclass(frozen=True)
class Check:
    """The two functions, and what is known of them before any number is looked at."""

    by_hand: Watched
    loss: Callable[..., Any]
    dtype: np.dtype
    order: list[str]
    taps: dict[str, Any]
    names: list[str]
    seed: int

    def at(self, parameters: Any, args: tuple[Any, ...]) -> Point:
        """Evaluate both sides and compare. A disagreement is looked at again with more samples before it is one."""
        result = self.by_hand(parameters, *args)
        if not isinstance(result, tuple | list) or len(result) not in (2, 3):
            raise TypeError(
                "loss_and_gradients must return (loss, gradients) or (loss, gradients, intermediates), "
                f"got {type(result).__name__}."
            )
        loss, gradients = result[0], result[1]
        given = leaves_by_path(result[2]) if len(result) == 3 else {}
        taps = {name: tap for name, tap in self.taps.items() if name in given}
        point = self._compared(parameters, args, loss, gradients, given, taps, SAMPLES)
        for more in CONFIRMED:
            if point.verdict is not Verdict.DISAGREE:
                break
            point = self._compared(parameters, args, loss, gradients, given, taps, more)
        return point

    def _compared(
        self,
        parameters: Any,
        args: tuple[Any, ...],
        loss: Any,
        gradients: Any,
        given: dict[str, np.ndarray],
        taps: dict[str, Any],
        samples: int,
    ) -> Point:
        (right_loss, (right, right_taps)), (slack, (slacks, tap_slacks)) = measure(
            with_offsets(self.loss),
            (parameters, zero_offsets(taps)),
            *args,
            dtype=self.dtype,
            gradient=True,
            samples=samples,
            seed=self.seed,
        )
        rows = compare_trees({LOSS: loss}, {LOSS: right_loss.astype(self.dtype)}, {LOSS: right_loss}, {LOSS: slack})
        model = {name: np.zeros(tap.shape, self.dtype) for name, tap in taps.items()}
        rows += compare_trees({name: given[name] for name in taps}, model, right_taps, tap_slacks)
        rows += compare_trees(gradients, parameters, right, slacks)
        rows.sort(key=lambda row: self.order.index(row.path) if row.path in self.order else len(self.order))
        kept = {name: given[name] for name in taps}
        return Point(parameters, args, loss, gradients, kept, float(right_loss), right, rows)
