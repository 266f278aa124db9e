"""Gradients by hand against gradients by JAX, leaf by leaf."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import jax
import numpy as np

from compare.agreement import Row, Verdict, compare_trees, plain
from compare.platform import precise
from compare.rendering import html_table, plain_text, table
from compare.rounding import measure

HEADERS = ("gradient", "shape", "dtype", "norm", "difference", "allowed", "verdict")


class GradientMismatch(AssertionError):
    """The two sides do not agree, or could not be compared. `report` has the details."""

    def __init__(self, report: "GradientReport") -> None:
        super().__init__(f"\n{report}")
        self.report = report


@dataclass(frozen=True)
class GradientReport:
    """What came out of comparing a loss and its gradients. The first row is the loss itself."""

    verdict: Verdict
    rows: list[Row]

    @property
    def first_wrong(self) -> str | None:
        """The path of the first row that does not agree."""
        return next((row.path for row in self.rows if row.verdict is not Verdict.AGREE), None)

    @property
    def sentence(self) -> str:
        if self.verdict is Verdict.AGREE:
            return "The loss and every gradient agree to within rounding."
        row = next(row for row in self.rows if row.verdict is self.verdict)
        start = "The two sides disagree" if self.verdict is Verdict.DISAGREE else "No verdict is possible"
        return f"{start}: {row.path}: {row.message}."

    def cells(self) -> list[tuple[str, ...]]:
        return [
            (
                row.path,
                "x".join(map(str, row.shape)) or "scalar",
                row.dtype,
                f"{row.norm:.3g}",
                f"{row.error:.1e}",
                f"{row.allowed:.1e}",
                row.verdict.value,
            )
            for row in self.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        return plain({"verdict": self.verdict, "first_wrong": self.first_wrong, "rows": list(map(asdict, self.rows))})

    def __str__(self) -> str:
        return plain_text(self.sentence, table(HEADERS, self.cells()))

    def _repr_html_(self) -> str:
        return html_table(self.sentence, HEADERS, self.cells())

    def __bool__(self) -> NoReturn:
        raise TypeError("a report is not a truth value; look at report.verdict, or call assert_gradients_agree")


def check_gradients(
    loss_and_gradients: Callable[..., Any], loss: Callable[..., Any], parameters: Any, *args: Any
) -> GradientReport:
    """Compare gradients derived by hand with those that JAX derives from `loss`.

    `loss_and_gradients(parameters, *args) -> (loss, gradients)` is the side derived by hand: NumPy, or
    anything whose results `np.asarray` takes. `loss(parameters, *args) -> scalar` must be traceable by JAX.
    `gradients` must have the structure, shapes and dtypes of `parameters`, any pytree of arrays.

    The reference is JAX's gradient in float64. Every entry is held against what rounding in the parameters'
    dtype allows for it at this point (`compare.rounding`), and so is the loss.
    """
    parameters = jax.tree.map(np.asarray, parameters)
    manual = loss_and_gradients(jax.tree.map(np.copy, parameters), *args)
    dtype = np.result_type(*jax.tree.leaves(parameters))  # not jnp's, which knows no float64 unless told to
    with precise(parameters, args):
        (right_loss, right_gradients), (loss_slack, gradient_slack) = measure(
            loss, parameters, *args, dtype=dtype, gradient=True
        )
        rows = compare_trees(
            {"loss": manual[0]},
            {"loss": right_loss.astype(dtype)},
            {"loss": right_loss},
            {"loss": loss_slack},
        )
        rows += compare_trees(manual[1], parameters, right_gradients, gradient_slack)
    return GradientReport(Verdict.of([row.verdict for row in rows]), rows)


def assert_gradients_agree(*args: Any, **options: Any) -> None:
    """`check_gradients`, but raise GradientMismatch unless the verdict is AGREE."""
    report = check_gradients(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
