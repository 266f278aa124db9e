"""check_custom_rules: custom_vjp and custom_jvp where they stand in a program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compare
from compare import GradientMismatch, Verdict, check_custom_rules

X = np.random.default_rng(0).normal(size=(3, 4))


def with_vjp(function, forward, backward):
    rule = jax.custom_vjp(function)
    rule.defvjp(forward, backward)
    return rule


def with_jvp(function, jvp):
    rule = jax.custom_jvp(function)
    rule.defjvp(jvp)
    return rule


right = with_vjp(lambda x: x**2, lambda x: (x**2, x), lambda x, g: (2 * x * g,))
wrong = with_vjp(lambda x: x**2, lambda x: (x**2, x), lambda x, g: (3 * x * g,))
sine = with_jvp(jnp.sin, lambda p, t: (jnp.sin(p[0]), jnp.cos(p[0]) * t[0]))
clipped = with_vjp(lambda x: x, lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))
indexed = with_vjp(
    lambda x, i: x[i], lambda x, i: (x[i], i), lambda i, g: (jnp.zeros(X.shape, g.dtype).at[i].add(g), None)
)
lost = with_vjp(
    lambda x, i: x[i], lambda x, i: (x[i], i), lambda i, g: (jnp.zeros(X.shape, g.dtype).at[i].set(g), None)
)
product = with_vjp(
    lambda p: p["a"] * p["b"], lambda p: (p["a"] * p["b"], p), lambda p, g: ({"a": g * p["b"], "b": g * p["a"]},)
)
swapped = with_vjp(
    lambda p: p["a"] * p["b"], lambda p: (p["a"] * p["b"], p), lambda p, g: ({"a": g * p["a"], "b": g * p["b"]},)
)
REPEATED = np.array([0, 2, 2], np.int32)

FAULTS = {
    "a factor": lambda x: wrong(x),
    "beside a right one": lambda x: wrong(right(x)),
    "in a scan": lambda x: jax.lax.scan(lambda c, row: (c + jnp.sum(wrong(row)), None), 0.0, x)[0],
    "in a loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, x: wrong(x), x),
    "in a branch": lambda x: jax.lax.cond(x[0, 0] > 100, right, wrong, x),
    "in jit": jax.jit(lambda x: wrong(x)),
    "in vmap": jax.vmap(lambda x: wrong(x)),
    "in checkpoint": jax.checkpoint(lambda x: wrong(x)),
    "inside of another rule": lambda x: with_vjp(
        lambda x: wrong(x) + 1, lambda x: (x**2 + 1, x), lambda x, g: (2 * x * g,))(x),
    "a sign in a jvp": lambda x: with_jvp(jnp.sin, lambda p, t: (jnp.sin(p[0]), -jnp.cos(p[0]) * t[0]))(x),
    "the value of a jvp": lambda x: with_jvp(jnp.sin, lambda p, t: (2 * jnp.sin(p[0]), jnp.cos(p[0]) * t[0]))(x),
    "the value of a forward pass": lambda x: with_vjp(
        lambda x: x**2, lambda x: (2 * x**2, x), lambda x, g: (2 * x * g,))(x),
    "a clipped gradient": lambda x: clipped(5 * x),
    "repeated indices": lambda x: lost(x, REPEATED),
    "two in each other's place": lambda x: swapped({"a": x, "b": x + 1}),
    "zero": lambda x: with_vjp(lambda x: x, lambda x: (x, x), lambda x, g: (0 * g,))(x),
    "the output for the input": lambda x: with_vjp(
        jnp.exp, lambda x: (jnp.exp(x), x), lambda x, g: (x * g,))(x),
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_rule_is_found_wherever_it_stands(name):
    report = check_custom_rules(FAULTS[name], X)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong is not None
    assert "test_custom_rules.py:" in report.first_wrong
    assert report.reports[report.first_wrong].wrong_side in ("manual", "loss")


power = jax.custom_vjp(lambda n, x: x**n, nondiff_argnums=(0,))
power.defvjp(lambda n, x: (x**n, x), lambda n, x, g: (n * x ** (n - 1) * g,))

SOUND = {
    "one rule": lambda x: right(x),
    "two rules": lambda x: sine(right(x)),
    "in a scan": lambda x: jax.lax.scan(lambda c, row: (c + jnp.sum(right(row)), None), 0.0, x)[0],
    "in jit and vmap": jax.jit(jax.vmap(lambda x: right(x))),
    "the branch that is not taken": lambda x: jax.lax.cond(x[0, 0] > 100, wrong, right, x),
    "an argument that is not differentiated": lambda x: power(3, x),
    "whole numbers": lambda x: indexed(x, REPEATED),
    "a tree": lambda x: product({"a": x, "b": x + 1}),
    "beside JAX's own": lambda x: jax.nn.relu(right(x)) + jax.nn.silu(x) + jax.nn.logsumexp(x),
    "optax's loss": lambda x: right(pytest.importorskip("optax").losses.softmax_cross_entropy(x, jax.nn.softmax(x))),
    "a rule at two shapes": lambda x: jnp.sum(right(x)) + jnp.sum(right(x[0])),
    "ones": lambda x: right(jnp.ones(3)) * jnp.sum(x),
}  # fmt: skip


@pytest.mark.sweep
@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sound_rules_agree(name, dtype):
    report = check_custom_rules(SOUND[name], X.astype(dtype))
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.first_wrong is None
    assert report.diagnoses == []


def test_a_right_rule_around_a_wrong_one_is_not_blamed():
    outer = with_vjp(lambda x: wrong(x) + 1, lambda x: (x**2 + 1, x), lambda x, g: (2 * x * g,))
    report = check_custom_rules(lambda x: outer(x), X)
    assert [one.verdict for one in report.reports.values()] == [Verdict.AGREE, Verdict.DISAGREE]


def test_a_rule_is_judged_at_the_inputs_that_it_gets():
    """It is right for x below 100 alone."""
    partly = with_vjp(lambda x: x**2, lambda x: (x**2, x), lambda x, g: (jnp.where(x < 100, 2 * x, 0) * g,))
    assert check_custom_rules(lambda x: partly(x), np.abs(X), probes=False).verdict is Verdict.AGREE
    assert check_custom_rules(lambda x: partly(1000 + x), X, probes=False).verdict is Verdict.DISAGREE


def test_the_report_is_for_people_programs_and_notebooks():
    report = check_custom_rules(lambda x: wrong(right(x)), X)
    assert len(report.reports) == 2
    assert str(report).startswith("DISAGREE: custom_vjp of <lambda> at ")
    assert report.to_dict()["verdict"] == "disagree"
    assert "<h4>custom_vjp of &lt;lambda&gt;" in report._repr_html_()
    with pytest.raises(TypeError):
        bool(report)


@pytest.mark.parametrize("function", [lambda x: x, jax.nn.relu, lambda x: jax.lax.cond(True, jnp.sin, wrong, x)])
def test_without_a_rule_there_is_nothing_to_judge(function):
    with pytest.raises(compare.errors.BadInput, match="no custom_vjp and no custom_jvp of its own"):
        check_custom_rules(function, X)


def test_the_assertion_raises_what_the_report_says():
    compare.assert_custom_rules_agree(right, X)
    with pytest.raises(GradientMismatch, match=r"1\.5 times"):
        compare.assert_custom_rules_agree(lambda x: wrong(right(x)), X)
