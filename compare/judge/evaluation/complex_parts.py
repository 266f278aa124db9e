"""Splits each complex parameter into two real leaves, its real and its imaginary part, which are checked separately.

For a real loss L of z = x + iy, JAX's gradient is dL/dx - i dL/dy. PyTorch's gradient is its conjugate,
dL/dx + i dL/dy (`convention="conjugate"`). In both conventions, dL/dx and dL/dy are two real gradients.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import BadInput
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Diagnosis, Row, Verdict
from compare.pytrees import Pytree, as_array, paths

CONVENTIONS = ("jax", "conjugate")


class Parts(NamedTuple):
    """The real and the imaginary part of a complex leaf."""

    real: Any
    imag: Any


def is_complex(leaf: Any) -> bool:
    """Whether a leaf is a complex number or an array of complex numbers."""
    return np.issubdtype(np.asarray(leaf).dtype, np.complexfloating)


def has_complex(tree: Pytree) -> bool:
    """Whether a tree has complex leaves."""
    return any(map(is_complex, jax.tree.leaves(tree)))


def refuse_complex(tree: Pytree) -> None:
    """Rejects complex numbers in a check that has no convention for their derivatives.

    Args:
        tree: the inputs or values of the check.

    Raises:
        BadInput: if the tree has complex leaves.
    """
    if any(jnp.issubdtype(getattr(leaf, "dtype", np.float64), jnp.complexfloating) for leaf in jax.tree.leaves(tree)):
        raise BadInput(
            "complex inputs and values are checked by check_gradients and check_vjp only. Here, pass the real and the "
            "imaginary parts as two arrays of real numbers."
        )


def split(tree: Pytree, sign: float = 1.0) -> Any:
    """The tree with each complex leaf replaced by its `Parts`, and the imaginary parts multiplied by `sign`."""

    def parts(leaf: Any) -> Any:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            return leaf
        array = as_array(leaf)
        real, imaginary = np.real(array), np.imag(array)
        return Parts(np.array(real, order="C"), np.array(imaginary if sign > 0 else -imaginary, order="C"))

    return jax.tree.map(parts, tree)


def joined(tree: Pytree) -> Any:
    """The tree with each `Parts` replaced by a complex array, in JAX: the inverse of `split`."""
    return jax.tree.map(
        lambda part: part.real + part.imag * 1j if _is_split(part) else part,
        tree,
        is_leaf=_is_split,
    )


def _is_split(part: Any) -> bool:
    return isinstance(part, Parts)


def _dtype_of_both(parts: Parts) -> np.dtype:
    """The complex dtype that corresponds to the parts."""
    return np.result_type(parts.real.dtype, np.complex64)


def by_hand_of_parts(function: Callable[..., Any], convention: str) -> Callable[..., Any]:
    """The hand-written function as a function of the parts, which returns the gradients with respect to the parts.

    Args:
        function: `(parameters, *args) -> (loss, gradients, ...)`.
        convention: the convention of its gradients.

    Returns:
        The function of the parts.
    """
    sign = 1.0 if convention == "conjugate" else -1.0

    def by_hand(parameters: Pytree, *args: Any) -> Any:
        result = function(_joined_like(parameters), *args)
        if not isinstance(result, tuple | list) or len(result) < 2:
            return result
        return (result[0], split(result[1], sign), *result[2:])

    return by_hand


def _joined_like(tree: Pytree) -> Any:
    """`joined` in NumPy, in the complex dtype that corresponds to the parts."""

    def whole(part: Any) -> Any:
        return (part.real + 1j * part.imag).astype(_dtype_of_both(part)) if _is_split(part) else part

    return jax.tree.map(whole, tree, is_leaf=_is_split)


def loss_of_parts(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss as a function of the parts."""

    def of_parts(parameters: Pytree, *args: Any) -> Any:
        return loss(joined(parameters), *args)

    return of_parts


def whole_report(report: GradientReport, parameters: Pytree, convention: str) -> GradientReport:
    """Turns a report on the parts into a report on the complex leaves.

    Args:
        report: the report on the parts.
        parameters: the parameters, split.
        convention: the convention of the gradients.

    Returns:
        The report, which has the row of the worse part for each complex leaf; unchanged if there are no complex leaves.
    """
    leaves, structure = jax.tree.flatten(parameters, is_leaf=_is_split)
    if not any(map(_is_split, leaves)):
        return report
    dtypes, owners = {}, {}
    names = iter(paths(jax.tree.structure(parameters)))
    for path, leaf in zip(paths(structure), leaves, strict=True):
        if _is_split(leaf):
            dtypes[path] = str(_dtype_of_both(leaf))
        for _ in range(2 if path in dtypes else 1):
            owners[next(names)] = path
    rows: dict[str, Row] = {}
    for row in report.rows:
        owner = owners.get(row.path, row.path)
        if owner not in dtypes:
            rows[owner] = row
            continue
        which = "imaginary" if row.path.endswith("imag") else "real"
        message = row.message and f"in its {which} part, {row.message}"
        row = replace(row, path=owner, dtype=dtypes[owner], message=message)
        rows[owner] = _worse(rows[owner], row) if owner in rows else row
    causes = []
    wrong = {row.path for row in report.rows if row.verdict is Verdict.DISAGREE}
    for cause in report.diagnoses:
        owner = owners.get(cause.path or "", cause.path)
        if owner == cause.path:
            causes.append(cause)
            continue
        imaginary = str(cause.path).endswith("imag")
        other = str(cause.path).removesuffix("imag") + "real"
        if imaginary and cause.kind == "sign" and other not in wrong:
            words = (
                f"it is conjugated. For a loss L of x + iy, {_formula(convention)} is expected. JAX does not "
                'conjugate, and PyTorch does (convention="conjugate").'
            )
            causes.append(Diagnosis(owner, "conjugated", words))
        else:
            which = "imaginary" if imaginary else "real"
            causes.append(replace(cause, path=owner, message=f"in its {which} part, {cause.message}"))
    note = f"the gradient of a complex parameter x + iy is {_formula(convention)} ({convention} convention)."
    first = owners.get(report.first_wrong or "", report.first_wrong)
    return replace(report, rows=list(rows.values()), diagnoses=causes, first_wrong=first, notes=[*report.notes, note])


def _formula(convention: str) -> str:
    return "dL/dx + i dL/dy" if convention == "conjugate" else "dL/dx - i dL/dy"


def _worse(one: Row, other: Row) -> Row:
    """The row with the worse verdict, or with the larger multiple of its tolerance, and the norm of both parts."""

    def rank(row: Row) -> tuple[int, float]:
        order = [Verdict.AGREE, Verdict.INCONCLUSIVE, Verdict.DISAGREE]
        share = row.error / row.tolerance if row.tolerance > 0 else 0.0
        return order.index(row.verdict), share

    worse = max(one, other, key=rank)
    return replace(worse, norm=float(np.hypot(one.norm, other.norm)))
