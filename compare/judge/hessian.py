"""Compares hand-written second derivatives with JAX's: products with the Hessian, and the Hessian itself.

H v is the gradient of <dL/dp, v> with respect to p (Pearlmutter, "Fast exact multiplication by the Hessian", Neural
Computation 6, 1994), so `check_gradients` can check it. The Hessian is checked as the Jacobian of the gradient.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.diagnosis.matrices import of_matrix
from compare.judge.diagnosis.second_order import missing_terms, settled
from compare.judge.evaluation.complex_parts import refuse_complex
from compare.judge.evaluation.static_arguments import is_sparse
from compare.judge.gradients import check, refuse_what_is_no_number
from compare.judge.jacobian import called_as, matrix_check
from compare.judge.program.trace import Program
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Verdict
from compare.platform import precise
from compare.pytrees import LOSS, Loss, Pytree, as_array, as_input, copies

COLUMNS = 64  # the largest number of columns of a Hessian that is computed from its products if these are wrong
VECTORS = 1_000_039  # a separate random stream for the vector that is multiplied


def check_hvp(
    hvp: Callable[..., Any], loss: Loss, parameters: Pytree, *args: Pytree, seed: int = 0, **options: Any
) -> GradientReport:
    """Compare `hvp(parameters, vector, *args) -> product` with JAX's product of the Hessian of `loss` and a vector.

        product = H v,  H[i, j] = d2 loss / d p[i] d p[j]

    Args:
        hvp: the hand-written product. The vector and the product are pytrees like the parameters.
        loss: `loss(parameters, *args) -> scalar`, traceable by JAX.
        parameters: a pytree of floating-point arrays.
        *args: further arguments, which are not differentiated: arrays and numbers in any pytree.
        seed: the seed of everything random in the check.
        **options: those of `check_gradients`.

    Returns:
        A report with a row for each parameter.

    Raises:
        BadInput: a ValueError, if there is nothing to differentiate, or a parameter is complex.
        TypeError: if the loss does not return one number, or JAX cannot trace or differentiate it.
    """
    parameters = jax.tree.map(as_input, parameters)
    refuse_complex(parameters)
    random = np.random.default_rng([seed, VECTORS])
    vector = jax.tree.map(lambda leaf: random.standard_normal(leaf.shape).astype(leaf.dtype), parameters)

    def slope(parameters: Pytree, vector: Pytree, *args: Pytree) -> Any:
        gradients = jax.grad(_one_number(loss))(parameters, *args)
        return sum(jax.tree.leaves(jax.tree.map(lambda g, v: jnp.sum(g * v), gradients, vector)))

    def by_hand(parameters: Pytree, vector: Pytree, *args: Pytree) -> Any:
        return None, hvp(parameters, vector, *args)

    hidden = frozenset({LOSS})
    report = check(called_as(by_hand, hvp), slope, parameters, (vector, *args), seed=seed, hidden=hidden, **options)
    return replace(_explained(report, hvp, loss, parameters, args, random), quantity="part of H v")


def _explained(
    report: GradientReport,
    hvp: Callable[..., Any],
    loss: Loss,
    parameters: Pytree,
    args: tuple[Pytree, ...],
    random: np.random.Generator,
) -> GradientReport:
    """The report, with a cause that concerns the whole matrix H, if there is one."""
    if report.verdict is not Verdict.DISAGREE or report.probe is not None or settled(report):
        return report
    leaves, tree = jax.tree.flatten(parameters)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def as_tree(vector: np.ndarray) -> Pytree:
        parts = np.split(vector, ends[:-1])
        return jax.tree.unflatten(
            tree, [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
        )

    def product(vector: np.ndarray) -> np.ndarray:
        found = jax.tree.leaves(hvp(*copies((parameters, as_tree(vector), *args))))
        return np.concatenate([np.ravel(as_array(leaf)).astype(np.float64) for leaf in found])

    def of_one(parameters: Pytree) -> Any:
        return loss(parameters, *args)

    size = int(ends[-1])
    with precise(parameters, args):
        cause = None
        if size <= COLUMNS:
            given = np.stack([product(column) for column in np.eye(size)], axis=1)
            right = Program(jax.hessian(lambda x: of_one(_unraveled(x, leaves, tree))), _raveled(leaves))
            expected = np.asarray(right(_raveled(leaves)))
            unit = max(float(jnp.finfo(leaf.dtype).eps) for leaf in leaves)
            if np.isfinite(given).all() and given.shape == expected.shape:
                allowed = 64 * unit**0.5 * np.abs(expected).max(initial=0)
                cause = of_matrix(given, expected, allowed, "hessian", None)
        if cause is None or cause.kind == "not-symmetric":
            vector = random.standard_normal(size)
            path = report.first_wrong if len(leaves) == 1 else None
            cause = missing_terms(of_one, parameters, as_tree(vector), product(vector), path) or cause
    if cause is None:
        return report
    others = report.diagnoses if cause.kind == "not-symmetric" else []  # the other causes name single entries
    return replace(report, diagnoses=[*others, cause])


def _raveled(leaves: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def _unraveled(x: Any, leaves: list[np.ndarray], tree: Any) -> Pytree:
    parts = jnp.split(x, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(tree, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def check_hessian(
    hessian: Callable[..., Any],
    loss: Loss,
    x: Any,
    *args: Any,
    seed: int = 0,
    entries: bool | None = None,
    **options: Any,
) -> GradientReport:
    """Compare `hessian(x, *args)` with the Hessian that JAX derives from `loss(x, *args) -> scalar`.

        H[i, j] = d2 loss / d x[i] d x[j]

    Args:
        hessian: the hand-written Hessian, in one of the forms of `check_jacobian`: dense, sparse, or a LinearOperator.
        loss: the loss, traceable by JAX.
        x: an array of floating-point numbers.
        *args: further arguments of both functions.
        seed: the seed of everything random in the check.
        entries: whether every entry is compared, as for `check_jacobian`.
        **options: those of `check_gradients`.

    Returns:
        A report with the row "matrix", or "product" and "transposed_product".

    Raises:
        BadInput: a ValueError, if the Hessian has a wrong shape, or `x` is no array of floating-point numbers.
        TypeError: if the loss does not return one number, or JAX cannot trace or differentiate it.
    """

    def gradient(x: Any, *args: Any) -> Any:
        return jax.grad(_one_number(loss))(x, *args)

    report = matrix_check(hessian, gradient, x, args, "hessian", seed, entries, options)
    if report.verdict is not Verdict.DISAGREE or report.probe is not None or settled(report):
        return report
    x = as_input(x)
    vector = np.random.default_rng([seed, VECTORS]).standard_normal(x.size)
    with precise(x, args):
        given = hessian(*copies((x, *args)))
        if not hasattr(given, "matvec") and not is_sparse(given):
            given = as_array(given).reshape(x.size, x.size)
        product = np.asarray(given @ vector)
        cause = missing_terms(lambda x: loss(x, *args), x, vector.reshape(x.shape), product, report.first_wrong)
    return report if cause is None else replace(report, diagnoses=[cause])


def _one_number(loss: Loss) -> Loss:
    """The loss, wrapped so that a call raises TypeError if the result is not one number."""

    def number(*args: Pytree) -> Any:
        result = loss(*args)
        refuse_what_is_no_number(result if isinstance(result, tuple | list | None) else jnp.asarray(result))
        return result

    return number


def assert_hvp_agrees(*args: Any, **options: Any) -> None:
    """`check_hvp` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_hvp(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)


def assert_hessian_agrees(*args: Any, **options: Any) -> None:
    """`check_hessian` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_hessian(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
