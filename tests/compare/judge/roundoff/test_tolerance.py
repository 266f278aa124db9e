"""What rounding allows: enough for every correct computation, little enough to see a fault."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manual
from compare.judge.program.inputs import Inputs
from compare.judge.program.trace import Program, traced
from compare.judge.roundoff.tolerance import (
    CONFIRMED,
    DEVIATIONS,
    SHARED,
    Scatter,
    measure,
    measure_gradient,
    norm,
    unit_roundoff,
)
from compare.platform import precise
from compare.pytrees import leaves_by_path
from compare.suite.shallow import shallow_loss
from tests.helpers import network


def measured(function, *args, **options):
    """The value of a function, and what rounding may do to it."""
    with jax.enable_x64(True):
        return measure(Program(function, *args), *args, **options)


def measured_gradient(loss, *args, **options):
    """(loss, gradient), and what rounding may do to them."""
    with precise(args):
        measured = measure_gradient(traced(loss, *args), Inputs(args[0], args[1:]), taps={}, **options)
    structure, both = jax.tree.structure(args[0]), (measured.values, measured.tolerances)
    pairs = ((named["loss"], [named[path] for path in leaves_by_path(args[0])]) for named in both)
    return tuple((loss, jax.tree.unflatten(structure, gradients)) for loss, gradients in pairs)


def ratios(parameters, x, y):
    """Error of the hand-written gradient over what is allowed, the largest of each leaf."""
    loss, gradients = manual.loss_and_gradients(parameters, x, y)
    dtype = x.dtype
    (right_loss, right), (loss_slack, slack) = measured_gradient(
        shallow_loss, parameters, x, y, dtype=dtype, samples=CONFIRMED[0]
    )
    leaves = {name: np.max(np.abs(gradients[name] - right[name]) / slack[name]) for name in right}
    return leaves | {"loss": abs(loss - right_loss) / loss_slack}, right, slack


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-2, 3), dtype=st.sampled_from([np.float64, np.float32]))
def test_a_correct_network_is_far_within_what_is_allowed(seed, exponent, dtype):
    """One shape, so that one compilation serves; benchmarks/judge_score.py varies the shape too."""
    errors, _, _ = ratios(*network(seed, 7, 5, 3, 40, scale=10**exponent, dtype=dtype))
    assert max(errors.values()) < 0.5


@pytest.mark.parametrize(("dtype", "visible"), [(np.float64, 1e-11), (np.float32, 1e-4)])
def test_a_small_fault_in_a_typical_entry_is_not_allowed(dtype, visible):
    _, right, slack = ratios(*network(0, 7, 5, 3, 40, dtype=dtype))
    for name in right:
        assert np.median(slack[name] / np.abs(right[name])) < visible


def test_a_sum_that_cancels_is_allowed_the_error_of_its_terms():
    terms = np.concatenate([np.full(50, 1e6), np.full(50, -1e6), [1e-6]])
    value, allowed = measured(jnp.sum, terms, dtype=np.float64)
    assert abs(np.sum(np.random.default_rng(0).permutation(terms)) - value) <= allowed
    assert allowed > 1e6 * np.finfo(float).eps > 1e-6 * np.finfo(float).eps


def test_a_saturated_derivative_is_allowed_the_error_of_the_textbook_formula():
    """At z = 40, JAX's log_sigmoid knows the derivative 4e-18; `A2 - 1` is 0. Both are right."""
    z = np.array([40.0])
    (_, right), (_, allowed) = measured_gradient(lambda z: -jnp.sum(jax.nn.log_sigmoid(z)), z, dtype=np.float64)
    assert right[0] == pytest.approx(-np.exp(-40), rel=1e-6)
    assert abs((manual.sigmoid(z) - 1)[0] - right[0]) <= allowed[0] < 1e-13


def test_tolerances_scale_with_the_unit_roundoff_and_with_the_leaf():
    x = np.linspace(0.1, 1, 9)
    narrow = measured_gradient(lambda x: jnp.sum(x**3), x, dtype=np.float64)[1][1]
    wide = measured_gradient(lambda x: jnp.sum(x**3), x.astype(np.float32), dtype=np.float32)[1][1]
    large = measured_gradient(lambda x: 1e6 * jnp.sum(x**3), x, dtype=np.float64)[1][1]
    assert np.median(wide / narrow) == pytest.approx(2.0**29, rel=0.7)
    assert np.median(large / narrow) == pytest.approx(1e6, rel=0.7)


def test_an_exact_computation_is_allowed_its_last_places_only():
    x = np.arange(6.0)
    value, allowed = measured(lambda x: x.reshape(2, 3).T, x, dtype=np.float64)
    assert np.array_equal(value, x.reshape(2, 3).T)
    assert (allowed <= 4 * unit_roundoff(np.float64) * value + np.finfo(float).tiny).all()


def test_units_and_norms():
    assert unit_roundoff(np.float64) == 2.0**-53
    assert unit_roundoff(np.float32) == 2.0**-24
    assert unit_roundoff(jnp.bfloat16) == 2.0**-8
    assert norm(np.full((2, 2), 1e30, np.float32)) == pytest.approx(2e30)  # its squares overflow float32


def test_an_ill_conditioned_system_is_allowed_its_condition_and_a_good_one_is_not():
    random = np.random.default_rng(0)
    q, _ = np.linalg.qr(random.standard_normal((8, 8)))
    b = random.standard_normal(8)
    unit = np.finfo(float).eps
    for condition in (1.0, 1e4, 1e8):
        a = (q * np.geomspace(1, 1 / condition, 8)) @ q.T
        right, allowed = measured(jnp.linalg.solve, a, b, dtype=np.float64)
        relative = np.max(allowed) / np.linalg.norm(right)
        assert 2 * unit < relative / condition < 200 * unit
        # Another algorithm, as good: by the inverse.
        assert np.all(np.abs(np.linalg.inv(a) @ b - right) <= allowed)


def test_terms_that_repeat_round_the_same_way_every_time():
    """NumPy adds the rows of a matrix one after the other: 60,000 float32 gradients of two values each."""
    labels = np.random.default_rng(5).integers(0, 10, 60_000)
    terms = ((0.1 - np.eye(10)[labels]) / 60_000).astype(np.float32)
    right, allowed = measured(lambda x: x.sum(axis=0), terms, dtype=np.float32)
    ratio = np.abs(terms.sum(axis=0) - right) / allowed
    assert ratio.max() < 0.5
    lost = np.abs(terms[:-100].sum(axis=0, dtype=np.float64) - right) / allowed  # a batch whose end was forgotten
    assert lost.max() > 1


def test_products_may_be_multiplied_in_another_order():
    """Where the gradient of least squares vanishes, X'X w - X'y rounds more than X'(X w - y)."""
    random = np.random.default_rng(3)
    x = 1 + random.standard_normal((2000, 5))
    y = x @ random.standard_normal(5) + 0.1 * random.standard_normal(2000)
    w = np.linalg.lstsq(x, y, rcond=None)[0]
    (_, right), (_, allowed) = measured_gradient(
        lambda w, x, y: 0.5 * jnp.sum((x @ w - y) ** 2), w, x, y, dtype=np.float64, samples=16
    )
    assert np.all(np.abs((x.T @ x) @ w - x.T @ y - right) <= allowed)
    assert allowed.max() < 1e-12 * np.abs(x.T @ y).max()


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e290])
def test_noise_is_as_large_in_proportion_at_any_scale(scale):
    def function(a, w):
        return a * jnp.sum(jnp.sin(w) ** 2) + jnp.sum(a * w) + jnp.sum(a * w @ jnp.ones((5, 5)))

    w = np.linspace(0.1, 1, 5)
    (_, right), (_, allowed) = measured_gradient(function, np.array(scale), w, dtype=np.float64)
    (_, usual), (_, ordinary) = measured_gradient(function, np.array(1.0), w, dtype=np.float64)
    assert right == pytest.approx(usual)
    assert np.all((allowed > 0.2 * ordinary) & (allowed < 5 * ordinary))


def scatter(still: Any, *moved: Any) -> Scatter:
    """The scatter of runs about a value."""
    found = Scatter(np.asarray(still))
    for value in moved:
        found.add(value)
    return found


def distances(still: Any, *moved: Any) -> np.ndarray:
    total = scatter(still, *moved).total
    assert total is not None
    return total


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_distances_are_combined_as_hypot_does(scale):
    still = np.array([1.0, -2.0]) * scale
    moves = np.array([3.0, 0.0]) * scale, np.array([-4.0, -5.0]) * scale
    np.testing.assert_allclose(distances(still, still + moves[0]), np.array([3.0, 0.0]) * scale, rtol=1e-15)
    np.testing.assert_allclose(distances(still, *(still + move for move in moves)), 5 * scale, rtol=1e-15)


def test_distances_of_truth_values_integers_and_complex_numbers():
    truth = np.array([True, False])
    np.testing.assert_array_equal(distances(truth, ~truth), [1, 1])
    np.testing.assert_array_equal(distances(truth, truth), [0, 0])
    np.testing.assert_array_equal(distances(np.array([5, 7]), np.array([2, 7])), [3, 0])
    np.testing.assert_array_equal(distances(np.array([1 + 1j, 2]), np.array([4 + 5j, 2])), [5, 0])
    assert distances(np.array(5.0), np.float64(2)).shape == ()


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
@pytest.mark.parametrize("samples", [1, 4])
def test_a_tolerance_is_of_the_entry_and_in_part_of_its_leaf(scale, samples):
    move, value = np.array([3.0, 0.0]) * scale, np.array([-2.0, 8.0]) * scale
    tolerance = scatter(value, *[value + move / samples**0.5] * samples).tolerance(np.float64)
    deviation = np.sqrt(np.array([3.0, 0.0]) ** 2 + SHARED**2 * 4.5) / np.sqrt(samples)
    last_places = 4 * unit_roundoff(np.float64) * np.array([2.0, 8.0])
    expected = (DEVIATIONS * deviation + last_places) * scale + np.finfo(float).tiny
    np.testing.assert_allclose(tolerance, expected, rtol=1e-14)
    coarser = scatter(value, *[value + move / samples**0.5] * samples).tolerance(np.float64, times=3.0)
    expected = (3 * DEVIATIONS * deviation + last_places) * scale + np.finfo(float).tiny
    np.testing.assert_allclose(coarser, expected, rtol=1e-14)


def test_a_tolerance_without_noise_of_an_integer_and_of_nothing():
    none, tiny = np.zeros(2), float(np.finfo(np.float32).tiny)
    np.testing.assert_array_equal(scatter(none, none).tolerance(np.float32), [tiny, tiny])
    whole = np.array([4, 5])
    np.testing.assert_array_equal(scatter(whole, whole).tolerance(np.float32), [0, 0])
    empty = np.zeros((0, 3))
    assert scatter(empty, empty).tolerance(np.float32).shape == (0, 3)
    assert np.isinf(scatter(none, np.array([1.0, np.inf])).tolerance(np.float32)).all()
