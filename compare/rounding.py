"""How far apart two correct computations may be: measured at the point in question, not guessed.

JAX traces the computation into a list of elementary operations. It is then run again several times with
each operation's result moved at random by what its rounding may be (Monte Carlo arithmetic: Parker,
"Monte Carlo Arithmetic", 1997). How far the final results scatter is how much rounding matters here, in
this dtype, for every single entry: cancellation, saturation and long sums are all seen as they are.

Two refinements make it fair to a correct program that computes the same thing in another way.

- A sum of n products errs in proportion to what is summed, not to what is left of it. Its noise is
  u (|a| |b| + sqrt(n) |a.b|), Euclidean norms over the summed axes, which is the standard deviation for
  terms of either sign and for terms of one sign.
- JAX may know a derivative to full relative accuracy where a textbook formula cancels: at saturation
  `A2 - y` and `1 - A1**2` round to 0 where JAX keeps 1e-18. What rounding may do there is set by the size
  of that derivative away from saturation. So the derivative of each smooth elementwise function moves by u
  times its largest value between its argument and zero.

u is the unit roundoff of the dtype under test. The noisy runs themselves are done in float64.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from compare.tracing import Rule, interpreted, largest_value, run

SAMPLES = 4
# Allowed: this many standard deviations. A leaf may have a million entries, four samples estimate a deviation
# to about a quarter, and another program may round several times where JAX rounds once.
DEVIATIONS = 16.0
# Entries of a leaf share a part of their noise estimate, so that none is judged by four lucky draws.
SHARED = 1 / 8


def unit_roundoff(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps) / 2


# --------------------------------------------------------------------------------------------- noise


class _Noise:
    """Draws of variance 1: windows of one random pool, each beginning elsewhere.

    A pool instead of a draw for each operation, because a generator takes far longer to compile than the
    operation it stands beside.
    """

    SPREAD = 4096

    def __init__(self, key: Any, largest: int) -> None:
        self.pool = jax.random.uniform(key, (largest + self.SPREAD,), float, -(3**0.5), 3**0.5)
        self.windows = 0

    def like(self, value: Any) -> Any:
        self.windows += 1
        start = 1597 * self.windows % self.SPREAD
        window = lax.slice(self.pool, (start,), (start + value.size,))
        return window.reshape(value.shape).astype(value.dtype)


def _is_floating(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def rounding_noise(noise: _Noise, unit: float) -> Rule:
    """Move every result by what its rounding may be."""

    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        outputs = run(equation, inputs)
        name = equation.primitive.name
        if name in _EXACT:
            return outputs
        moved = []
        for output in outputs:
            if _is_floating(output):
                u = max(unit, unit_roundoff(output.dtype))
                scale = _SUMS[name](equation, inputs, output) if name in _SUMS else jnp.abs(output)
                output = output + u * _ULPS.get(name, 1) * scale * noise.like(output)
            moved.append(output)
        return moved

    return rule


def _products(equation: Any, inputs: list[Any], output: Any) -> Any:
    """|a| |b| + sqrt(n) |a.b| for a product of arrays contracted over n terms."""
    numbers = equation.params["dimension_numbers"]
    (left, right), _ = numbers
    a, b = (
        jnp.sqrt(jnp.sum(value**2, axis=axes, keepdims=True)) for value, axes in zip(inputs, (left, right), strict=True)
    )
    terms = float(np.prod([inputs[0].shape[axis] for axis in left]))
    return lax.dot_general(a, b, numbers, precision="highest") + terms**0.5 * jnp.abs(output)


def _sums(equation: Any, inputs: list[Any], output: Any) -> Any:
    """The same for a plain sum, whose second factor is 1."""
    terms = inputs[0].size / max(output.size, 1)
    squares = jnp.sum(inputs[0] ** 2, axis=equation.params["axes"])
    return terms**0.5 * (jnp.sqrt(squares) + jnp.abs(output))


_SUMS: dict[str, Callable[..., Any]] = {"dot_general": _products, "reduce_sum": _sums}
# Elementary functions are good to a few units in the last place; the rest to half of one.
_ULPS = dict.fromkeys(("exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "erf", "erf_inv", "pow"), 4)
_ULPS |= dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "erfc"), 4)
# Operations that move numbers or choose among them, and never round.
_EXACT = {
    "abs", "broadcast_in_dim", "concatenate", "copy", "copy_p", "dynamic_slice", "dynamic_update_slice",
    "expand_dims", "gather", "iota", "max", "min", "name", "neg", "pad", "reduce_max", "reduce_min", "reshape",
    "rev", "select_n", "sign", "slice", "sort", "squeeze", "stop_gradient", "transpose",
}  # fmt: skip


def collect_slopes(slopes: list[Any]) -> Rule:
    """Append the largest slope of every smooth elementwise function, by every argument it has."""

    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        outputs = run(equation, inputs)
        slopes.extend(_largest_slope(equation, inputs, i) for i in _bendable(equation, inputs, outputs))
        return outputs

    return rule


def bend_slopes(bends: list[Any]) -> Rule:
    """Add `bends`, in the order of `collect_slopes`, to those derivatives, and leave the values alone."""
    remaining = iter(bends)

    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        outputs = run(equation, inputs)
        for i in _bendable(equation, inputs, outputs):
            outputs = [outputs[0] + next(remaining) * (inputs[i] - lax.stop_gradient(inputs[i]))]
        return outputs

    return rule


def _bendable(equation: Any, inputs: list[Any], outputs: list[Any]) -> list[int]:
    if equation.primitive.name not in _SMOOTH or len(outputs) != 1:
        return []
    shape = outputs[0].shape
    return [i for i, value in enumerate(inputs) if _is_floating(value) and jnp.shape(value) == shape]


def _largest_slope(equation: Any, inputs: list[Any], i: int) -> Any:
    """The largest |derivative| by input i between the inputs and zero, where it is finite."""

    def slope(t: float) -> Any:
        scaled = [t * value if _is_floating(value) else value for value in inputs]

        def alone(value: Any) -> Any:
            return run(equation, [*scaled[:i], value, *scaled[i + 1 :]])[0]

        _, tangent = jax.jvp(alone, (scaled[i],), (jnp.ones_like(scaled[i]),))
        return jnp.where(jnp.isfinite(tangent), jnp.abs(tangent), 0)

    return functools.reduce(jnp.maximum, [slope(t) for t in (1.0, 0.5, 0.25, 0.0)])


# Functions whose derivative stays finite on the way to zero. custom_jvp_call: logaddexp, relu and the like.
_SMOOTH = {"tanh", "logistic", "erf", "erfc", "exp", "exp2", "expm1", "log1p", "sin", "cos", "atan", "sinh"}
_SMOOTH |= {"cosh", "asinh", "custom_jvp_call"}


# ----------------------------------------------------------------------------------------- what is allowed


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _scatter(function: Callable[..., Any], gradient: bool, unit: float, seed: Any, *args: Any) -> Any:
    """(result, root mean square over SAMPLES of how far noise moves it), leaf by leaf."""

    target = jax.value_and_grad(function) if gradient else function
    base = target(*args)
    slopes: list[Any] = []
    if gradient:
        interpreted(function, collect_slopes(slopes))(*args)
    largest = largest_value(jax.make_jaxpr(target)(*args).jaxpr)

    def squares(key: Any) -> Any:
        noise = _Noise(key, largest)
        bends = [unit * slope * noise.like(slope) for slope in slopes]

        def bent(*args: Any) -> Any:
            return interpreted(function, bend_slopes(bends))(*args)

        noisy = interpreted(jax.value_and_grad(bent) if gradient else function, rounding_noise(noise, unit))
        return jax.tree.map(lambda moved, still: (moved - still) ** 2, noisy(*args), base)

    keys = jax.random.split(jax.random.key(seed, impl="unsafe_rbg"), SAMPLES)
    mean = jax.tree.map(lambda values: jnp.sqrt(jnp.mean(values, axis=0)), jax.vmap(squares)(keys))
    return base, mean


def measure(
    function: Callable[..., Any], *args: Any, dtype: Any, gradient: bool = False, seed: int = 0
) -> tuple[Any, Any]:
    """Run `function(*args)` in float64, and measure what rounding in `dtype` may do to every entry.

    With `gradient`, run `jax.value_and_grad(function)` instead. Returns (result, allowance), two trees of
    NumPy arrays of the same structure. An entry's allowance is DEVIATIONS standard deviations of the noisy
    runs, of which a part (SHARED) is common to its leaf, plus two units in the last place of the result,
    because both sides store theirs rounded, plus the smallest normal number.
    """
    unit = unit_roundoff(dtype)
    with jax.enable_x64(True):
        wide = jax.tree.map(_widened, args)
        result, scatter = _scatter(function, gradient, unit, seed, *wide)
        result, scatter = jax.tree.map(np.asarray, (result, scatter))
    tiny = float(jnp.finfo(dtype).tiny)
    return result, jax.tree.map(lambda value, spread: _allowance(value, spread, unit, tiny), result, scatter)


def _widened(value: Any) -> Any:
    return np.asarray(value, np.float64) if _is_floating(value) else value


def _allowance(value: np.ndarray, deviation: np.ndarray, unit: float, tiny: float) -> np.ndarray:
    shared = SHARED**2 * np.mean(deviation**2) if deviation.size else 0.0
    return DEVIATIONS * np.sqrt(deviation**2 + shared) + 4 * unit * np.abs(value) + tiny


def norm(array: np.ndarray) -> float:
    """The Euclidean norm, in float64 whatever the dtype, scaled so that no square overflows."""
    wide = np.abs(np.asarray(array, np.float64).ravel())
    largest = wide.max(initial=0.0)
    return float(largest * np.linalg.norm(wide / largest)) if 0 < largest < np.inf else float(largest)
