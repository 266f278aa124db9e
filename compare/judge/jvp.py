"""Compares a hand-written Jacobian-vector product with JAX's.

The product J t is the gradient of <c, J t> with respect to c. So `check_gradients` can check it, with a random c.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import BadInput
from compare.judge.evaluation.complex_parts import refuse_complex
from compare.judge.evaluation.intermediates import tap
from compare.judge.evaluation.reading import argument
from compare.judge.gradients import check
from compare.judge.program.trace import in_words
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Verdict
from compare.platform import precise
from compare.pytrees import LOSS, as_array, leaves_by_path

# A separate random stream, as in vjp.py, because inputs are often drawn from default_rng(0).
TANGENTS = 1_000_033


class Point(NamedTuple):
    """The parameters of that loss, which are perturbed: the weights c, the inputs, and their tangents t."""

    tangent: Any
    inputs: Any
    directions: Any


def check_jvp(
    jvp: Callable[..., Any], function: Callable[..., Any], *inputs: Any, seed: int = 0, **options: Any
) -> GradientReport:
    """Compare a hand-written Jacobian-vector product with `jax.jvp` of `function`.

        tangent = J(x) t, where J is the Jacobian of `function`, x the inputs and t their tangents

    Args:
        jvp: the hand-written product, `(primals, tangents) -> (value, tangent)`. It gets two tuples with one item for
            each input. The tangent of an input that is no floating-point array is None.
        function: `function(*inputs) -> value`, traceable by JAX.
        *inputs: the inputs at which both are compared. Only floating-point arrays have tangents.
        seed: the seed of everything random in the check.
        **options: those of `check_gradients`.

    Returns:
        A report with the rows "output" and "tangent".

    Raises:
        BadInput: a ValueError, if no input is a floating-point array, a value is complex, or `jvp` returns no pair.
        TypeError: if JAX cannot trace or differentiate `function`.
    """
    arrays = [np.array(x) if isinstance(x, float) else jax.tree.map(argument, x) for x in inputs]
    refuse_complex(arrays)
    places = [isinstance(x, np.ndarray) and jnp.issubdtype(x.dtype, jnp.floating) for x in arrays]
    if not any(places):
        raise BadInput("none of the inputs is a floating-point array: there is nothing to differentiate.")
    random = np.random.default_rng([seed, TANGENTS])

    def drawn(array: Any) -> np.ndarray:
        return random.standard_normal(array.shape).astype(array.dtype)

    floating = tuple(x for x, place in zip(arrays, places, strict=True) if place)
    directions = tuple(map(drawn, floating))
    others = {f"input {i:03}": x for i, (x, place) in enumerate(zip(arrays, places, strict=True)) if not place}

    def merged(values: Any, rest: Any, blank: bool = False) -> tuple[Any, ...]:
        moving, fixed = iter(values), iter(rest.values())
        return tuple(next(moving) if place else (next(fixed), None)[blank] for place in places)

    def value_of(inputs: Any, others: Any) -> Any:
        return function(*merged(inputs, others))

    with precise(floating, others), in_words("function"):
        output = jax.eval_shape(value_of, floating, others)
    refuse_complex(output)
    weights = jax.tree.map(drawn, output)
    names = tuple(f"output{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_flatten_with_path(output)[0])

    def loss(point: Point, others: Any) -> Any:
        value, tangent = jax.jvp(lambda *xs: value_of(xs, others), point.inputs, point.directions)
        marked = jax.tree.unflatten(jax.tree.structure(value), map(tap, names, jax.tree.leaves(value)))
        products = jax.tree.map(lambda w, t: jnp.sum(w * t), point.tangent, tangent)
        return sum(jax.tree.leaves(products)) + 0 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(marked))

    def by_hand(point: Point, others: Any) -> Any:
        found = jvp(merged(point.inputs, others), merged(point.directions, others, blank=True))
        if not isinstance(found, tuple | list) or len(found) != 2:
            count = f" of {len(found)}" if isinstance(found, tuple | list) else ""
            raise BadInput(
                f"jvp must return (value, tangent), as jax.jvp does, but it returns {type(found).__name__}{count}."
            )
        values = [as_array(leaf) for leaf in jax.tree.leaves(found[0])]
        nothing = jax.tree.map(np.zeros_like, (point.inputs, point.directions))
        return None, Point(found[1], *nothing), {}, dict(zip(names, values, strict=False))

    hidden = {LOSS, *leaves_by_path(Point((), floating, directions))}
    report = check(
        by_hand,
        loss,
        Point(weights, floating, directions),
        (others,),
        seed=seed,
        outputs=names,
        hidden=frozenset(hidden),
        **options,
    )
    return replace(report, outputs=(*names, *leaves_by_path(Point(weights, (), ()))))


def assert_jvp_agrees(*args: Any, **options: Any) -> None:
    """`check_jvp` for tests, with the same arguments.

    Raises:
        GradientMismatch: an AssertionError with the report, unless the verdict is AGREE.
    """
    report = check_jvp(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
