"""Traced programs with random rounding: every operation moved by what its rounding may be.

The rules by which `compare.judge.roundoff.tolerance` runs a loss and its gradient again. `rounding_noise` moves values,
`collect_slopes` and `bend_slopes` the derivatives of smooth functions.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from compare.judge.program.interpreter import Rule, evaluate, run
from compare.judge.roundoff.error_model import EXACT, INPUTS, SCALES, ULPS, is_floating


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


def rounding_noise(noise: Noise) -> Rule:
    """Move every result by what its rounding may be.

    Written with lax, because tracing jax.numpy takes longer than running what is traced.
    """

    def rule(equation: Any, inputs: list[Any]) -> list[Any]:
        name = equation.primitive.name
        if name == "scan":
            return _noisy_scan(equation, inputs, noise)
        if name in ("custom_jvp_call", "custom_vjp_call"):  # noise comes after differentiation: only values are left
            inner = equation.params["call_jaxpr"]
            return evaluate(inner.jaxpr, inner.consts, inputs, rule)
        if name in INPUTS:
            inputs = INPUTS[name](inputs, noise.like)
        outputs = run(equation, inputs)
        if name in EXACT or (name == "convert_element_type" and not _narrows(inputs[0], outputs[0])):
            return outputs
        moved = []
        for output in outputs:
            if is_floating(output):
                scale = SCALES[name](equation, inputs, output) if name in SCALES else lax.abs(output)
                move = lax.mul(scale, noise.like(output))
                if name in ULPS:
                    move = lax.mul(move, lax.full_like(move, ULPS[name]))
                if output.dtype != np.float64:  # rounded by the code itself, to less than the dtype under test
                    own = unit_roundoff(output.dtype)
                    move *= jnp.maximum(1, own / noise.unit).astype(output.dtype)
                # Infinity, of a mask, has no last place.
                output = lax.select(lax.is_finite(output), lax.add(output, move), output)
            moved.append(output)
        return moved

    return rule


def _narrows(value: Any, converted: Any) -> bool:
    """Whether a conversion rounds: from integers and truth values to numbers it does not, at sizes that occur."""
    return is_floating(value) and is_floating(converted) and unit_roundoff(converted.dtype) > unit_roundoff(value.dtype)


def _scanned(equation: Any, inputs: list[Any], extra: Any, turn: Callable[[Any, Any, list[Any]], Any]) -> Any:
    """Run a loop of known length with `turn(number, extra of the turn, values) -> (outputs, more)` as its body.

    Returns (outputs, more of all turns, stacked).
    """
    parameters = equation.params
    fixed, carried = _fixed_and_carried(parameters)
    constants, start, items = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]

    def body(carry: list[Any], item: Any) -> Any:
        number, own, values = item
        outputs, more = turn(number, own, [*constants, *carry, *values])
        return outputs[:carried], (outputs[carried:], more)

    numbers = jnp.arange(parameters["length"])
    last, (stacked, more) = lax.scan(body, start, (numbers, extra, items), reverse=parameters["reverse"])
    return [*last, *stacked], more


def _fixed_and_carried(parameters: dict[str, Any]) -> tuple[int, int]:
    """How many inputs of a loop are the same in every turn, and how many go from one turn to the next."""
    if "ft_in" in parameters:  # from JAX 0.11 on
        fixed, carried, _ = map(len, parameters["ft_in"].unpack())
        return fixed, carried
    return parameters["num_consts"], parameters["num_carry"]


def _noisy_scan(equation: Any, inputs: list[Any], noise: Noise) -> list[Any]:
    """A loop with noise in every turn, and other draws in each."""
    body = equation.params["jaxpr"]

    def turn(number: Any, _: Any, values: list[Any]) -> Any:
        return evaluate(body.jaxpr, body.consts, values, rounding_noise(noise.of_a_turn(number))), None

    return _scanned(equation, inputs, None, turn)[0]


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
