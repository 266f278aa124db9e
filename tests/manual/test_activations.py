"""Activations where they are hard: at kinks, saturated, masked, in every dtype; and faults that must be seen."""

import inspect
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autodiff import activations as by_jax
from compare import Verdict, check_vjp
from manual import activations as by_hand
from manual.fast import activations as fast

ACTIVATIONS = by_hand.ACTIVATIONS
ELEMENTWISE = {name: rule for name, rule in ACTIVATIONS.items() if "softmax" not in name and name != "swiglu"}
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def inputs_of(name, x):
    return (x, x[::-1].copy()) if name == "swiglu" else (x,)


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


def manual_vjp(name, dy, *inputs, rules=ACTIVATIONS, **options):
    forward, backward = rules[name]
    value, cache = forward(*inputs, **options)
    return value, as_tuple(backward(dy, cache))


fast_vjp = partial(manual_vjp, rules=fast.ACTIVATIONS)


def autodiff_vjp(name, dy, *inputs, **options):
    """Value and gradients, in the dtype of what is given."""

    @jax.jit
    def run(dy, *inputs):
        value, pullback = jax.vjp(partial(by_jax.ACTIVATIONS[name], **options), *inputs)
        return value, pullback(dy)

    with jax.enable_x64(True):
        value, gradients = run(dy, *inputs)
        return np.asarray(value), tuple(map(np.asarray, gradients))


SIDES = pytest.mark.parametrize("vjp", [manual_vjp, fast_vjp, autodiff_vjp], ids=["page", "fast", "autodiff"])
BY_HAND = pytest.mark.parametrize("vjp", [manual_vjp, fast_vjp], ids=["page", "fast"])

# ------------------------------------------------------------------- values, from somewhere else

REFERENCES = {
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "relu": lambda x: x * (x > 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * (np.exp(x) - 1)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "silu": lambda x: x * scipy.special.expit(x),
}
POINTS = np.array([-7.3, -2.1, -0.4, 1e-3, 0.6, 1.9, 8.2])


@BY_HAND
@pytest.mark.parametrize("name", REFERENCES)
def test_values_and_slopes_are_those_of_another_formula(vjp, name):
    reference, step = REFERENCES[name], 1e-6
    value, (slope,) = vjp(name, np.ones(7), POINTS)
    np.testing.assert_allclose(value, reference(POINTS), rtol=1e-13, atol=1e-15)
    differences = (reference(POINTS + step) - reference(POINTS - step)) / (2 * step)
    np.testing.assert_allclose(slope, differences, atol=1e-8)


def test_every_elementwise_activation_has_a_reference():
    assert list(REFERENCES) == list(ELEMENTWISE)


def test_the_gelu_of_gpt_2():
    """The expression of gpt-2/src/model.py, and its published values."""
    value, _ = by_hand.gelu(POINTS, approximate=True)
    expected = 0.5 * POINTS * (1 + np.tanh(np.sqrt(2 / np.pi) * (POINTS + 0.044715 * POINTS**3)))
    np.testing.assert_allclose(value, expected, rtol=1e-14, atol=1e-15)
    exact, _ = by_hand.gelu(POINTS)
    assert 1e-5 < np.abs(value - exact).max() < 1e-3


# ----------------------------------------------------------------------------------------- kinks

AT_ZERO = [
    ("relu", {}, 0.0),
    ("leaky_relu", {}, 0.01),
    ("leaky_relu", {"negative_slope": -0.5}, -0.5),
    ("elu", {}, 1.0),
    ("elu", {"alpha": 0.3}, 0.3),
    ("elu", {"alpha": 0.0}, 0.0),
    ("selu", {}, SELU_SCALE * SELU_ALPHA),
]


@pytest.mark.sweep
@SIDES
@pytest.mark.parametrize(("name", "options", "slope"), AT_ZERO)
def test_at_a_kink_the_slope_is_the_one_on_the_left(vjp, name, options, slope):
    x, dy = np.array([0.0, -0.0, 1e-300, -1e-300]), np.array([3.0, -2.0, 5.0, 7.0])
    _, (dx,) = vjp(name, dy, x, **options)
    right = SELU_SCALE if name == "selu" else 1
    np.testing.assert_allclose(dx, dy * [slope, slope, right, slope], rtol=1e-15)


# ------------------------------------------------------------------------------------ saturation

# value and slope at -1e4 and at 1e4
SATURATED = {
    "tanh": ((-1, 1), (0, 0)),
    "sigmoid": ((0, 1), (0, 0)),
    "relu": ((0, 1e4), (0, 1)),
    "leaky_relu": ((-100, 1e4), (0.01, 1)),
    "elu": ((-1, 1e4), (0, 1)),
    "selu": ((-SELU_SCALE * SELU_ALPHA, SELU_SCALE * 1e4), (0, SELU_SCALE)),
    "softplus": ((0, 1e4), (0, 1)),
    "gelu": ((0, 1e4), (0, 1)),
    "silu": ((0, 1e4), (0, 1)),
    "softmax": ((0, 1), (0, 0)),
    "log_softmax": ((-2e4, 0), (1, -1)),  # dy is (1, 1), less the softmax, (0, 1), times 2
    "swiglu": ((0, -1e8), (0, -1e4)),
}


@pytest.mark.sweep
@SIDES
@pytest.mark.parametrize("name", SATURATED)
def test_saturated(vjp, name):
    """Silence, too: warnings are errors here."""
    x = np.array([-1e4, 1e4])
    value, gradients = vjp(name, np.ones(2), *inputs_of(name, x))
    np.testing.assert_allclose(value, SATURATED[name][0], rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(gradients[0], SATURATED[name][1], rtol=1e-14, atol=1e-14)


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_size_in_every_dtype_is_finite_and_keeps_it(vjp, name, dtype):
    x = np.array([0, 1e-4, 0.3, 5, 12, 20, 40, 90, 104, 300, 750, 1e4], dtype)
    x = np.concatenate([-x[::-1], x])
    inputs = (x, np.ones_like(x)) if name == "swiglu" else (x,)  # 1e4 * 1e4 is no float16
    scalar = {"leaky_relu": "negative_slope", "elu": "alpha"}.get(name)
    for options in ({}, {scalar: np.float64(0.5)} if scalar else {}):
        value, gradients = vjp(name, np.ones_like(x), *inputs, **options)
        for array in (value, *gradients):
            assert array.dtype == dtype
            assert np.isfinite(array).all()


@BY_HAND
@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_in_every_dtype(vjp, approximate):
    x = np.array([-1e4, -300, -40, -5, -0.5, 0, 2, 45, 1e4])
    expected, (slope,) = vjp("gelu", np.ones(9), x, approximate=approximate)
    for dtype in (np.float16, np.float32):
        value, (dx,) = vjp("gelu", np.ones(9, dtype), x.astype(dtype), approximate=approximate)
        assert value.dtype == dx.dtype == dtype
        tolerance = 4 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=5 * tolerance)
        np.testing.assert_allclose(dx, slope, rtol=tolerance, atol=5 * tolerance)


@pytest.mark.parametrize("name", ["elu", "leaky_relu"])
def test_numpy_scalars_as_options_do_not_promote_on_jaxs_side_either(name):
    (option,) = (set(inspect.signature(by_jax.ACTIVATIONS[name]).parameters)) - {"x"}
    x = np.ones(7, np.float32)
    assert all(array.dtype == np.float32 for array in autodiff_vjp(name, x, x, **{option: np.float64(0.5)})[1])


@SIDES
def test_what_is_small_is_still_right_to_its_last_digits(vjp):
    small = np.exp(-40.0)
    x, dy = np.array([-40.0]), np.ones(1)
    for name, value, slope in [
        ("sigmoid", small, small),
        ("softplus", small, small),
        ("silu", -40 * small, -39 * small),
    ]:
        ours, (dx,) = vjp(name, dy, x)
        np.testing.assert_allclose((ours[0], dx[0]), (value, slope), rtol=1e-14)
    np.testing.assert_allclose(vjp("elu", dy, np.array([-1e-10]))[0], -1e-10 + 5e-21, rtol=1e-15)


@SIDES
def test_rows_of_a_softmax_may_be_far_apart(vjp):
    x = np.array([[1e4, 1e4], [-1e4, -1e4]])
    np.testing.assert_array_equal(vjp("softmax", x, x)[0], 0.5)
    np.testing.assert_allclose(vjp("log_softmax", x, x)[0], -np.log(2), rtol=1e-15)


# ----------------------------------------------------------------------------------------- masks


@SIDES
def test_masked_entries_have_no_probability_and_no_gradient(vjp):
    x, dy = np.array([[0.5, -np.inf, 1.5, -np.inf]]), np.array([[0.3, -2.0, 1.1, 0.7]])
    value, (dx,) = vjp("softmax", dy, x)
    p = 1 / (1 + np.exp(1.0))
    np.testing.assert_allclose(value, [[p, 0, 1 - p, 0]], rtol=1e-14)
    np.testing.assert_allclose(dx, p * (1 - p) * np.array([[0.3 - 1.1, 0, 1.1 - 0.3, 0]]), rtol=1e-14)
    value, (dx,) = vjp("log_softmax", dy, x)
    np.testing.assert_allclose(value, [[np.log(p), -np.inf, np.log(1 - p), -np.inf]], rtol=1e-14)
    np.testing.assert_allclose(dx, dy - 0.1 * np.array([[p, 0, 1 - p, 0]]), rtol=1e-13)


@pytest.mark.filterwarnings("ignore:invalid value")
@SIDES
def test_where_all_is_masked_there_is_no_softmax(vjp):
    x = np.array([[-np.inf, -np.inf, -np.inf, -np.inf]])
    assert np.isnan(vjp("softmax", np.ones_like(x), x)[0]).all()


# ------------------------------------------------------------------------------ shapes and purity


@pytest.mark.sweep
@SIDES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_empty_batches(vjp, name):
    x = np.zeros((0, 3))
    value, gradients = vjp(name, x, *inputs_of(name, x))
    assert value.shape == (0, 3)
    assert [dx.shape for dx in gradients] == [(0, 3)] * len(gradients)


@pytest.mark.parametrize("rules", [ACTIVATIONS, fast.ACTIVATIONS], ids=["page", "fast"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_read_only_and_scattered_memory_is_read_and_never_written(name, rules):
    forward, backward = rules[name]
    random = np.random.default_rng(1)
    scattered = [random.standard_normal((6, 8)).T[::2, ::-1] for _ in range(3)]
    for array in scattered:
        array.flags.writeable = False
    inputs, dy = scattered[: len(inputs_of(name, scattered[0]))], scattered[2]
    before = [array.copy() for array in inputs]
    value, cache = forward(*inputs)
    kept = [np.copy(part) for part in cache]
    first, again = as_tuple(backward(dy, cache)), as_tuple(backward(dy, cache))
    value_of_copies, gradients_of_copies = manual_vjp(name, dy.copy(), *before, rules=rules)
    np.testing.assert_allclose(value, value_of_copies, rtol=1e-15)
    for ours, theirs, second in zip(first, gradients_of_copies, again, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
        np.testing.assert_array_equal(ours, second)
        assert not any(np.shares_memory(ours, array) for array in (dy, value, *inputs))
    for now, then in zip((*inputs, *cache), (*before, *kept), strict=True):
        np.testing.assert_array_equal(now, then)
    assert not any(np.shares_memory(value, array) for array in inputs)


@pytest.mark.parametrize("side", [by_hand, fast, by_jax])
def test_bad_input(side):
    x = jnp.zeros((2, 3)) if side is by_jax else np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"alpha must be 0 or more, got -0\.5: on the left, an ELU falls to -alpha\."):
        side.elu(x, alpha=-0.5)
    with pytest.raises(ValueError, match="alpha must be 0 or more, got nan"):
        side.elu(x, alpha=float("nan"))
    for function in (side.softmax, side.log_softmax):
        message = r"x must have at least one entry along axis 2, got shape \(2, 3\): choose another axis\."
        with pytest.raises(ValueError, match=message):
            function(x, axis=2)
        with pytest.raises(ValueError, match=r"along axis -1, got shape \(2, 0\)"):
            function(x[:, :0])
    with pytest.raises(ValueError, match=r"gate has shape \(2, 3\) and value \(2,\); they must be equal\."):
        side.swiglu(x, x[:, 0])


def test_scipy_is_not_loaded_before_it_is_needed():
    script = "import sys, manual.activations; assert not any(name.startswith('scipy') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


# ------------------------------------------------------------------------------------ properties

FLOATS = arrays(np.float64, (2, 5), elements=st.floats(-50, 50))


@given(FLOATS, st.floats(-100, 100))
def test_softmax_is_a_distribution_that_no_shift_changes(x, shift):
    p, cache = by_hand.softmax(x)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(by_hand.softmax(x + shift)[0], p, rtol=1e-12)
    np.testing.assert_allclose(by_hand.softmax_backward(x, cache).sum(-1), 0, atol=1e-12)
    y, cache = by_hand.log_softmax(x)
    np.testing.assert_allclose(np.exp(y), p, rtol=1e-12)
    np.testing.assert_allclose(by_hand.log_softmax_backward(x, cache).sum(-1), 0, atol=1e-11)


@given(FLOATS)
def test_symmetries(x):
    np.testing.assert_allclose(by_hand.sigmoid(x)[0] + by_hand.sigmoid(-x)[0], 1, rtol=1e-15)
    np.testing.assert_allclose(by_hand.softplus(x)[0] - by_hand.softplus(-x)[0], x, atol=1e-14)
    np.testing.assert_allclose(by_hand.silu(x)[0] - by_hand.silu(-x)[0], x, atol=1e-14)
    for approximate in (False, True):
        there, back = (by_hand.gelu(sign * x, approximate=approximate)[0] for sign in (1, -1))
        np.testing.assert_allclose(there - back, x, atol=1e-14)


# ---------------------------------------------------------------------------------------- faults

X = np.random.default_rng(0).standard_normal((3, 4))


def gelu_backward_of_the_other_form(output_gradient, cache):
    _, other = by_hand.gelu(cache.x, approximate=not cache.approximate)
    return by_hand.gelu_backward(output_gradient, other)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("approximate", [False, True])
def test_a_gelu_with_the_backward_of_the_other_form_is_seen(approximate, dtype):
    forward, function = (partial(side.gelu, approximate=approximate) for side in (by_hand, by_jax))
    report = check_vjp(forward, gelu_backward_of_the_other_form, function, X.astype(dtype))
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "x"
    assert report.wrong_side == "manual"


def sigmoid_slope_of_x(output_gradient, cache):
    """y (1 - y) with the argument in the place of the value."""
    return output_gradient * cache * (1 - cache)


def softmax_without_its_sum(output_gradient, cache):
    """The diagonal of the Jacobian alone, as if y_i depended on x_i as sigmoid does."""
    return output_gradient * cache.y * (1 - cache.y)


def softmax_sum_along_the_batch(output_gradient, cache):
    return by_hand.softmax_backward(output_gradient, cache._replace(axis=0))


def swiglu_swapped(output_gradient, cache):
    return by_hand.swiglu_backward(output_gradient, cache)[::-1]


def test_planted_faults_are_seen():
    def sigmoid(x):
        return by_hand.sigmoid(x)[0], x

    def without_sum(output_gradient, cache):
        return output_gradient * cache.y

    faults = [
        (sigmoid, sigmoid_slope_of_x, by_jax.sigmoid, (X,), "x"),
        (by_hand.softmax, without_sum, by_jax.softmax, (X,), "x"),
        (by_hand.softmax, softmax_without_its_sum, by_jax.softmax, (X,), "x"),
        (by_hand.softmax, softmax_sum_along_the_batch, by_jax.softmax, (X,), "x"),
        (
            by_hand.swiglu,
            swiglu_swapped,
            by_jax.swiglu,
            (X, X[::-1].copy()),
            "gate",
        ),  # both are wrong
    ]
    for forward, backward, function, inputs, wrong in faults:
        report = check_vjp(forward, backward, function, *inputs)
        assert report.verdict is Verdict.DISAGREE, backward
        assert report.first_wrong == wrong
        assert report.wrong_side == "manual"
