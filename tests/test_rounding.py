"""What rounding allows: enough for every correct computation, little enough to see a fault."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manual
from compare.rounding import measure, norm, unit_roundoff
from compare.verify import shallow_loss
from tests.helpers import network


def ratios(parameters, x, y):
    """Error of the hand-written gradient over what is allowed, the largest of each leaf."""
    loss, gradients = manual.loss_and_gradients(parameters, x, y)
    dtype = x.dtype
    (right_loss, right), (loss_slack, slack) = measure(shallow_loss, parameters, x, y, dtype=dtype, gradient=True)
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
    value, allowed = measure(jnp.sum, terms, dtype=np.float64)
    assert abs(np.sum(np.random.default_rng(0).permutation(terms)) - value) <= allowed
    assert allowed > 1e6 * np.finfo(float).eps > 1e-6 * np.finfo(float).eps


def test_a_saturated_derivative_is_allowed_the_error_of_the_textbook_formula():
    """At z = 40, JAX's log_sigmoid knows the derivative 4e-18; `A2 - 1` is 0. Both are right."""
    z = np.array([40.0])
    (_, right), (_, allowed) = measure(lambda z: -jnp.sum(jax.nn.log_sigmoid(z)), z, dtype=np.float64, gradient=True)
    assert right[0] == pytest.approx(-np.exp(-40), rel=1e-6)
    assert abs((manual.sigmoid(z) - 1)[0] - right[0]) <= allowed[0] < 1e-13


def test_allowances_scale_with_the_unit_roundoff_and_with_the_leaf():
    x = np.linspace(0.1, 1, 9)
    narrow = measure(lambda x: jnp.sum(x**3), x, dtype=np.float64, gradient=True)[1][1]
    wide = measure(lambda x: jnp.sum(x**3), x, dtype=np.float32, gradient=True)[1][1]
    large = measure(lambda x: 1e6 * jnp.sum(x**3), x, dtype=np.float64, gradient=True)[1][1]
    assert np.median(wide / narrow) == pytest.approx(2.0**29, rel=0.7)
    assert np.median(large / narrow) == pytest.approx(1e6, rel=0.7)


def test_an_exact_computation_is_allowed_its_last_places_only():
    x = np.arange(6.0)
    value, allowed = measure(lambda x: x.reshape(2, 3).T, x, dtype=np.float64)
    assert np.array_equal(value, x.reshape(2, 3).T)
    assert (allowed <= 4 * unit_roundoff(np.float64) * value + np.finfo(float).tiny).all()


def test_units_and_norms():
    assert unit_roundoff(np.float64) == 2.0**-53
    assert unit_roundoff(np.float32) == 2.0**-24
    assert unit_roundoff(jnp.bfloat16) == 2.0**-8
    assert norm(np.full((2, 2), 1e30, np.float32)) == pytest.approx(2e30)  # its squares overflow float32
