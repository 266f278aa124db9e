"""Compares a hand-written Jacobian with JAX's: a dense or sparse matrix, or a linear operator.

The matrix J is the gradient of <W, J> with respect to W. The products J v and J' u are the gradients of <c, J v> and
<c, J' u> with respect to c. So `check_gradients` can check them. Two products show whether J is right, at a cost that
does not grow with its size. The entries show where it is wrong, and are compared if there are not too many.
"""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import BadInput
from compare.judge.diagnosis.matrices import of_matrix, of_pattern
from compare.judge.evaluation.complex_parts import refuse_complex
from compare.judge.evaluation.static_arguments import is_sparse
from compare.judge.gradients import check
from compare.judge.program.trace import in_words
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Diagnosis, Verdict
from compare.platform import precise
from compare.pytrees import LOSS, as_array, as_input, copies, leaves_by_path

ENTRIES = 2**14  # the largest number of entries that are compared by default
PRODUCTS = 1_000_037  # a separate random stream for the vectors u and v


class Entries(NamedTuple):
    """The parameters of the loss <W, J>, which are perturbed: the weights W and the argument x."""

    matrix: Any
    x: Any


class Products(NamedTuple):
    """The parameters of the loss <c, J v> + <d, J' u>, which are perturbed: the weights c and d, and the argument x."""

    product: Any
    transposed_product: Any
    x: Any


def check_jacobian(
    jacobian: Callable[..., Any],
    function: Callable[..., Any],
    x: Any,
    *args: Any,
    seed: int = 0,
    entries: bool | None = None,
    **options: Any,
) -> GradientReport:
    """Compare `jacobian(x, *args)` with the Jacobian that JAX derives from `function(x, *args)`.

        J[i, j] = d function(x)[i] / d x[j]

    Args:
        jacobian: the hand-written Jacobian. It returns an array of shape (outputs, inputs), or (*output shape, *input
            shape); or a SciPy sparse matrix, whose sparsity pattern is checked, too; or a LinearOperator, whose two
            products must be consistent.
        function: the function, which returns one array, traceable by JAX.
        x: an array of floating-point numbers.
        *args: further arguments of both functions.
        seed: the seed of everything random in the check.
        entries: True to compare every entry, False to compare J v and J' u for random u and v, at a cost that does not
            grow with the matrix. By default, the entries of a matrix with at most 16,384 of them are compared.
        **options: those of `check_gradients`.

    Returns:
        A report with the row "matrix", or "product" and "transposed_product".

    Raises:
        BadInput: a ValueError, if the Jacobian has a wrong shape or is an operator without `rmatvec`, if `entries=True`
            is given for an operator, or if `x` is no array of floating-point numbers.
        TypeError: if JAX cannot trace or differentiate `function`.
    """
    return matrix_check(jacobian, function, x, args, "jacobian", seed, entries, options)


def matrix_check(
    matrix: Callable[..., Any],
    function: Callable[..., Any],
    x: Any,
    args: tuple[Any, ...],
    name: str,
    seed: int,
    entries: bool | None,
    options: dict[str, Any],
) -> GradientReport:
    """Compares a matrix of derivatives with the Jacobian that JAX derives from `function`.

    Args:
        matrix: the hand-written matrix, `(x, *args) -> matrix`.
        function: the function, `(x, *args) -> array`.
        x: as for `check_jacobian`, and so are `args`, `seed` and `entries`.
        name: the name of the matrix in messages.
        options: those of `check_gradients`.

    Returns:
        The report.

    Raises:
        BadInput, TypeError: as `check_jacobian`.
    """
    x = as_input(x)
    refuse_complex(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise BadInput(f"x must be an array of floating-point numbers, got {x.dtype}.")
    with precise(x, args), in_words("function"):
        output = jax.eval_shape(function, x, *args)
    if len(jax.tree.leaves(output)) != 1:
        raise BadInput(f"function must return one array, but it returns {len(jax.tree.leaves(output))}.")
    (output,) = jax.tree.leaves(output)
    refuse_complex(output)
    shape = (int(np.prod(output.shape)), x.size)

    def flat(x: Any, *args: Any) -> Any:
        return jnp.ravel(jax.tree.leaves(function(x, *args))[0])

    first = matrix(np.array(x), *copies(args))
    whole = not _is_operator(first) and (shape[0] * shape[1] <= ENTRIES if entries is None else entries)
    if entries and not whole:
        raise BadInput(f"{name} returns a LinearOperator, which has no entries to compare; leave entries out.")
    _shaped(first, shape, output.shape, x.shape, name)
    random = np.random.default_rng([seed, PRODUCTS])
    if whole:
        report = _entries(matrix, flat, x, args, shape, name, random, seed, options)
    else:
        report = _products(matrix, flat, x, args, shape, name, random, seed, options)
    if not whole:
        return report

    def right() -> np.ndarray:
        with precise(x, args):
            return np.asarray(jax.jacfwd(flat)(x, *args), np.float64).reshape(shape)

    return _with_cause(report, first, right, name)


def _shaped(matrix: Any, shape: tuple[int, int], out: tuple[int, ...], into: tuple[int, ...], name: str) -> Any:
    """The matrix in the shape (outputs, inputs). Raises BadInput, a ValueError, if it has a wrong shape."""
    if is_sparse(matrix) or _is_operator(matrix):
        found = tuple(matrix.shape)
        if found == shape:
            return matrix
    else:
        try:
            array = as_array(matrix)
        except TypeError as error:
            raise BadInput(f"{name} must return an array, a sparse matrix or a LinearOperator: {error}") from None
        found = array.shape
        if found in (shape, (*out, *into)):
            return array.reshape(shape)
    turned = " That is the shape of the transpose." if found == shape[::-1] else ""
    raise BadInput(f"{name} must have the shape {shape}, (outputs, inputs), but it has {found}.{turned}")


def _is_operator(matrix: Any) -> bool:
    """Whether a matrix is a SciPy LinearOperator, which can be multiplied but has no entries."""
    return hasattr(matrix, "matvec") and hasattr(matrix, "rmatvec") and not is_sparse(matrix)


def called_as(by_hand: Callable[..., Any], matrix: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function the signature of another one, whose argument names then appear in messages.

    Args:
        by_hand: the function, which is changed in place.
        matrix: the function with the signature.

    Returns:
        `by_hand`.
    """
    with contextlib.suppress(TypeError, ValueError):  # a builtin has no signature
        by_hand.__signature__ = inspect.signature(matrix)  # type: ignore[attr-defined]  # functions take attributes
    return by_hand


def _entries(
    matrix: Callable[..., Any],
    flat: Callable[..., Any],
    x: np.ndarray,
    args: tuple[Any, ...],
    shape: tuple[int, int],
    name: str,
    random: np.random.Generator,
    seed: int,
    options: dict[str, Any],
) -> GradientReport:
    derive = jax.jacfwd if shape[1] <= shape[0] else jax.jacrev

    def loss(at: Entries, *args: Any) -> Any:
        return jnp.sum(at.matrix * derive(flat)(at.x, *args).reshape(shape))

    def by_hand(at: Entries, *args: Any) -> Any:
        found = matrix(at.x, *args)
        dense = found.toarray() if is_sparse(found) else as_array(found).reshape(shape)
        return None, Entries(dense, np.zeros_like(at.x))

    at = Entries(random.standard_normal(shape).astype(x.dtype), x)
    hidden = frozenset({LOSS, *leaves_by_path(Entries((), x))})
    report = check(called_as(by_hand, matrix), loss, at, args, seed=seed, hidden=hidden, **options)
    return replace(report, outputs=("matrix",))


def _products(
    matrix: Callable[..., Any],
    flat: Callable[..., Any],
    x: np.ndarray,
    args: tuple[Any, ...],
    shape: tuple[int, int],
    name: str,
    random: np.random.Generator,
    seed: int,
    options: dict[str, Any],
) -> GradientReport:
    right, left = (random.standard_normal(n).astype(x.dtype) for n in shape[::-1])
    inner: dict[str, float] = {}
    given: list[np.ndarray] = []

    def loss(at: Products, right: Any, left: Any, args: Any) -> Any:
        def of(x: Any) -> Any:
            return flat(x, *args)

        value, tangent = jax.jvp(of, (at.x,), (right.reshape(x.shape),))
        (pulled,) = jax.vjp(of, at.x)[1](left.astype(value.dtype))
        return jnp.sum(at.product * tangent) + jnp.sum(at.transposed_product * jnp.ravel(pulled))

    def by_hand(at: Products, right: Any, left: Any, args: Any) -> Any:
        found = matrix(at.x, *args)
        if not _is_operator(found) and not is_sparse(found):
            found = as_array(found).reshape(shape)
        product, pulled = _both_products(found, right, left, name)
        product, pulled = (np.asarray(values).astype(x.dtype) for values in (product, pulled))
        if not inner:  # the first call is at the caller's point
            inner.update(there=float(left @ product), back=float(pulled @ right))
            inner["size"] = float(np.linalg.norm(left) * np.linalg.norm(product))
            given.extend((product, pulled))
        return None, Products(product, pulled, np.zeros_like(at.x))

    first, second = (random.standard_normal(n).astype(x.dtype) for n in shape)
    at = Products(first, second, x)
    hidden = frozenset({LOSS, *leaves_by_path(Products((), (), x))})
    report = check(by_hand, loss, at, (right, left, args), seed=seed, hidden=hidden, **options)
    report = replace(report, outputs=("product", "transposed_product"))
    eps = float(jnp.finfo(x.dtype).eps)
    if report.verdict is Verdict.DISAGREE and report.probe is None and shape[0] == shape[1]:
        with precise(x, args):
            _, pushed = jax.jvp(lambda x: flat(x, *args), (x,), (left.reshape(x.shape),))
            (pulled,) = jax.vjp(lambda x: flat(x, *args), x)[1](jnp.asarray(right))
        pairs = zip(given, (np.ravel(pulled), np.ravel(pushed)), strict=True)
        if all(np.linalg.norm(one - other) <= eps**0.5 * np.linalg.norm(other) for one, other in pairs):
            words = "its products are swapped, as if J were transposed: J v is J' v, and J' u is J u."
            return replace(report, diagnoses=[Diagnosis(None, "transpose", words)])
    if abs(inner["there"] - inner["back"]) > eps**0.5 * inner["size"]:
        words = (
            f"the two products are inconsistent: <u, J v> is {inner['there']:.9g}, and <J' u, v> is "
            f"{inner['back']:.9g}, but they must be equal."
        )
        cause = Diagnosis(None, "adjoint", words)
        diagnoses = [*report.diagnoses, cause] if report.diagnoses else [cause]
        return replace(report, verdict=Verdict.DISAGREE, diagnoses=diagnoses, wrong_side=report.wrong_side or "manual")
    return report


def _both_products(matrix: Any, right: np.ndarray, left: np.ndarray, name: str) -> tuple[Any, Any]:
    """J v and J' u. Raises BadInput, a ValueError, if the operator does not have the second."""
    if not _is_operator(matrix):
        return matrix @ right, matrix.T @ left
    product = matrix @ right
    try:
        return product, matrix.rmatvec(left)
    except (NotImplementedError, TypeError) as error:
        if not isinstance(error, NotImplementedError) and "NoneType" not in str(error):
            raise
        raise BadInput(
            f"{name} returns a LinearOperator without rmatvec, so that J' u cannot be computed. Define it, or check "
            "only J v, with check_jvp."
        ) from None


def _with_cause(report: GradientReport, given: Any, right: Callable[[], np.ndarray], name: str) -> GradientReport:
    """The report, with a cause that concerns the whole matrix, such as a missing triangle, if there is one."""
    if report.verdict is not Verdict.DISAGREE or report.probe is not None:
        return report
    expected = right()
    dense = np.asarray(given.toarray() if is_sparse(given) else as_array(given), np.float64)
    dense = dense.reshape(expected.shape)
    unit = float(jnp.finfo(report.rows[0].dtype).eps)
    if not np.isfinite(dense).all() or not np.isfinite(expected).all():
        return report
    allowed = 64 * unit**0.5 * np.abs(expected).max(initial=0)
    cause = of_pattern(given, dense, expected, allowed) if is_sparse(given) else None
    cause = cause or of_matrix(dense, expected, allowed, name)
    if cause is None:
        return report
    others = report.diagnoses if cause.kind == "not-symmetric" else []  # the other causes name single entries
    return replace(report, diagnoses=[*others, cause])


def assert_jacobian_agrees(*args: Any, **options: Any) -> None:
    """`check_jacobian` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_jacobian(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
