"""Why a second derivative is wrong: the second derivatives of some operations are missing in it.

A Hessian is a sum with one term for each operation k between x and the loss,

    H = sum over k of J_k' (g_k . d2 op_k) J_k,

where J_k is the Jacobian of the operation's inputs with respect to x, and g_k is the upstream gradient at its result.
Typical mistakes leave out some of the terms. The Gauss-Newton matrix has only that of the outermost operation. Where
the gradient that arrives from the outer operations is treated as a constant, their terms are missing. Where the slope
of one operation is treated as a constant, that operation's term is missing.

All terms are computed together. Each operation is replaced by its linearization at the point plus s_k times the rest,
whose value and gradient are 0 there. So the loss keeps its value and gradient, its Hessian becomes the sum of s_k times
term k, and the derivative of the Hessian with respect to s_k is term k.
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core

from compare.judge.diagnosis.evidence import Evidence
from compare.judge.program.plan import equations
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.row import UNKNOWN, Kind
from compare.judge.program.trace import Program, bound, under_jax
from compare.judge.reports.gradient_report import SIDE_EFFECTS, GradientReport
from compare.judge.reports.verdict import Diagnosis

MOST = 48  # the largest number of operations whose terms are computed
SUBSETS = 12  # the largest number of nonzero terms of which every subset is tried
# Linear operations of several operands: their second derivatives are zero.
SUMS = ("add", "add_any", "sub", "concatenate", "select_n")

# Kinds of causes that explain every entry of a matrix, so that missing terms are not looked for.
SETTLED = ("factor", "sign", "zeros", "transpose", "triangle", "off-diagonal-doubled", "off-diagonal-halved", "pattern",
           "symmetric", "shape", "dtype", "structure", "missing-leaf", "non-finite", "conjugated", "one-row",
           "adjoint")  # fmt: skip


def settled(report: GradientReport) -> bool:
    """Whether the first cause in a report explains the whole error, so that missing terms are not looked for."""
    return bool(report.diagnoses) and report.diagnoses[0].kind in (*SETTLED, *SIDE_EFFECTS)


def missing_terms(
    loss: Callable[[Any], Any], x: Any, vector: Any, product: np.ndarray, path: str | None
) -> Diagnosis | None:
    """Finds the operations whose second derivatives are missing in a product with a Hessian.

    Args:
        loss: a scalar function of one array or pytree, traceable by JAX.
        x: the point.
        vector: the vector that the Hessian is multiplied by; has the structure of x.
        product: the product that the hand-written side returned, flat.
        path: the name of the quantity in the report.

    Returns:
        A diagnosis of the kind "gauss-newton" or "second-order-term"; None if missing terms do not explain the error.
    """
    names, terms = terms_of_product(loss, x, vector)
    expected = terms.sum(axis=0)
    product = np.asarray(product, np.float64).ravel()
    if product.shape != expected.shape or not np.isfinite(product).all() or not np.isfinite(terms).all():
        return None
    unit = 1e-7 if any(np.asarray(leaf).dtype != np.float64 for leaf in jax.tree.leaves(x)) else 1e-15
    allowed = 64 * unit * np.abs(terms).sum(axis=0).max(initial=0.0) + 0 * expected
    present = [k for k in range(len(names)) if np.abs(terms[k]).max(initial=0.0) > 1e3 * allowed.max(initial=0.0)]
    if not 1 < len(present) <= SUBSETS:
        return None
    evidence = Evidence(path or "", product, expected, allowed)
    for count in range(1, len(present)):
        for lost in itertools.combinations(present, count):
            left = expected - terms[list(lost)].sum(axis=0)
            if evidence.explains(left, log_tried=len(present) * np.log(2)):
                return _diagnosis(path, names, present, lost)
    return None


def terms_of_product(loss: Callable[[Any], Any], x: Any, vector: Any) -> tuple[list[str], np.ndarray]:
    """Each operation's term of the Hessian, times a vector.

    Args:
        loss: a scalar function of one array or pytree, traceable by JAX.
        x: the point.
        vector: the vector that the Hessian is multiplied by; has the structure of x.

    Returns:
        The names of the operations that may have a second derivative, in the order of the forward pass, and their
        terms, (operations, entries of x). Both are empty if there are more than MOST operations.
    """
    leaves, tree = jax.tree.flatten(jax.tree.map(np.asarray, x))
    closed = jax.make_jaxpr(lambda *leaves: loss(jax.tree.unflatten(tree, leaves)))(*leaves)
    names = [equation.primitive.name for equation in equations(closed.jaxpr) if _may_be_curved(equation)]
    size = sum(leaf.size for leaf in leaves)
    if not 0 < len(names) <= MOST:
        return [], np.zeros((0, size))

    def scaled(scales: Any, *leaves: Any) -> Any:
        numbers = iter(range(len(names)))

        def done(equation: Any, inputs: list[Any]) -> list[Any]:
            if not _may_be_curved(equation):
                return bound(equation, inputs)
            return _partly_straight(equation, inputs, scales[next(numbers)])

        return under_jax(closed.jaxpr, closed.consts, leaves, done)[0]

    vectors = jax.tree.leaves(vector)

    def product(scales: Any, leaves: Any, vectors: Any) -> Any:
        slope = jax.grad(scaled, argnums=tuple(range(1, 1 + len(leaves))))
        directions = tuple(jnp.asarray(v, leaf.dtype) for v, leaf in zip(vectors, leaves, strict=True))
        _, found = jax.jvp(lambda *leaves: slope(scales, *leaves), tuple(leaves), directions)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in found])

    scales = np.zeros(len(names), leaves[0].dtype)
    terms = Program(jax.jacfwd(product), scales, leaves, vectors)  # evaluated in NumPy: nothing is compiled
    return names, np.asarray(terms(scales, leaves, vectors), np.float64).T


def _may_be_curved(equation: Any) -> bool:
    """Whether the second derivative of an operation may be nonzero: it is zero for linear and discrete operations."""
    name = equation.primitive.name
    row = TABLE.get(name, UNKNOWN)
    floating = [atom for atom in equation.invars if _is_floating(atom.aval) and not isinstance(atom, core.Literal)]
    if name in SUMS or not floating or row.kind in (Kind.COMPARISON, Kind.DISCRETE):
        return False
    if not all(_is_floating(atom.aval) for atom in equation.outvars):
        return False
    return row.kind is not Kind.LINEAR or len(floating) > 1


def _is_floating(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.floating)


def _partly_straight(equation: Any, inputs: list[Any], scale: Any) -> list[Any]:
    """An operation's linearization at its inputs, plus `scale` times the rest, whose gradient is 0 there."""
    places = [i for i, atom in enumerate(equation.invars) if _is_floating(atom.aval)]
    moving = [jnp.asarray(inputs[i]) for i in places]
    here = [lax.stop_gradient(value) for value in moving]

    def operation(*values: Any) -> Any:
        merged = list(inputs)
        for i, value in zip(places, values, strict=True):
            merged[i] = value
        return bound(equation, merged)

    value, tangent = jax.jvp(operation, tuple(here), tuple(m - h for m, h in zip(moving, here, strict=True)))
    straight = [v + t for v, t in zip(value, tangent, strict=True)]
    return [s + scale.astype(s.dtype) * (o - s) for o, s in zip(operation(*moving), straight, strict=True)]


def _diagnosis(path: str | None, names: list[str], present: list[int], lost: tuple[int, ...]) -> Diagnosis:
    kept = [k for k in present if k not in lost]
    if min(kept) > max(lost) and (len(kept) == 1 or len(lost) > 1):  # one lost term of many is reported as a slope
        words = (
            f"it is the Gauss-Newton matrix, and should be the Hessian: the second derivatives of what goes into "
            f"{_listed([names[k] for k in kept])} ({_listed([names[k] for k in lost])}) are left out."
        )
        return Diagnosis(path, "gauss-newton", words)
    if min(lost) > max(kept):
        words = (
            f"the path through the first derivative is missing: the upstream gradient from "
            f"{_listed([names[k] for k in lost])} is treated as a constant."
        )
    else:
        lacks = _listed([names[k] for k in lost])
        words = f"the second derivative of {lacks} is left out: its first derivative is treated as a constant."
    return Diagnosis(path, "second-order-term", words)


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))
