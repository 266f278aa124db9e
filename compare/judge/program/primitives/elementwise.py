"""Elementwise operations: arithmetic, elementary functions, comparisons, bits, conversions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from compare.judge.program.primitives.row import Kind, Primitive, Rounds

Array = Any


def first(x: Array, *_: Array, **__: Any) -> Array:
    """Returns its first input. For a conversion, the interpreter casts the result to the dtype that it has recorded."""
    return x


def add(x: Array, y: Array, **_: Any) -> Array:
    return x + y


def sub(x: Array, y: Array, **_: Any) -> Array:
    return x - y


def mul(x: Array, y: Array, **_: Any) -> Array:
    return x * y


def div(x: Array, y: Array, **_: Any) -> Array:
    """Integers are divided toward zero. If the divisor is 0, all bits of the quotient are 1."""
    if np.asarray(x).dtype.kind in "iu":
        safe = np.where(y == 0, 1, y).astype(x.dtype)
        toward_zero = x // safe + ((x % safe != 0) & ((x < 0) != (safe < 0)))
        return np.where(y == 0, ~np.zeros_like(x), toward_zero)
    return x / y


def rem(x: Array, y: Array, **_: Any) -> Array:
    """The remainder has the sign of the dividend."""
    if np.asarray(x).dtype.kind in "iu":
        return np.where(y == 0, x, np.fmod(x, np.where(y == 0, 1, y)))
    return np.fmod(x, y)


def neg(x: Array, **_: Any) -> Array:
    return -x


def integer_pow(x: Array, *, y: int, **_: Any) -> Array:
    if y == 2:
        return x * x
    return x**y if y >= 0 else 1 / x**-y


def power(x: Array, y: Array, **_: Any) -> Array:
    return np.power(x, y)


def sign(x: Array, **_: Any) -> Array:
    """The sign; for complex numbers, z / |z|."""
    if np.iscomplexobj(x):
        size = np.abs(x)
        return np.where(size == 0, 0, x / np.where(size == 0, 1, size))
    return np.sign(x)


def round_(x: Array, *, rounding_method: Any = 1, **_: Any) -> Array:
    """Halves are rounded to even if `rounding_method` is 1, and otherwise away from zero."""
    if int(rounding_method) == 1:
        return np.round(x)
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0)


def logistic(x: Array, **_: Any) -> Array:
    return 1 / (1 + np.exp(-x)) if np.iscomplexobj(x) else special.expit(x)


def rsqrt(x: Array, **_: Any) -> Array:
    return 1 / np.sqrt(x)


def clamp(low: Array, x: Array, high: Array, **_: Any) -> Array:
    return np.minimum(np.maximum(x, low), high)


def select_n(which: Array, *cases: Array, **_: Any) -> Array:
    if len(cases) == 1:
        return cases[0]
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    chosen = np.broadcast_to(np.asarray(which, np.intp), np.shape(cases[0]))
    return np.take_along_axis(np.stack(cases), chosen[None], axis=0)[0]


def not_(x: Array, **_: Any) -> Array:
    return np.invert(x)


def _bits(x: Array) -> int:
    return 8 * np.asarray(x).dtype.itemsize


def shift_left(x: Array, y: Array, **_: Any) -> Array:
    within = (y >= 0) & (y < _bits(x))
    return np.where(within, np.left_shift(x, np.where(within, y, 0)), 0)


def shift_right_logical(x: Array, y: Array, **_: Any) -> Array:
    within, unsigned = (y >= 0) & (y < _bits(x)), np.dtype(f"u{np.asarray(x).dtype.itemsize}")
    plain = np.asarray(x).astype(unsigned) >> np.where(within, y, 0).astype(unsigned)
    return np.where(within, plain, 0).astype(np.asarray(x).dtype)


def shift_right_arithmetic(x: Array, y: Array, **_: Any) -> Array:
    """The highest bit is treated as a sign, even for unsigned integers."""
    signed = np.dtype(f"i{np.asarray(x).dtype.itemsize}")
    by = np.where((y >= 0) & (y < _bits(x)), y, _bits(x) - 1).astype(signed)
    return (np.asarray(x).astype(signed) >> by).astype(np.asarray(x).dtype)


def population_count(x: Array, **_: Any) -> Array:
    unsigned = np.asarray(x).astype(np.dtype(f"u{np.asarray(x).dtype.itemsize}"))
    return np.bitwise_count(unsigned)


def count_leading_zeros(x: Array, **_: Any) -> Array:
    unsigned = np.asarray(x).astype(np.dtype(f"u{np.asarray(x).dtype.itemsize}"))
    for shift in (2**i for i in range(6) if 2**i < _bits(x)):  # sets every bit below the highest one
        unsigned = unsigned | (unsigned >> np.asarray(shift, unsigned.dtype))
    return _bits(x) - np.bitwise_count(unsigned)


def reduce_precision(x: Array, *, exponent_bits: int, mantissa_bits: int, **_: Any) -> Array:
    """Rounds to fewer bits, with halves to even. Too large numbers become infinity, and subnormal numbers become 0."""
    mantissa, exponent = np.frexp(x)
    digits = mantissa_bits + 1
    rounded = np.ldexp(np.round(np.ldexp(mantissa, digits)), exponent - digits)
    largest = 2 ** (exponent_bits - 1)
    if largest >= np.finfo(x.dtype).maxexp:
        return rounded
    size, sign = np.abs(rounded), np.copysign(np.ones((), x.dtype), x)
    rounded = np.where(size >= 2.0**largest, sign * np.asarray(np.inf, x.dtype), rounded)
    return np.where(size < 2.0 ** (2 - largest), sign * np.zeros((), x.dtype), rounded)


def _in_total_order(x: Array) -> Array:
    """Integers that are ordered as the total order of the numbers: -NaN, -inf, ..., -0, 0, ..., inf, NaN."""
    x = np.asarray(x, order="C")  # np.ascontiguousarray would add an axis to a 0-d array
    bits = x.view(f"i{x.dtype.itemsize}")
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def in_total_order(function: Callable[..., Any]) -> Callable[..., Any]:
    """A rule that compares floating-point numbers in the total order."""

    def rule(x: Array, y: Array, **_: Any) -> Array:
        return function(_in_total_order(x), _in_total_order(y)) if x.dtype.kind not in "iub" else function(x, y)

    return rule


def of(function: Callable[..., Any]) -> Callable[..., Any]:
    """A rule that calls a NumPy function and ignores the equation's parameters, which only concern JAX's compiler."""

    def rule(*inputs: Array, **_: Any) -> Array:
        return function(*inputs)

    rule.__name__ = function.__name__
    return rule


def conj(x: Array, **_: Any) -> Array:
    return np.conj(x)


# ---------------------------------------------------------------------- continuations to complex numbers
# For complex steps, the real parts decide between the branches of abs, max and min.


def _abs_continued(z: Array, **_: Any) -> Array:
    return np.where(np.real(z) < 0, -z, z)


def _max_continued(x: Array, y: Array, **_: Any) -> Array:
    return np.where(np.real(x) >= np.real(y), x, y)


def _min_continued(x: Array, y: Array, **_: Any) -> Array:
    return np.where(np.real(x) <= np.real(y), x, y)


def _clamp_continued(low: Array, x: Array, high: Array, **_: Any) -> Array:
    return _min_continued(_max_continued(x, low), high)


def _of_real_parts(function: Callable[..., Any]) -> Callable[..., Any]:
    def rule(*inputs: Array, **params: Any) -> Array:
        return function(*map(np.real, inputs), **params)

    return rule


# ------------------------------------------------------------------------------------------- rows of the table


def _elementary(function: Callable[..., Any], slope: Callable[[Any], Any] | None = None, **more: Any) -> Primitive:
    """The row of an elementary function, whose error is a few ULPs. All other operations have half an ULP."""
    return Primitive(of(function), ulps=4.0, slope=slope, **{"analytic": True, "ufunc": function, **more})


def _discrete(function: Callable[..., Any], kind: Kind = Kind.DISCRETE) -> Primitive:
    return Primitive(function, kind, Rounds.EXACTLY, continued=_of_real_parts(function))


def _exact(function: Callable[..., Any], kind: Kind = Kind.LINEAR, **more: Any) -> Primitive:
    return Primitive(function, kind, **{"rounds": Rounds.EXACTLY, "analytic": kind is Kind.LINEAR, **more})


def _tanh_slope(x: Array) -> Array:
    return 1 - np.tanh(x) ** 2


def _logistic_slope(x: Array) -> Array:
    y = special.expit(x)
    return y * (1 - y)


ROWS: dict[str, Primitive] = {
    "add": Primitive(add, Kind.LINEAR, analytic=True, ufunc=np.add),
    "add_any": Primitive(add, Kind.LINEAR, analytic=True, ufunc=np.add),
    "sub": Primitive(sub, Kind.LINEAR, analytic=True, ufunc=np.subtract),
    "mul": Primitive(mul, Kind.LINEAR, analytic=True, ufunc=np.multiply),
    "div": Primitive(div, analytic=True, ufunc=np.divide),
    "rem": Primitive(rem, Kind.NONSMOOTH, Rounds.EXACTLY),
    "neg": _exact(neg),
    "integer_pow": Primitive(integer_pow, analytic=True),
    "pow": Primitive(power, ulps=4.0, analytic=True),
    "square": Primitive(of(np.square), analytic=True),
    "sqrt": Primitive(of(np.sqrt), analytic=True),
    "rsqrt": Primitive(rsqrt, analytic=True),
    "cbrt": Primitive(of(np.cbrt), ulps=4.0),
    "exp": _elementary(np.exp, np.exp),
    "exp2": _elementary(np.exp2, lambda x: np.log(2) * np.exp2(x)),
    "expm1": _elementary(np.expm1, np.exp, rounds=Rounds.BESIDE_ONE),
    "log": _elementary(np.log),
    "log1p": _elementary(np.log1p, lambda x: 1 / (1 + x), rounds=Rounds.BESIDE_ONE),
    "logistic": Primitive(logistic, ulps=4.0, slope=_logistic_slope, analytic=True),
    "tanh": _elementary(np.tanh, _tanh_slope),
    "sin": _elementary(np.sin, np.cos),
    "cos": _elementary(np.cos, np.sin),
    "tan": _elementary(np.tan),
    "asin": _elementary(np.arcsin),
    "acos": _elementary(np.arccos),
    "atan": _elementary(np.arctan, lambda x: 1 / (1 + x * x)),
    "atan2": _elementary(np.arctan2, analytic=False),
    "sinh": _elementary(np.sinh, np.cosh),
    "cosh": _elementary(np.cosh, np.sinh),
    "asinh": _elementary(np.arcsinh, lambda x: 1 / np.sqrt(1 + x * x)),
    "acosh": _elementary(np.arccosh),
    "atanh": _elementary(np.arctanh),
    "abs": _exact(of(np.abs), Kind.NONSMOOTH, continued=_abs_continued),
    "max": _exact(of(np.maximum), Kind.NONSMOOTH, continued=_max_continued),
    "min": _exact(of(np.minimum), Kind.NONSMOOTH, continued=_min_continued),
    "clamp": _exact(clamp, Kind.NONSMOOTH, continued=_clamp_continued),
    "select_n": _exact(select_n),
    "sign": _discrete(sign, Kind.COMPARISON),
    "floor": _discrete(of(np.floor)),
    "ceil": _discrete(of(np.ceil)),
    "round": _discrete(round_),
    "is_finite": _discrete(of(np.isfinite)),
    "eq": _discrete(of(np.equal)),
    "ne": _discrete(of(np.not_equal)),
    "lt": _discrete(of(np.less), Kind.COMPARISON),
    "le": _discrete(of(np.less_equal), Kind.COMPARISON),
    "gt": _discrete(of(np.greater), Kind.COMPARISON),
    "ge": _discrete(of(np.greater_equal), Kind.COMPARISON),
    "eq_to": _discrete(in_total_order(np.equal)),
    "le_to": _discrete(in_total_order(np.less_equal), Kind.COMPARISON),
    "lt_to": _discrete(in_total_order(np.less), Kind.COMPARISON),
    "nextafter": Primitive(of(np.nextafter), rounds=Rounds.EXACTLY),
    "and": _discrete(of(np.bitwise_and)),
    "or": _discrete(of(np.bitwise_or)),
    "xor": _discrete(of(np.bitwise_xor)),
    "not": _discrete(not_),
    "shift_left": _discrete(shift_left),
    "shift_right_logical": _discrete(shift_right_logical),
    "shift_right_arithmetic": _discrete(shift_right_arithmetic),
    "population_count": _discrete(population_count),
    "clz": _discrete(count_leading_zeros),
    "complex": _exact(lambda re, im, **_: re + 1j * im, analytic=False),
    "real": _exact(of(np.real), analytic=False),
    "imag": _exact(of(np.imag), analytic=False),
    "conj": _exact(conj, analytic=False),
    "convert_element_type": _exact(first, rounds=Rounds.IF_NARROWER),
    "reduce_precision": _exact(reduce_precision, rounds=Rounds.IF_NARROWER),
    "copy": _exact(first),
    "name": _exact(first),
    "stop_gradient": _discrete(first),
    "device_put": _exact(lambda *xs, **_: list(xs)),
    "optimization_barrier": _exact(lambda *xs, **_: list(xs)),
    "sharding_constraint": _exact(first),
}
