"""Programs evaluated with random rounding: every operation's result moved by what its rounding may be."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.program.blocks import blockwise
from compare.judge.program.plan import Plan, Step, as_it_is
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.row import UNKNOWN, Moves, Rounds
from compare.judge.roundoff.error_model import MOVES, SCALES, Size, is_inexact

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
        pool = _pool(min(LARGEST, 2 ** max(14, (size - 1).bit_length())), unit)
        self.part = pool[begin : begin + len(pool) - SPREAD]
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
def _pool(size: int, unit: float) -> np.ndarray:
    """For values of up to `size` entries, with windows and parts that begin at any of the first SPREAD entries."""
    return np.random.default_rng(0).uniform(-(3**0.5) * unit, 3**0.5 * unit, size + 2 * SPREAD)


class RoundingNoise:
    """The rule that moves every result by what its rounding may be."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise

    def __call__(self, step: Step, inputs: list[Array]) -> list[Array]:
        row, noise = step.row, self.noise
        if row.rounds is Rounds.EXACTLY:
            if step.name == "bend":
                return [self.bent(step, *inputs)]
            return step.run(inputs, self)
        if row.moves is not Moves.NOTHING:
            inputs = MOVES[row.moves](inputs, noise.like)
        outputs = step.run(inputs, self, overwrite=True)
        if row.rounds is Rounds.WITHIN or (row.rounds is Rounds.IF_NARROWER and not _narrows(inputs[0], outputs[0])):
            return outputs
        return [self.moved(step, inputs, value) if _rounds(value) else value for value in outputs]

    def moved(self, step: Step, inputs: list[Array], value: Array) -> Array:
        """The value, which may be overwritten, moved by its rounding."""
        row, dtype = step.row, value.dtype
        ulps = row.ulps
        if dtype.itemsize <= 4 and dtype.kind != "c":  # rounded by the code itself, to less than it works in
            ulps *= max(1.0, unit_roundoff(dtype) / self.noise.unit)
        size = SCALES[row.rounds](step, inputs, value).times(ulps)

        def moved(entries: Array, noise: Array, relative: Array, *absolute: Array) -> Array:
            move = entries + Size(relative, absolute).drawn(entries, noise)
            if not np.isfinite(move).all():  # infinity, of a mask, has no last place
                move = np.where(np.isfinite(entries), move, entries)
            return move if move.dtype == dtype else move.astype(dtype)

        into = value if _is_spare(step, inputs, value) else None
        return blockwise(moved, value, self.noise.like(value), size.relative, *size.absolute, into=into)

    def bent(self, step: Step, change: Array, *inputs: Array) -> Array:
        """What a derivative, by which `change` is multiplied, may be off by."""
        equation, place = step.params["equation"], step.params["place"]
        slope, noise = TABLE.get(equation.primitive.name, UNKNOWN).slope, self.noise.like(change)
        if slope is None:
            return _largest_tangent(step, equation, place, inputs) * noise * change

        def bent(change: Array, noise: Array, value: Array) -> Array:
            return largest_slope(slope, value) * noise * change

        return blockwise(bent, change, noise, inputs[place])


def _is_spare(step: Step, inputs: list[Array], value: Array) -> bool:
    """Whether an operation's result is memory that nothing else reads: not its input's, unless it could be spared."""
    if not (isinstance(value, np.ndarray) and value.flags.owndata and value.flags.writeable):
        return False
    return all(value is not given or i == step.spare for i, given in enumerate(inputs))


def _rounds(value: Array) -> bool:
    return hasattr(value, "dtype") and isinstance(value, np.ndarray | np.generic) and is_inexact(value)


def _narrows(value: Array, converted: Array) -> bool:
    """Whether a conversion rounds: from integers and truth values to numbers it does not, at sizes that occur."""
    if not (is_inexact(value) and is_inexact(converted)):
        return False
    return unit_roundoff(converted.dtype) > unit_roundoff(value.dtype)


def largest_slope(slope: Callable[[Array], Array], value: Array) -> Array:
    """The largest |derivative| of a smooth function halfway to zero and there, where it is finite.

    JAX may know a derivative to full relative accuracy where a textbook formula cancels: at saturation `1 - A1**2`
    rounds to 0 where JAX keeps 1e-18. What rounding may do there is set by the size of that derivative away from
    saturation: so it moves by u times its largest value on the way from its argument to zero.
    """
    at_zero = _finite_size(slope(np.zeros((), value.dtype)))
    if not np.isfinite(value).all():
        at_zero = np.where(np.isfinite(value), at_zero, 0)
    return np.maximum(_finite_size(slope(0.5 * value)), at_zero)


def _largest_tangent(step: Step, equation: Any, place: int, inputs: Sequence[Array]) -> Array:
    """The same for a function with a derivative of its own, by one of its inputs."""
    tangent = _tangent(step, equation, place)

    def slope(shrink: float) -> Array:
        return _finite_size(tangent([shrink * value if is_inexact(value) else value for value in inputs], as_it_is)[0])

    return np.maximum(slope(0.5), slope(0.0))


def _finite_size(value: Array) -> Array:
    size = np.abs(value)
    return size if np.isfinite(size).all() else np.where(np.isfinite(size), size, 0)


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
