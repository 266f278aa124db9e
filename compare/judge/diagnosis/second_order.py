"""Why a second derivative is wrong: which operations' own second derivatives it lacks.

A Hessian is a sum with one term for each operation on the way from x to the loss,

    H = sum over operations k of J_k' (g_k . d2 op_k) J_k,

J_k being the Jacobian of the operation's inputs with respect to x, and g_k the gradient that arrives at its result. A
second derivative by hand leaves out some of them: all but those of the outermost operation in the Gauss-Newton matrix;
those of the operations outside where the first derivative is taken for a constant; that of one operation where its
slope is.

The terms are found at once: each operation is replaced by its tangent at the point, plus s_k times what is left of it.
The value and the first derivative are the same, the second is sum of s_k times term k, and its derivative with respect
to s are the terms.
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

MOST = 48  # operations whose terms are looked for
SUBSETS = 12  # terms that are not zero, up to which every subset of them is tried
# Of two factors or more, and no product of them: the second derivative of each is zero.
SUMS = ("add", "add_any", "sub", "concatenate", "select_n")


# What explains a second derivative as well as any: a factor, a half of the matrix, a place in it.
SETTLED = ("factor", "sign", "zeros", "transpose", "triangle", "off-diagonal-doubled", "off-diagonal-halved", "pattern",
           "symmetric", "shape", "dtype", "structure", "missing-leaf", "non-finite", "conjugated", "one-row",
           "adjoint")  # fmt: skip


def settled(report: GradientReport) -> bool:
    """Whether the first cause that a report names needs no better one."""
    return bool(report.diagnoses) and report.diagnoses[0].kind in (*SETTLED, *SIDE_EFFECTS)


def missing_terms(
    loss: Callable[[Any], Any], x: Any, vector: Any, product: np.ndarray, path: str | None
) -> Diagnosis | None:
    """What a product with a Hessian lacks, if it lacks the second derivatives of some operations, and nothing else.

    Args:
        loss: of one array or tree, traceable by JAX.
        x: where.
        vector: what the Hessian is multiplied by; like x.
        product: what the hand-written side returned, flat.
        path: of the quantity, for the report.

    Returns:
        A diagnosis of the kind "gauss-newton" or "second-order-term"; None if nothing of that sort explains it.
    """
    names, terms = terms_of_product(loss, x, vector)
    right = terms.sum(axis=0)
    product = np.asarray(product, np.float64).ravel()
    if product.shape != right.shape or not np.isfinite(product).all() or not np.isfinite(terms).all():
        return None
    unit = 1e-7 if any(np.asarray(leaf).dtype != np.float64 for leaf in jax.tree.leaves(x)) else 1e-15
    allowed = 64 * unit * np.abs(terms).sum(axis=0).max(initial=0.0) + 0 * right
    present = [k for k in range(len(names)) if np.abs(terms[k]).max(initial=0.0) > 1e3 * allowed.max(initial=0.0)]
    if not 1 < len(present) <= SUBSETS:
        return None
    evidence = Evidence(path or "", product, right, allowed)
    for count in range(1, len(present)):
        for lost in itertools.combinations(present, count):
            left = right - terms[list(lost)].sum(axis=0)
            if evidence.explains(left, log_tried=len(present) * np.log(2)):
                return _said(path, names, present, lost)
    return None


def terms_of_product(loss: Callable[[Any], Any], x: Any, vector: Any) -> tuple[list[str], np.ndarray]:
    """The names of the operations in the order of the forward pass, and of each its term of the Hessian times `vector`.

    Empty if there are more than MOST.
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
    terms = Program(jax.jacfwd(product), scales, leaves, vectors)  # which compiles nothing
    return names, np.asarray(terms(scales, leaves, vectors), np.float64).T


def _may_be_curved(equation: Any) -> bool:
    """Whether an operation may have a second derivative: all but sums, moves of numbers, and decisions."""
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
    """The operation's tangent where it is, and `scale` times what is left of it, which is flat there."""
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


def _said(path: str | None, names: list[str], present: list[int], lost: tuple[int, ...]) -> Diagnosis:
    kept = [k for k in present if k not in lost]
    if min(kept) > max(lost) and (len(kept) == 1 or len(lost) > 1):  # one of many inside is a slope
        words = (
            f"it is the Gauss-Newton matrix for the Hessian: the second derivatives of what goes into "
            f"{_listed([names[k] for k in kept])} ({_listed([names[k] for k in lost])}) are left out."
        )
        return Diagnosis(path, "gauss-newton", words)
    if min(lost) > max(kept):
        words = (
            f"the path through the first derivative is missing: the gradient that arrives from "
            f"{_listed([names[k] for k in lost])} is taken for a constant."
        )
    else:
        lacks = _listed([names[k] for k in lost])
        words = f"the second derivative of {lacks} is left out: a slope is taken for constant."
    return Diagnosis(path, "second-order-term", words)


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))
