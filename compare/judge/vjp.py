"""A hand-written forward and backward pair against JAX's vector-Jacobian product of the same function.

The pair is turned into a loss, the inner product of the value with a random cotangent, so that everything that
`check_gradients` knows about losses is known about it: probes, rounding, causes, conduct.
"""

import functools
import keyword
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.errors import BadInput
from compare.judge.evaluation.intermediates import tap
from compare.judge.gradients import check_gradients
from compare.judge.reports.gradient_report import GradientMismatch, GradientReport
from compare.judge.reports.verdict import Verdict
from compare.pytrees import as_array, is_key

# A stream of its own: people draw their inputs from default_rng(0), and an output gradient equal to the input hides
# transposes again.
COTANGENTS = 1_000_003


@dataclass(frozen=True)
class _Contracted:
    """`(floating inputs), cotangent, other inputs -> <cotangent, function(*inputs)>`; equal if the function is.

    A class and not a closure, so that checking a function again finds it compiled.
    """

    function: Callable[..., Any]
    places: tuple[bool, ...]

    def __call__(self, inputs: tuple[Any, ...], cotangent: Any, others: dict[str, Any]) -> Any:
        value = self.function(*_merged(self.places, inputs, others))
        value = jax.tree_util.tree_map_with_path(_marked, value)
        products = jax.tree.map(lambda v, c: jnp.sum((v * jnp.asarray(c).astype(v.dtype)).real), value, cotangent)
        return sum(jax.tree.leaves(products))


def _marked(path: Any, leaf: Any) -> Any:
    """Marked, because many a derivative is written with the value: `1 - output**2`."""
    return tap(f"output{jax.tree_util.keystr(path)}", leaf)


def _merged(places: tuple[bool, ...], inputs: Sequence[Any], others: dict[str, Any]) -> list[Any]:
    floating, rest = iter(inputs), iter(others.values())
    return [next(floating) if place else next(rest) for place in places]


def _input(x: Any) -> Any:
    readable = (hasattr(x, "__array__") or isinstance(x, float)) and not is_key(x)
    return np.array(as_array(x)) if readable else x


def _pair(result: Any) -> Any:
    """Raises BadInput, a ValueError."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        count = f" of {len(result)}" if isinstance(result, tuple | list) else ""
        raise BadInput(
            f"forward must return (value, cache), but it returns {type(result).__name__}{count}. If backward needs "
            "nothing, return (value, None)."
        )
    return result


@functools.lru_cache(maxsize=256)
def _fields(names: tuple[str, ...]) -> Any:
    """One class for the same names, so that checking a function again finds it compiled."""
    return namedtuple("Inputs", names)


def _named(names: tuple[str, ...], values: Sequence[Any]) -> Any:
    """The values under the names: a dict would not keep their order in JAX. What is too much is `gradient_2`, say."""
    extra = tuple(f"gradient_{i}" for i in range(len(names), len(values)))
    return _fields((*names, *extra)[: len(values)])._make(values)


def _refuse_names(names: Sequence[str], count: int) -> None:
    """Raises BadInput unless they tell the inputs apart."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"names must be a sequence of names, one for each input, got {names!r}.")
    if len(names) != count:
        raise BadInput(f"names must hold one name for each of the {count} inputs, but it holds {len(names)}.")
    if len(set(names)) < count:
        raise BadInput(f"names must tell the inputs apart, got {', '.join(names)}.")
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise BadInput(f"names must be such as arguments have, and not begin with _, got {name!r}.")


def check_vjp(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    function: Callable[..., Any],
    *inputs: Any,
    seed: int = 0,
    names: Sequence[str] | None = None,
    **options: Any,
) -> GradientReport:
    """Compare a hand-written `backward` with the vector-Jacobian product that JAX derives from `function`.

    `forward(*inputs) -> (value, cache)` and `backward(output_gradient, cache) -> gradient`, or a tuple with one
    gradient for each floating-point input, in order (or one for every input, with None for the others).
    `function(*inputs) -> value` must be traceable by JAX. Inputs that are not floating-point arrays pass through.

    The output gradient is drawn from `seed`, of both signs and never ones, which hide transposes, sums and all of
    batch normalization. In the report, the loss is its inner product with the value (of complex values the real part;
    as in JAX, the output gradient is not conjugated), and leaves are numbered by input, or have the name of their
    input, if `names` has one for each: "the gradient of x". Options and errors are those of `check_gradients`. If the
    tuple has one more value, a dict, it holds gradients of intermediates that `function` marks with `tap`, and a fault
    is located among them.
    """
    arrays = [_input(x) for x in inputs]
    places = tuple(isinstance(x, np.ndarray) and jnp.issubdtype(x.dtype, jnp.inexact) for x in arrays)
    if not any(places):
        raise BadInput("none of the inputs is a floating-point array: there is nothing to differentiate.")
    floating = tuple(x for x, place in zip(arrays, places, strict=True) if place)
    build = tuple
    if names is not None:
        _refuse_names(names, len(arrays))
        build = functools.partial(_named, tuple(name for name, place in zip(names, places, strict=True) if place))
    digits = len(str(len(arrays)))  # so that the names sort as the inputs do: JAX goes through a dict by its keys
    others = {f"input {i:0{digits}}": x for i, (x, place) in enumerate(zip(arrays, places, strict=True)) if not place}
    value, _ = _pair(forward(*(np.copy(x) if isinstance(x, np.ndarray) else x for x in arrays)))
    random = np.random.default_rng([seed, COTANGENTS])

    def cotangent_of(leaf: Any) -> np.ndarray:
        array = as_array(leaf)
        drawn = random.standard_normal(array.shape)
        if np.iscomplexobj(array):
            drawn = drawn + 1j * random.standard_normal(array.shape)
        return drawn.astype(array.dtype)

    cotangent = jax.tree.map(cotangent_of, value)

    def by_hand(inputs: tuple[Any, ...], cotangent: Any, others: dict[str, Any]) -> tuple[Any, ...]:
        value, cache = _pair(forward(*_merged(places, inputs, others)))
        gradients = backward(cotangent, cache)
        if not isinstance(gradients, tuple | list):
            gradients = (gradients,)
        intermediates = {}
        if (
            len(gradients) > 1
            and isinstance(gradients[-1], dict)
            and len(gradients) - 1 in (len(floating), len(places))
        ):
            *gradients, intermediates = gradients
        if len(gradients) == len(places):
            gradients = tuple(g for g, place in zip(gradients, places, strict=True) if place)
        terms = jax.tree.map(lambda v, c: np.sum(np.real(as_array(v) * c)), value, cotangent)
        return sum(jax.tree.leaves(terms)), build(gradients), intermediates

    return check_gradients(
        by_hand, _Contracted(function, places), build(floating), cotangent, others, seed=seed, **options
    )


def assert_vjp_agrees(*args: Any, **options: Any) -> None:
    """`check_vjp`, but raise GradientMismatch unless the verdict is AGREE."""
    report = check_vjp(*args, **options)
    if report.verdict is not Verdict.AGREE:
        raise GradientMismatch(report)
