"""Evaluates programs with random rounding: the result of each operation is perturbed by its rounding error."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compare.judge.program.blocks import blockwise
from compare.judge.program.decisions import Repeated
from compare.judge.program.plan import Plan, Step, as_it_is, is_narrow
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.row import UNKNOWN, Moves, Rounds
from compare.judge.program.primitives.special_functions import INEXACT_FORMULAS
from compare.judge.roundoff.error_model import MOVES, SCALES, Size, is_inexact

Array = Any

SPREAD = 4096  # the number of positions at which a window may start, and at which the part of a sample may start
LARGEST = 2**22  # the largest number of entries of a pool


@functools.lru_cache(maxsize=256)
def unit_roundoff(dtype: Any) -> float:
    """Half the machine epsilon: the largest relative error of rounding to a floating dtype."""
    return float(jnp.finfo(dtype).eps) / 2


class Noise:
    """Random numbers, taken from one pool, because a random generator takes far longer than most operations.

    Each sample uses another part of the pool, and each value another window of that part. A value that is larger than
    the pool gets several windows with unrelated starts.

    Args:
        size: the number of entries of the largest value.
        sample: the number of the sample.
        unit: the standard deviation.
    """

    def __init__(self, size: int, sample: int, unit: float) -> None:
        begin = (2731 * sample) % SPREAD
        pool = _pool(min(LARGEST, 2 ** max(14, (size - 1).bit_length())), unit)
        self.part = pool[begin : begin + len(pool) - SPREAD]
        self.unit = unit
        self.windows = 0

    def like(self, value: Array) -> Array:
        """Noise of the shape of a value. For a complex value, both parts of the noise have the same variance."""
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
    """Uniform random numbers of standard deviation `unit`, enough for values of up to `size` entries.

    The part of a sample starts at one of the first SPREAD entries, and a window at one of the first SPREAD entries of
    the part.
    """
    return np.random.default_rng(0).uniform(-(3**0.5) * unit, 3**0.5 * unit, size + 2 * SPREAD)


class RoundingNoise:
    """The rule that perturbs each result by its rounding error.

    A result with a 16-bit dtype in the trace is perturbed by the rounding to 16 bits, and its sums are formed in
    `accumulate`. A result with float32 in the trace is not rounded to 16 bits, so that a cast to float32 in the
    reference is respected.

    Args:
        noise: random numbers whose standard deviation is the unit roundoff of the working dtype.
        decisions: the decisions of the unperturbed run, which are repeated.
        accumulate: the dtype in which 16-bit numbers are summed; float32 if None, as in most kernels; "input" for the
            16-bit dtype itself.
        intermediates: a 16-bit dtype to which results with float32 in the trace are also rounded, because a kernel may
            store intermediate results in 16 bits that its reference has in float32.
    """

    def __init__(
        self, noise: Noise, decisions: Repeated | None = None, accumulate: Any = None, intermediates: Any = None
    ) -> None:
        self.noise, self.decisions, self.accumulate = noise, decisions, accumulate
        self.intermediates = intermediates

    def __call__(self, step: Step, inputs: list[Array]) -> list[Array]:
        row, noise = step.row, self.noise
        decided = self.decisions.at(step, inputs) if self.decisions is not None else None
        if decided is not None:
            return decided
        if row.rounds is Rounds.EXACTLY:
            if step.name == "bend":
                return [self.bent(step, *inputs)]
            return step.run(inputs, self)
        if step.fixed:
            constants = step.run(inputs, self)
            if all(_is_whole(value) for value in constants):  # any program computes the 1 in x**(2 - 1) exactly
                return constants
        if row.moves is not Moves.NOTHING:
            inputs = MOVES[row.moves](inputs, noise.like)
        outputs = step.run(inputs, self, overwrite=True)
        if step.name == "custom_jvp_call":
            return [self._by_formula(step, inputs, value) for value in outputs]
        if row.rounds is Rounds.WITHIN or (row.rounds is Rounds.IF_NARROWER and not _narrows(step, inputs, outputs)):
            return outputs
        return [self.moved(step, inputs, value, i) if _rounds(value) else value for i, value in enumerate(outputs)]

    def moved(self, step: Step, inputs: list[Array], value: Array, place: int = 0) -> Array:
        """A result perturbed by its rounding error. Its memory may be overwritten.

        `place` is the result's number among those of the step.
        """
        row, dtype, traced = step.row, value.dtype, self._dtype(step, place)
        narrow = is_narrow(traced)
        ulps = max(row.ulps, row.inexact / self.noise.unit)
        if narrow or (dtype.itemsize <= 4 and dtype.kind != "c"):
            # The code under test rounds this result to a dtype that is narrower than its working dtype.
            work = working_dtype(traced if narrow else dtype, self.accumulate)
            ulps *= max(1.0, unit_roundoff(work) / self.noise.unit)
        size = SCALES[row.rounds](step, inputs, value).times(ulps)

        def moved(entries: Array, noise: Array, relative: Array, *absolute: Array) -> Array:
            move = entries + Size(relative, absolute).drawn(entries, noise)
            if not np.isfinite(move).all():  # infinity, as in an attention mask, has no rounding error
                move = np.where(np.isfinite(entries), move, entries)
            return move if move.dtype == dtype else move.astype(dtype)

        into = value if _is_spare(step, inputs, value) else None
        value = blockwise(moved, value, self.noise.like(value), size.relative, *size.absolute, into=into)
        return self._stored(value, traced) if narrow else value

    def _dtype(self, step: Step, place: int) -> Any:
        """The dtype in which the code under test stores a result."""
        traced = step.equation.outvars[place].aval.dtype
        wider = self.intermediates is not None and jnp.issubdtype(traced, jnp.floating) and not is_narrow(traced)
        return self.intermediates if wider else traced

    def _stored(self, value: Array, traced: Any) -> Array:
        """The value perturbed by rounding to 16 bits, including the underflow of float16 below 6e-8."""
        least = float(jnp.finfo(traced).smallest_subnormal)
        size = unit_roundoff(traced) * np.abs(np.asarray(value, np.float64)) + least
        move = value + size / self.noise.unit * self.noise.like(value)
        return np.where(np.isfinite(move), move, value).astype(value.dtype)

    def bent(self, step: Step, change: Array, *inputs: Array) -> Array:
        """The result of the marker `bend`: the error of a smooth function's derivative, times a tangent or cotangent.

        Args:
            step: the marker.
            change: the tangent or cotangent.
            *inputs: the inputs of the smooth function.
        """
        equation, place = step.params["equation"], step.params["place"]
        slope, noise = TABLE.get(equation.primitive.name, UNKNOWN).slope, self.noise.like(change)
        traced = self._dtype(step, 0)
        if is_narrow(traced):  # a formula such as 1 - y**2 may use a y that is stored in 16 bits
            noise = max(1.0, unit_roundoff(traced) / self.noise.unit) * noise
        if slope is None:
            return _largest_tangent(step, equation, place, inputs) * noise * change

        def bent(change: Array, noise: Array, value: Array) -> Array:
            return largest_slope(slope, value) * noise * change

        return blockwise(bent, change, noise, inputs[place])

    def _by_formula(self, step: Step, inputs: list[Array], value: Array) -> Array:
        """The value of a function of JAX's library, perturbed by the error of its formula if that is inexact."""
        written = step.params["call_jaxpr"].jaxpr.debug_info.func_src_info or ""
        name, _, file = written.partition(" at ")
        error = INEXACT_FORMULAS.get(name)
        if error is None or "jax" not in file:
            return value
        return value + error(inputs[0]) / self.noise.unit * self.noise.like(value)


def _is_spare(step: Step, inputs: list[Array], value: Array) -> bool:
    """Whether the memory of a result may be overwritten: it is new, or it is that of an input that is not needed."""
    if not (isinstance(value, np.ndarray) and value.flags.owndata and value.flags.writeable):
        return False
    return all(value is not given or i == step.spare for i, given in enumerate(inputs))


def working_dtype(dtype: Any, accumulate: Any = None) -> Any:
    """The dtype in which numbers of a dtype are summed.

    Args:
        dtype: the dtype of the numbers.
        accumulate: the dtype in which 16-bit numbers are summed; float32 if None; "input" for their own dtype.
    """
    if not is_narrow(dtype):
        return dtype
    return np.float32 if accumulate is None else dtype if accumulate == "input" else accumulate


def _is_whole(value: Array) -> bool:
    return is_inexact(value) and value.size == 1 and bool(value == np.round(value))


def _rounds(value: Array) -> bool:
    return hasattr(value, "dtype") and isinstance(value, np.ndarray | np.generic) and is_inexact(value)


def _narrows(step: Step, inputs: list[Array], outputs: list[Array]) -> bool:
    """Whether a conversion rounds. Conversions from integers and booleans do not, for sizes that occur in practice."""
    pairs = [(inputs[0].dtype, outputs[0].dtype)]
    traced = step.equation.outvars[0].aval.dtype
    if is_narrow(traced):
        pairs.append((step.equation.invars[0].aval.dtype, traced))
    inexact = [pair for pair in pairs if all(jnp.issubdtype(dtype, np.inexact) for dtype in pair)]
    return any(unit_roundoff(after) > unit_roundoff(before) for before, after in inexact)


def largest_slope(slope: Callable[[Array], Array], value: Array) -> Array:
    """A bound of the absolute derivative of a smooth function between its argument and zero.

    JAX may compute a derivative to full relative accuracy where a textbook formula cancels: at saturation, `1 - A1**2`
    rounds to 0, and JAX computes 1e-18. The rounding error of the formula is proportional to the derivative away from
    saturation. So the derivative is perturbed by u times its largest value between the argument and zero. The larger of
    the values at half the argument and at zero is taken for it, as far as they are finite.

    Args:
        slope: the derivative.
        value: the argument.
    """
    at_zero = _finite_size(slope(np.zeros((), value.dtype)))
    if not np.isfinite(value).all():
        at_zero = np.where(np.isfinite(value), at_zero, 0)
    return np.maximum(_finite_size(slope(0.5 * value)), at_zero)


def _largest_tangent(step: Step, equation: Any, place: int, inputs: Sequence[Array]) -> Array:
    """`largest_slope` for the derivative of a function with a custom rule with respect to one of its inputs."""
    tangent = _tangent(step, equation, place)

    def slope(shrink: float) -> Array:
        return _finite_size(tangent([shrink * value if is_inexact(value) else value for value in inputs], as_it_is)[0])

    return np.maximum(slope(0.5), slope(0.0))


def _finite_size(value: Array) -> Array:
    """The absolute value, and 0 where it is not finite."""
    size = np.abs(value)
    return size if np.isfinite(size).all() else np.where(np.isfinite(size), size, 0)


def _tangent(step: Step, equation: Any, place: int) -> Plan:
    """The plan of the derivative of a function with a custom rule with respect to one of its inputs."""

    def tangent(*inputs: Any) -> Any:
        def alone(value: Any) -> Any:
            given = [value if i == place else other for i, other in enumerate(inputs)]
            return equation.primitive.bind(*given, **equation.primitive.get_bind_params(equation.params))[0]

        return jax.jvp(alone, (inputs[place],), (jnp.ones_like(inputs[place]),))[1]

    if "tangent" not in step.programs:
        like = [jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in equation.invars]
        step.programs["tangent"] = Plan(jax.make_jaxpr(tangent)(*like), step.widening)
    return step.programs["tangent"]
