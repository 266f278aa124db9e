"""Programs evaluated with random rounding: every operation's result moved by what its rounding may be."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.program.plan import Plan, Step, as_it_is
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.row import UNKNOWN, Moves, Rounds
from compare.judge.roundoff.error_model import MOVES, SCALES, is_inexact

Array = Any

SPREAD = 4096  # places at which a window, or the part of a sample, may begin
LARGEST = 2**22  # entries of the largest pool


@functools.lru_cache(maxsize=256)
def unit_roundoff(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps) / 2


class Noise:
    """Draws of standard deviation `unit`: windows of one random pool, each beginning elsewhere.

    A pool instead of a draw for each operation, because a generator takes far longer than the operation it stands
    beside. Samples differ in where the part of the pool that they use begins. A value that is larger than the pool gets
    one window after another, which begin at places that have nothing to do with each other.
    """

    def __init__(self, size: int, sample: int, unit: float) -> None:
        begin = (2731 * sample) % SPREAD
        pool = _pool(min(LARGEST, 2 ** max(14, (size - 1).bit_length())))
        self.part = unit * pool[begin : begin + len(pool) - SPREAD]
        self.unit = unit
        self.windows = 0

    def like(self, value: Array) -> Array:
        """Noise of the shape of a value; complex noise, with as much in either part, for a complex one."""
        if value.dtype.kind == "c":
            return (self._window(value.shape, value.size) + 1j * self._window(value.shape, value.size)) / 2**0.5
        return self._window(value.shape, value.size)

    def _window(self, shape: tuple[int, ...], size: int) -> Array:
        self.windows += 1
        start = (1597 * self.windows) % SPREAD
        whole = len(self.part) - SPREAD
        if size <= whole:
            return self.part[start : start + size].reshape(shape)
        noise = np.empty(size)
        for number, begin in enumerate(range(0, size, whole)):
            block = noise[begin : begin + whole]
            first = (start + 2053 * number) % SPREAD
            block[:] = self.part[first : first + block.size]
        return noise.reshape(shape)


@functools.lru_cache(maxsize=2)
def _pool(size: int) -> np.ndarray:
    """For values of up to `size` entries, with windows and parts that begin at any of the first SPREAD entries."""
    return np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, size + 2 * SPREAD)


class RoundingNoise:
    """The rule that moves every result by what its rounding may be."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise

    def __call__(self, step: Step, inputs: list[Array]) -> list[Array]:
        row, noise = step.row, self.noise
        if row.rounds is Rounds.EXACTLY:
            if step.name == "bend":
                slope = largest_slope(step, inputs[1:])
                return [slope * noise.like(slope) * inputs[0]]
            return step.run(inputs, self)
        if row.moves is not Moves.NOTHING:
            inputs = MOVES[row.moves](inputs, noise.like)
        outputs = step.run(inputs, self)
        if row.rounds is Rounds.WITHIN or (row.rounds is Rounds.IF_NARROWER and not _narrows(inputs[0], outputs[0])):
            return outputs
        return [self.moved(step, inputs, value) if _rounds(value) else value for value in outputs]

    def moved(self, step: Step, inputs: list[Array], value: Array) -> Array:
        move = SCALES[step.row.rounds](step, inputs, value)
        move = move * self.noise.like(value)
        if step.row.ulps != 1.0:
            move *= step.row.ulps
        if (
            value.dtype.itemsize <= 4 and value.dtype.kind != "c"
        ):  # rounded by the code itself, to less than it works in
            move *= max(1.0, unit_roundoff(value.dtype) / self.noise.unit)
        moved = value + move
        if not np.isfinite(moved).all():  # infinity, of a mask, has no last place
            moved = np.where(np.isfinite(value), moved, value)
        return moved if moved.dtype == value.dtype else moved.astype(value.dtype)


def _rounds(value: Array) -> bool:
    return hasattr(value, "dtype") and isinstance(value, np.ndarray | np.generic) and is_inexact(value)


def _narrows(value: Array, converted: Array) -> bool:
    """Whether a conversion rounds: from integers and truth values to numbers it does not, at sizes that occur."""
    if not (is_inexact(value) and is_inexact(converted)):
        return False
    return unit_roundoff(converted.dtype) > unit_roundoff(value.dtype)


def largest_slope(step: Step, inputs: list[Array]) -> Array:
    """The largest |derivative| of a smooth function halfway to zero and there, where it is finite.

    JAX may know a derivative to full relative accuracy where a textbook formula cancels: at saturation `1 - A1**2`
    rounds to 0 where JAX keeps 1e-18. What rounding may do there is set by the size of that derivative away from
    saturation: so it moves by u times its largest value on the way from its argument to zero.
    """
    equation, place = step.params["equation"], step.params["place"]

    def slope(shrink: float) -> Array:
        shrunk = [shrink * value if is_inexact(value) else value for value in inputs]
        row = TABLE.get(equation.primitive.name, UNKNOWN)
        if row.slope is not None:
            value = row.slope(shrunk[place])
        else:
            (value,) = _tangent(step, equation, place)(shrunk, as_it_is)
        return np.where(np.isfinite(value), np.abs(value), 0)

    return np.maximum(slope(0.5), slope(0.0))


def _tangent(step: Step, equation: Any, place: int) -> Plan:
    """The derivative of a function with a rule of its own by one of its inputs."""

    def tangent(*inputs: Any) -> Any:
        def alone(value: Any) -> Any:
            given = [value if i == place else other for i, other in enumerate(inputs)]
            return equation.primitive.bind(*given, **equation.primitive.get_bind_params(equation.params))[0]

        return jax.jvp(alone, (inputs[place],), (jnp.ones_like(inputs[place]),))[1]

    if "tangent" not in step.programs:
        like = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in equation.invars]
        step.programs["tangent"] = Plan(jax.make_jaxpr(tangent)(*like), step.widening)
    return step.programs["tangent"]
