"""What a perturbed point may convict of, and what it may only tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import Probe, Verdict, check_gradients

X = np.random.default_rng(0).normal(size=20)


def check(by_hand, loss, *point, **options):
    return check_gradients(by_hand, loss, *point, **options)


def softplus(x):
    return jnp.logaddexp(0, x).sum()


def logsumexp(x):
    return jax.scipy.special.logsumexp(x)


def quietly(function):
    def quiet(*args):
        with np.errstate(all="ignore"):
            return function(*args)

    return quiet


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


# By hand, JAX's loss, and what is said of a point far away.
FRAGILE = {
    "log(1 + exp x)": (
        lambda x: (np.log1p(np.exp(x)).sum(), 1 / (1 + np.exp(-x))),
        softplus,
        "the hand-written loss is inf, where",
    ),
    "log(softmax)": (
        lambda x: (-np.log(softmax(x))[3], softmax(x) - (np.arange(20) == 3)),
        lambda x: -jax.nn.log_softmax(x)[3],
        "the hand-written loss is inf, where",
    ),
    "exp x / (1 + exp x)": (
        lambda x: (np.logaddexp(0, x).sum(), np.exp(x) / (1 + np.exp(x))),
        softplus,
        "the hand-written gradient of value is not finite.",
    ),
    "log sum exp": (
        lambda x: (np.log(np.exp(x).sum()), np.exp(x) / np.exp(x).sum()),
        logsumexp,
        "the hand-written loss is inf, where",
    ),
    "a clipped probability": (
        lambda x: (-np.log(np.clip(softmax(x), 1e-15, 1))[3], softmax(x) - (np.arange(20) == 3)),
        lambda x: -jax.nn.log_softmax(x)[3],
        "it is clipped or loses digits.",
    ),
}


@pytest.mark.parametrize("name", FRAGILE)
def test_code_that_is_fragile_far_away_agrees_and_is_told_so(name):
    by_hand, loss, words = FRAGILE[name]
    report = check(quietly(by_hand), loss, X)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.sentence.startswith("AGREE")
    assert any(words in said and said.startswith("at the perturbed point '") for said in report.arithmetic)
    assert "Arithmetic: at the perturbed point" in str(report)


@pytest.mark.parametrize("name", FRAGILE)
def test_and_fails_if_it_is_judged_strictly(name):
    by_hand, loss, words = FRAGILE[name]
    report = check(quietly(by_hand), loss, X, strict=True)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert words in report.sentence or any(words in cause.message for cause in report.diagnoses)


@pytest.mark.sweep
@pytest.mark.parametrize("name", FRAGILE)
@pytest.mark.parametrize("times", [1.001, -1.0])
def test_a_wrong_gradient_of_fragile_code_is_wrong(name, times):
    by_hand, loss, _ = FRAGILE[name]

    def wrong(x):
        value, gradient = by_hand(x)
        return value, times * gradient

    report = check(quietly(wrong), loss, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    assert report.probe is None


# ---------------------------------------------------------------------- finite values that no rounding explains


def clipped_gradient(x):
    return np.logaddexp(0, 10 * x).sum(), np.clip(10 / (1 + np.exp(-10 * x)), -9.9999, 9.9999)


def other_branch(x):
    """A formula for |x| < 5 alone."""
    value = np.where(np.abs(x) < 5, x**2, 10 * np.abs(x) - 25).sum()
    return value, np.where(np.abs(x) < 5, 2 * x, 9 * np.sign(x))


def other_branch_loss(x):
    return jnp.where(jnp.abs(x) < 5, x**2, 10 * jnp.abs(x) - 25).sum()


def wrong_loss_of_a_branch(x):
    value = np.where(np.abs(x) < 5, x**2, 10 * np.abs(x) - 24).sum()
    return value, np.where(np.abs(x) < 5, 2 * x, 10 * np.sign(x))


def test_a_branch_that_only_another_point_takes_is_convicted_there():
    report = check(other_branch, other_branch_loss, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.probe == "parameters x 10, other data"
    assert report.first_wrong == "value"


def test_a_loss_that_is_wrong_nearby_too_is_convicted():
    """At 5.001 and a little beside it: no clip of large numbers."""

    def constant(x):
        return x.sum() + np.where(np.abs(x).max() > 5.0, 0.5, 0.0), np.ones(x.shape)

    near = Probe("a little farther", lambda x, args, random: (2 * x, args))
    x = np.array([1.0, 4.0])
    assert check(constant, lambda x: x.sum(), x, probes=False).verdict is Verdict.AGREE
    assert check(constant, lambda x: x.sum(), 2 * x, probes=False).verdict is Verdict.DISAGREE
    wrong = check(constant, lambda x: x.sum(), np.array([1.0, 5.2]) * 0.98, probes=[near])
    assert wrong.verdict is Verdict.DISAGREE


def test_a_reference_that_is_not_finite_says_nothing():
    def by_hand(p, y):
        q = np.clip(p, 1e-15, 1 - 1e-15)
        return -np.sum(y * np.log(q) + (1 - y) * np.log(1 - q)), (1 - y) / (1 - q) - y / q

    def loss(p, y):
        return -jnp.sum(y * jnp.log(p) + (1 - y) * jnp.log(1 - p))

    p, y = np.array([0.2, 0.7, 0.4]), np.array([0.0, 1.0, 1.0])
    report = check(by_hand, loss, p, y)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.arithmetic == []
    assert report.probes["parameters x 1000"] == "loss: the reference is nan at its only entry"
    wrong = check(lambda p, y: (by_hand(p, y)[0], by_hand(p, y)[1][::-1]), loss, p, y)
    assert wrong.verdict is Verdict.DISAGREE


def test_one_gradient_that_overflows_hides_no_other_that_is_wrong():
    def by_hand(p):
        a, b = p["a"], p["b"]
        return np.logaddexp(0, a).sum() + np.sum(b**2), {
            "a": np.exp(a) / (1 + np.exp(a)),
            "b": np.clip(2 * b, -100, 100),
        }

    def loss(p):
        return softplus(p["a"]) + jnp.sum(p["b"] ** 2)

    report = check(quietly(by_hand), loss, {"a": X, "b": X})
    assert report.verdict is Verdict.DISAGREE
    assert report.probe == "parameters x 1000"
    assert report.first_wrong == "b"
    assert [diagnosis.path for diagnosis in report.diagnoses] == ["b"]


def test_what_loses_digits_elsewhere_is_told_with_its_point():
    def by_hand(x):
        return np.mean(x * x) - np.mean(x) ** 2, 2 * (x - np.mean(x)) / x.size

    far = Probe("far from 0", lambda x, args, random: (x + 1e6, args))
    report = check(by_hand, lambda x: jnp.var(x), X, probes=[far])
    assert report.verdict is Verdict.AGREE, str(report)
    assert len(report.arithmetic) == 2
    for words, name in zip(report.arithmetic, ("loss", "value"), strict=True):
        assert words.startswith(f"at the perturbed point 'far from 0', {name} loses digits in float64")


# -------------------------------------------------------------------------------------- points that only advise


def slope(a, x):
    """A leaky relu by maximum: right while the slope is below 1."""
    y = np.maximum(x, a * x)
    return (y**2).sum(), (2 * y * np.where(a * x > x, x, 0)).sum(0)


def slope_loss(a, x):
    return (jnp.where(x > 0, x, a * x) ** 2).sum()


DATA = np.random.default_rng(0).normal(size=(20, 3))


def test_an_advisory_point_convicts_nobody_and_is_remarked_upon():
    doubled = Probe("a slope above 1", lambda a, args, random: (8 * a, args), advisory=True)
    report = check(slope, slope_loss, np.full(3, 0.25), DATA, probes=[doubled])
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.arithmetic == []
    (note,) = [note for note in report.notes if "a slope above 1" in note]
    assert note.endswith("the sides differ in loss, value: check whether such values can occur.")
    strict = Probe("a slope above 1", doubled.move)
    assert check(slope, slope_loss, np.full(3, 0.25), DATA, probes=[strict]).verdict is Verdict.DISAGREE


def test_a_leaf_of_one_sign_is_turned_by_an_advisory_point():
    def by_hand(a, x):  # wrong where the slope is negative, which no other point makes it
        y = np.where(x > 0, x, a * x)
        return (y**2).sum(), (2 * y * np.where((x <= 0) & (a > 0), x, 0)).sum(0)

    report = check(by_hand, slope_loss, np.full(3, 0.25), DATA)
    assert report.verdict is Verdict.AGREE
    assert any("'other signs'" in note and "the sides differ in value:" in note for note in report.notes), report.notes
    right = check(
        lambda a, x: (by_hand(a, x)[0], (2 * a * np.where(x > 0, 0, x) ** 2).sum(0)), slope_loss, np.full(3, 0.25), DATA
    )
    assert not any("other signs" in note for note in right.notes)


def test_clipping_is_seen_by_no_point_where_the_gradient_is_too_small_to_be_clipped():
    assert check(clipped_gradient, lambda x: jnp.logaddexp(0, 10 * x).sum(), 0.01 * X, probes=False).verdict is (
        Verdict.AGREE
    )
    report = check(clipped_gradient, lambda x: jnp.logaddexp(0, 10 * x).sum(), 0.01 * X)
    assert report.verdict is Verdict.DISAGREE
    assert report.probe is not None
    wrong = check(wrong_loss_of_a_branch, other_branch_loss, X)
    assert wrong.verdict is Verdict.AGREE  # as a clip is; nearby there is no such branch
    assert any("both sides agree, so it is clipped" in words for words in wrong.arithmetic)
