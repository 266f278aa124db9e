"""Which operations' second derivatives a product with a Hessian lacks, and what is not called so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare import Verdict, check_hessian, check_hvp
from compare.judge.diagnosis.second_order import missing_terms, terms_of_product

DATA = np.random.default_rng(2).standard_normal((30, 4))
Y = np.random.default_rng(3).standard_normal(30)
W = np.array([0.5, -0.3, 0.2, 0.1])


def least_squares(w):
    return jnp.sum((jnp.tanh(DATA @ w) - Y) ** 2)


def curved(outer, slope):
    """DATA' diag(outer + slope) DATA: through the square, and through tanh."""
    t = np.tanh(DATA @ W)
    return (DATA * (outer * 2 * (1 - t**2) ** 2 + slope * -4 * (t - Y) * t * (1 - t**2))[:, None]).T @ DATA


CAUSES = {"gauss-newton": (1, 0), "second-order-term": (0, 1)}
NEAR = [(1, 1), (2, 1), (1, 0.5), (0.99, 0), (0, 1.01), (2, 0), (1, -1)]


@pytest.mark.sweep
@pytest.mark.parametrize("kind", CAUSES)
@pytest.mark.parametrize("door", ["hvp", "hessian"])
def test_the_cause_is_named_through_both_doors(kind, door):
    wrong = curved(*CAUSES[kind])
    if door == "hvp":
        report = check_hvp(lambda w, v: wrong @ v, least_squares, W, probes=False)
    else:
        report = check_hessian(lambda w: wrong, least_squares, W, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert [cause.kind for cause in report.diagnoses] == [kind]


@pytest.mark.sweep
@pytest.mark.parametrize("shares", NEAR, ids=str)
def test_what_is_like_it_is_not_called_so(shares):
    with jax.enable_x64(True):
        assert missing_terms(least_squares, W, W + 1, curved(*shares) @ (W + 1), None) is None


def test_the_terms_add_up_to_the_product():
    with jax.enable_x64(True):
        names, terms = terms_of_product(least_squares, W, W + 1)
    assert {"tanh", "integer_pow"} <= set(names)
    np.testing.assert_allclose(terms.sum(axis=0), curved(1, 1) @ (W + 1), rtol=1e-12)


def deep(x):
    return jnp.sum(jnp.exp(jnp.sin(x) * jnp.cosh(x[::-1])))


@pytest.mark.campaign
@settings(max_examples=4, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.integers(0, 10))
def test_the_terms_of_any_function_add_up(x, seed):
    vector = np.random.default_rng(seed).standard_normal(3)
    with jax.enable_x64(True):
        _, terms = terms_of_product(deep, np.array(x), vector)
        right = np.asarray(jax.jvp(jax.grad(deep), (np.array(x),), (vector,))[1])
    np.testing.assert_allclose(terms.sum(axis=0), right, rtol=1e-9, atol=1e-12)


def test_a_slope_that_is_taken_for_a_constant_is_named_among_others():
    x, vector = np.array([0.3, -0.7, 0.5]), np.array([1.0, 2.0, -1.0])
    with jax.enable_x64(True):
        names, terms = terms_of_product(deep, x, vector)
        lost = names.index("sin")
        cause = missing_terms(deep, x, vector, terms.sum(axis=0) - terms[lost], "x")
    assert cause is not None
    assert cause.kind == "second-order-term"
    assert "sin" in cause.message


def test_a_function_of_one_curved_operation_has_nothing_to_lose():
    with jax.enable_x64(True):
        assert missing_terms(lambda x: jnp.sum(jnp.tanh(x)), W, W, 0 * W, None) is None


def test_values_that_are_not_finite_have_no_such_cause():
    with jax.enable_x64(True):
        assert missing_terms(least_squares, W, W, np.full(4, np.nan), None) is None
