"""check_jvp: forward mode, with faults that forward mode has."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import compare
from compare import GradientMismatch, Verdict, check_jvp

X = np.random.default_rng(0).normal(size=(3, 4))
W = np.random.default_rng(1).normal(size=(4, 4))


def softmax(x):
    return jax.nn.softmax(x, axis=-1)


def softmax_jvp(primals, tangents, change=lambda p, t, dp: dp):
    (x,), (t,) = primals, tangents
    p = scipy.special.softmax(x, axis=-1)
    return p, change(p, t, p * (t - np.sum(p * t, axis=-1, keepdims=True)))


def linear(x, w):
    return jnp.tanh(x @ w)


def linear_jvp(primals, tangents):
    (x, w), (dx, dw) = primals, tangents
    y = np.tanh(x @ w)
    return y, (1 - y**2) * (dx @ w + x @ dw)


FAULTS = {
    "the sum is left out": lambda p, t, dp: p * t,
    "the sum over the wrong axis": lambda p, t, dp: p * (t - np.sum(p * t, axis=0, keepdims=True)),
    "a mean": lambda p, t, dp: p * (t - np.mean(p * t, axis=-1, keepdims=True)),
    "a factor": lambda p, t, dp: 1.02 * dp,
    "a sign": lambda p, t, dp: -dp,
    "zero": lambda p, t, dp: 0 * dp,
    "the tangent": lambda p, t, dp: t,
    "one entry": lambda p, t, dp: dp * np.where(np.arange(12).reshape(3, 4) == 5, 3, 1),
    "one row": lambda p, t, dp: dp * (np.arange(3) != 1)[:, None],
    "an offset": lambda p, t, dp: dp + 1e-9,
    "one part in a million": lambda p, t, dp: dp * (1 + 1e-6),
    "float32 inside": lambda p, t, dp: dp.astype(np.float32).astype(float),
    "not a number": lambda p, t, dp: dp * np.nan,
    "another shape": lambda p, t, dp: dp.T,
    "another dtype": lambda p, t, dp: dp.astype(np.float32),
    "reversed": lambda p, t, dp: dp[:, ::-1].copy(),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_the_tangent_are_caught(name):
    report = check_jvp(lambda p, t: softmax_jvp(p, t, FAULTS[name]), softmax, X)
    assert report.verdict is Verdict.DISAGREE
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == ["tangent"]


def test_a_wrong_value_is_told_from_a_wrong_tangent():
    report = check_jvp(lambda p, t: (2 * softmax_jvp(p, t)[0], softmax_jvp(p, t)[1]), softmax, X)
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == ["output"]


def test_one_of_two_tangents_is_forgotten():
    def forgets(primals, tangents):
        (x, w), (dx, _) = primals, tangents
        y = np.tanh(x @ w)
        return y, (1 - y**2) * (dx @ w)

    assert check_jvp(forgets, linear, X, W).verdict is Verdict.DISAGREE


def test_a_tangent_that_is_written_into_is_said():
    def writes(primals, tangents):
        value = softmax_jvp(primals, tangents)
        tangents[0][...] = 0
        return value

    report = check_jvp(writes, softmax, X)
    assert report.verdict is Verdict.DISAGREE
    assert "modifies" in report.sentence


SOUND = {
    "softmax": (softmax_jvp, softmax, X),
    "two inputs": (linear_jvp, linear, X, W),
    "sin": (lambda p, t: (np.sin(p[0]), np.cos(p[0]) * t[0]), jnp.sin, X),
    "the tangent itself": (lambda p, t: (p[0], t[0]), lambda x: x, X),
    "views": (lambda p, t: (p[0].T, t[0].T), jnp.transpose, X),
    "a number": (lambda p, t: (np.exp(p[0]), np.exp(p[0]) * t[0]), jnp.exp, 0.5),
    "float32": (softmax_jvp, softmax, X.astype(np.float32)),
    "SciPy's gamma": (
        lambda p, t: (scipy.special.gammaln(p[0]), scipy.special.digamma(p[0]) * t[0]), jax.scipy.special.gammaln,
        np.abs(X) + 1),
    "SciPy's erf": (
        lambda p, t: (scipy.special.erf(p[0]), 2 / np.sqrt(np.pi) * np.exp(-p[0] ** 2) * t[0]),
        jax.scipy.special.erf, X),
    "an index": (
        lambda p, t: (p[0][p[1]], t[0][p[1]]), lambda x, i: x[i], X, np.array([0, 2, 2])),
    "two outputs": (
        lambda p, t: ((np.sin(p[0]), p[0] ** 2), (np.cos(p[0]) * t[0], 2 * p[0] * t[0])),
        lambda x: (jnp.sin(x), x**2), X),
    "JAX's own": (lambda p, t: jax.jvp(linear, p, t), linear, X, W),
    "ReLU": (lambda p, t: (np.maximum(p[0], 0), (p[0] > 0) * t[0]), lambda x: jnp.maximum(x, 0), X),
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", SOUND)
def test_sound_products_agree(name):
    report = check_jvp(*SOUND[name])
    assert report.verdict is Verdict.AGREE, str(report)


@pytest.mark.parametrize("seed", range(5))
def test_any_seed_agrees(seed):
    assert check_jvp(linear_jvp, linear, X, W, seed=seed).verdict is Verdict.AGREE


def test_what_is_no_floating_point_array_has_no_tangent():
    seen = []

    def jvp(primals, tangents):
        seen.append(tangents[1])
        return primals[0] * primals[1], tangents[0] * primals[1]

    assert check_jvp(jvp, lambda x, k: x * k, X, np.arange(4)).verdict is Verdict.AGREE
    assert all(tangent is None for tangent in seen)


BAD = {
    "one thing": (
        lambda p, t: np.sin(p[0]),
        "must return \\(value, tangent\\), as jax.jvp does, but it returns ndarray",
    ),
    "three things": (lambda p, t: (p[0], t[0], 0), "returns tuple of 3"),
    "nothing": (lambda p, t: None, "returns NoneType"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_returns_are_a_sentence(name):
    function, message = BAD[name]
    with pytest.raises(compare.errors.BadInput, match=message):
        check_jvp(function, jnp.sin, X)


@pytest.mark.parametrize(("function", "x"), [(jnp.sin, X + 1j), (lambda x: 1j * x, X)])
def test_complex_numbers_are_refused_with_the_way_round(function, x):
    with pytest.raises(compare.errors.BadInput, match="checked by check_gradients and check_vjp only"):
        check_jvp(lambda p, t: (p[0], t[0]), function, x)


def test_what_jax_cannot_trace_is_refused_in_words():
    with pytest.raises(TypeError, match=r"JAX cannot trace function, .* bind it with functools\.partial"):
        check_jvp(lambda p, t: (p[0], t[0]), lambda x, m: x.reshape(m, -1), X, 1)


def test_there_must_be_something_to_differentiate():
    with pytest.raises(ValueError, match="nothing to differentiate"):
        check_jvp(lambda p, t: (p[0], t[0]), jnp.sin, np.arange(3))


def test_a_tangent_of_none_is_a_missing_one():
    assert check_jvp(lambda p, t: (np.sin(p[0]), None), jnp.sin, X).verdict is Verdict.DISAGREE


def test_the_assertion_raises_what_the_report_says():
    compare.assert_jvp_agrees(softmax_jvp, softmax, X)
    with pytest.raises(GradientMismatch, match="tangent"):
        compare.assert_jvp_agrees(lambda p, t: softmax_jvp(p, t, FAULTS["a sign"]), softmax, X)
