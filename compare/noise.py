"""Traced programs with random rounding: every operation moved by what its rounding may be.

The rules by which `compare.rounding` runs a loss and its gradient again. `rounding_noise` moves values,
`collect_slopes` and `bend_slopes` the derivatives of smooth functions.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from compare.tracing import Rule, evaluate, run


def unit_roundoff(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps) / 2


SPREAD = 4096


class Noise:
    """Draws of standard deviation `unit`: windows of one random pool, each beginning elsewhere.

    A pool instead of a draw for each operation, because a generator takes far longer to compile, and to run, than the
    operation it stands beside. Samples differ in where the part of the pool that they use begins, turns of a loop
    by a `shift`.
    """

    def __init__(self, part: Any, unit: Any, shift: Any = 0) -> None:
        self.part, self.unit, self.shift = part, unit, shift
        self.windows = 0

    def like(self, value: Any) -> Any:
        self.windows += 1
        start = (1597 * self.windows + self.shift) % SPREAD
        window = lax.reshape(lax.dynamic_slice_in_dim(self.part, start, value.size), value.shape)
        return lax.convert_element_type(self.unit * window, value.dtype)

    def of_a_turn(self, number: Any) -> "Noise":
        """Other draws, for a turn of a loop."""
        return Noise(self.part, self.unit, self.shift + 211 * (number + 1))


@functools.lru_cache(maxsize=8)
def _pool(size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, size + 2 * SPREAD)


def draws(size: int, sample: int) -> np.ndarray:
    """Of standard deviation 1, for values of up to `size` entries: the part of the pool that `sample` uses."""
    begin = (2731 * sample) % SPREAD
    return _pool(size)[begin : begin + size + SPREAD]


def is_floating(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def rounding_noise(noise: Noise) -> Rule:
    """Move every result by what its rounding may be.

    Written with lax, because tracing jax.numpy takes longer than running what is traced.
    """

    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name == "scan":
            return _noisy_scan(equation, inputs, noise)
        outputs = run(equation, inputs)
        if name in _EXACT:
            return outputs
        moved = []
        for output in outputs:
            if is_floating(output):
                scale = _SCALES[name](equation, inputs, output) if name in _SCALES else lax.abs(output)
                move = lax.mul(scale, noise.like(output))
                if name in _ULPS:
                    move = lax.mul(move, lax.full_like(move, _ULPS[name]))
                if output.dtype != np.float64:  # rounded by the code itself, to less than the dtype under test
                    own = unit_roundoff(output.dtype)
                    move *= jnp.maximum(1, own / noise.unit).astype(output.dtype)
                # Infinity, of a mask, has no last place.
                output = lax.select(lax.is_finite(output), lax.add(output, move), output)
            moved.append(output)
        return moved

    return rule


def _scanned(equation: Any, inputs: list[Any], extra: Any, turn: Callable[[Any, Any, list[Any]], Any]) -> Any:
    """Run a loop of known length with `turn(number, extra of the turn, values) -> (outputs, more)` as its body.

    Returns (outputs, more of all turns, stacked).
    """
    parameters = equation.params
    fixed, carried = parameters["num_consts"], parameters["num_carry"]
    constants, start, items = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]

    def body(carry: list[Any], item: Any) -> Any:
        number, own, values = item
        outputs, more = turn(number, own, [*constants, *carry, *values])
        return outputs[:carried], (outputs[carried:], more)

    numbers = jnp.arange(parameters["length"])
    last, (stacked, more) = lax.scan(body, start, (numbers, extra, items), reverse=parameters["reverse"])
    return [*last, *stacked], more


def _noisy_scan(equation: Any, inputs: list[Any], noise: Noise) -> list[Any]:
    """A loop with noise in every turn, and other draws in each."""
    body = equation.params["jaxpr"]

    def turn(number: Any, _: Any, values: list[Any]) -> Any:
        return evaluate(body.jaxpr, body.consts, values, rounding_noise(noise.of_a_turn(number))), None

    return _scanned(equation, inputs, None, turn)[0]


def _products(equation: Any, inputs: list[Any], output: Any) -> Any:
    """|a| |b| + sqrt(n) |a.b| for a product of arrays contracted over n terms."""
    (contracted, batched) = equation.params["dimension_numbers"]
    norms = []
    for i, value in enumerate(inputs):
        # As the product's own axes are laid out: batch, then the free ones of a, then those of b.
        size = lax.sqrt(jnp.sum(lax.square(value), axis=contracted[i], keepdims=True))
        free = [axis for axis in range(value.ndim) if axis not in (*contracted[i], *batched[i])]
        size = lax.transpose(size, (*batched[i], *free, *contracted[i]))
        kept = [value.shape[axis] for axis in (*batched[i], *free)]
        other = output.ndim - len(kept)
        place = len(batched[i]) if i else len(kept)
        norms.append(lax.reshape(size, (*kept[:place], *(1,) * other, *kept[place:])))
    terms = float(np.prod([inputs[0].shape[axis] for axis in contracted[0]]))
    return norms[0] * norms[1] + terms**0.5 * lax.abs(output)


def _sums(equation: Any, inputs: list[Any], output: Any) -> Any:
    """The same for a plain sum, whose second factor is 1."""
    terms = inputs[0].size / max(output.size, 1)
    squares = jnp.sum(inputs[0] ** 2, axis=equation.params["axes"])
    return terms**0.5 * (jnp.sqrt(squares) + jnp.abs(output))


def _by_squares(equation: Any, inputs: list[Any], output: Any) -> Any:
    """The same for any other operation that adds products of its inputs: done again to their squares, and to ones."""
    squares = run(equation, [value**2 if is_floating(value) else value for value in inputs])[0]
    terms = run(equation, [jnp.ones_like(value) if is_floating(value) else value for value in inputs])[0]
    return jnp.sqrt(terms) * (jnp.sqrt(squares) + jnp.abs(output))


def _beside_one(equation: Any, inputs: list[Any], output: Any) -> Any:
    """Textbooks write expm1(x) as exp(x) - 1 and log1p(x) as log(1 + x), which round where 1 does."""
    return lax.add(lax.abs(output), lax.full_like(output, 1))


# What rounding is in proportion to, where that is not the result.
_SCALES: dict[str, Callable[..., Any]] = {"dot_general": _products, "reduce_sum": _sums}
_SCALES |= dict.fromkeys(("conv_general_dilated", "cumsum", "reduce_window_sum", "scatter-add"), _by_squares)
_SCALES |= dict.fromkeys(("expm1", "log1p"), _beside_one)
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
    """Append the largest slope of every smooth elementwise function, by every argument it has.

    A loop appends one list, of the slopes in it, stacked over its turns.
    """

    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]

            def turn(number: Any, _: Any, values: list[Any]) -> Any:
                inner: list[Any] = []
                return evaluate(body.jaxpr, body.consts, values, collect_slopes(inner)), inner

            outputs, stacked = _scanned(equation, inputs, None, turn)
            slopes.append(stacked)
            return outputs
        outputs = run(equation, inputs)
        slopes.extend(_largest_slope(equation, inputs, i) for i in _bendable(equation, inputs, outputs))
        return outputs

    return rule


def bend_slopes(bends: list[Any]) -> Rule:
    """Add `bends`, in the order of `collect_slopes`, to those derivatives, and leave the values alone."""
    remaining = iter(bends)

    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]

            def turn(number: Any, own: Any, values: list[Any]) -> Any:
                return evaluate(body.jaxpr, body.consts, values, bend_slopes(own)), None

            return _scanned(equation, inputs, next(remaining), turn)[0]
        outputs = run(equation, inputs)
        for i in _bendable(equation, inputs, outputs):
            finite = jnp.where(jnp.isfinite(inputs[i]), inputs[i], 0)  # infinity - infinity is no zero
            outputs = [outputs[0] + next(remaining) * (finite - lax.stop_gradient(finite))]
        return outputs

    return rule


def _bendable(equation: Any, inputs: list[Any], outputs: list[Any]) -> list[int]:
    if equation.primitive.name not in _SMOOTH or len(outputs) != 1:
        return []
    shape = outputs[0].shape
    return [i for i, value in enumerate(inputs) if is_floating(value) and jnp.shape(value) == shape]


def _largest_slope(equation: Any, inputs: list[Any], i: int) -> Any:
    """The largest |derivative| by input i halfway to zero and there, where it is finite.

    Where the function is, its derivative moves with the rounding of what it is computed from.
    """

    def slope(shrunk: Callable[[Any], Any]) -> Any:
        scaled = [shrunk(value) if is_floating(value) else value for value in inputs]

        def alone(value: Any) -> Any:
            return run(equation, [*scaled[:i], value, *scaled[i + 1 :]])[0]

        _, tangent = jax.jvp(alone, (scaled[i],), (jnp.ones_like(scaled[i]),))
        return jnp.where(jnp.isfinite(tangent), jnp.abs(tangent), 0)

    return jnp.maximum(slope(lambda value: 0.5 * value), slope(jnp.zeros_like))


# Functions whose derivative stays finite on the way to zero. custom_jvp_call: logaddexp, relu and the like.
_SMOOTH = {"tanh", "logistic", "erf", "erfc", "exp", "exp2", "expm1", "log1p", "sin", "cos", "atan", "sinh"}
_SMOOTH |= {"cosh", "asinh", "custom_jvp_call"}
