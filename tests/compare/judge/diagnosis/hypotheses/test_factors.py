"""Elementwise factors, masks and gains that are missing or wrong, and added terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import Verdict, check_gradients, check_vjp
from compare.judge.diagnosis.causes import diagnose
from tests.compare.judge.diagnosis.made_up import (
    A1,
    DERIVATIVE,
    FACTORS,
    OTHERWISE,
    PARAMETER,
    RIGHT,
    evidence,
    named,
)


def test_every_row_has_a_factor_of_its_own():
    scales = np.array([[0.5], [2.0], [2.0], [-1.0]])
    kind, _, message = named(scales * RIGHT)
    assert kind == "line-factors"
    assert "along axis 0" in message
    assert "0.5, 2, -1" in message
    weights = np.array([3.0, -1.0, 0.5, 2.0])
    _, _, message = named(RIGHT * (weights[0] / weights)[:, None], known={"weights": weights})
    assert "the first entry of weights is used instead of each entry, along axis 0" in message


@pytest.mark.parametrize(
    ("came", "kind", "words"),
    [
        (RIGHT, "missing-factor", "the factor 1 - A1**2 is missing"),
        (RIGHT * DERIVATIVE**2, "extra-factor", "multiplied by 1 - A1**2 once too often"),
        (RIGHT * (1 - A1), "wrong-factor", "the factor is 1 - A1, and should be 1 - A1**2"),
    ],
)
def test_elementwise_factors(came, kind, words):
    found = named(came, RIGHT * DERIVATIVE, factors=FACTORS)
    assert found[0] == kind
    assert words in found[2]


def test_a_mask_that_is_missing():
    """Where the mask is 1 nothing is wrong, so no quotient of entries tells."""
    mask = (PARAMETER > 0).astype(float)
    kind, _, message = named(RIGHT, RIGHT * mask, factors={"mask": mask})
    assert kind == "missing-mask"
    assert message == "it should be 0 where mask is 0: the factor mask is missing."
    spoilt = np.where(mask == 0, 0, RIGHT)
    spoilt[0] += 1
    assert diagnose(evidence(spoilt, RIGHT * mask, factors={"mask": mask})) == []


def test_a_mask_is_no_formula_that_is_0_where_it_is():
    """The output of relu is 0 where its input is negative, and so are the derivatives that are written with it."""
    output = np.maximum(PARAMETER, 0)
    mask = (PARAMETER > 0).astype(float)
    factors = {"output (1 - output)": output * (1 - output), "output": output, "output**2": output**2}
    factors |= {"W**2": PARAMETER**2, "W": PARAMETER, "W > 0": mask}
    _, _, message = named(RIGHT, RIGHT * mask, factors=factors)
    assert message == "it should be 0 where W <= 0: the mask W > 0 is missing."
    _, _, message = named(RIGHT * PARAMETER, RIGHT * mask, factors=factors)
    assert message == "the factor is W, and should be the mask W > 0."
    del factors["W > 0"]
    assert diagnose(evidence(RIGHT, RIGHT * mask, factors=factors)) == []
    assert all(
        "output" not in d.message
        for d in diagnose(
            evidence(
                RIGHT * PARAMETER,
                RIGHT * mask,
                factors={name: f for name, f in factors.items() if name.startswith("output")},
            )
        )
    )


def test_a_gain_that_is_missing():
    gain = np.random.default_rng(1).standard_normal(6)
    kind, _, message = named(RIGHT, RIGHT * gain, known={"gain": gain})
    assert kind == "missing-factor"
    assert "the factor gain is missing" in message


@pytest.mark.parametrize("decay", [1e-6, 1e-3, -0.5])
def test_weight_decay(decay):
    kind, factor, message = named(RIGHT + decay * PARAMETER, parameter=PARAMETER)
    assert kind == "weight-decay"
    amount = f"{abs(decay):.6g} times the parameter"
    assert message.startswith(f"{amount} is {'missing' if decay < 0 else 'added to it'}: the derivative of a penalty")
    _, _, message = named(RIGHT + decay * PARAMETER, parameter=PARAMETER, of_a_step=True)
    assert message.startswith(f"{amount} {'should also be' if decay > 0 else 'is'} subtracted, ")
    assert factor == pytest.approx(decay, rel=1e-6)


def test_what_it_would_be_if_something_before_had_been_otherwise():
    found = named(OTHERWISE, alternatives={("transpose", "it is computed with the transpose of W2."): OTHERWISE})
    assert found == ("transpose", None, "it is computed with the transpose of W2.")


NORM = np.linalg.norm
MULTIPLES = {
    "the norm of a cosine": (
        lambda a, b: (a @ b / NORM(a) / NORM(b), b / NORM(a) / NORM(b)),
        lambda a, b: a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b),
    ),
    "a Rayleigh quotient": (lambda a, b: (a @ a / (b + a @ a).sum(), 2 * a / (b + a @ a).sum()), None),
    "the logarithm of a square": (
        lambda a, b: (np.log(1 + a @ a) + b @ np.sin(a), b * np.cos(a)),
        lambda a, b: jnp.log(1 + a @ a) + b @ jnp.sin(a),
    ),
}


@pytest.mark.parametrize("name", MULTIPLES)
def test_a_multiple_that_changes_with_the_parameter_is_no_weight_decay(name):
    by_hand, loss = MULTIPLES[name]
    report = check_gradients(by_hand, loss, np.array([0.3, -1.2, 0.7, 2.0]), np.array([1.0, 0.4, -0.8, 0.5]))
    assert report.verdict is Verdict.DISAGREE
    assert "weight-decay" not in {cause.kind for cause in report.diagnoses}


@pytest.mark.parametrize("times", [0.0, 1.0])
def test_a_forgotten_penalty_is_one(times):
    a, b = np.array([0.3, -1.2, 0.7]), np.array([1.0, 0.4, -0.8])
    by_hand = lambda a, b: (b @ np.sin(a) + 0.1 * a @ a, b * np.cos(a) + times * 0.1 * a)  # noqa: E731
    report = check_gradients(by_hand, lambda a, b: b @ jnp.sin(a) + 0.1 * a @ a, a, b)
    assert {cause.kind for cause in report.diagnoses} == {"weight-decay"}


X, W = np.random.default_rng(7).uniform(0.5, 2.0, (2, 4, 5)) * np.random.default_rng(8).choice([-1, 1], (2, 4, 5))


@pytest.mark.parametrize(
    ("function", "wrong", "words"),
    [
        (lambda x, w: x * w, lambda dy, x, w: dy * w**2, "it is multiplied by w once too often."),
        (lambda x, w: x * w, lambda dy, x, w: dy, "the factor w is missing."),
        (lambda x, w: x / w, lambda dy, x, w: dy * w, "it is multiplied by w, and should be divided by it"),
        (lambda x, w: x / w, lambda dy, x, w: dy, "the division by w is missing."),
        (lambda x, w: x / w, lambda dy, x, w: dy / w**2, "it is divided by w once too often."),
        (lambda x, w: jnp.exp(x) + 0 * w, lambda dy, x, w: dy * np.exp(-x), "it is what it should be, divided by"),
        (lambda x, w: jnp.exp(x) + 0 * w, lambda dy, x, w: dy * np.exp(x) * w, "it is what it should be, times w."),
        (lambda x, w: x**2 + 0 * w, lambda dy, x, w: dy * x**2, "it is output * the output gradient."),
    ],
)
def test_a_factor_that_should_be_there_is_one_of_the_right_gradient(function, wrong, words):
    def backward(dy, cache):
        return wrong(dy, *cache), np.asarray(slope(*cache)) * dy

    def slope(x, w):
        return jax.grad(lambda w: function(x, w).sum())(w)

    report = check_vjp(lambda x, w: (np.asarray(function(x, w)), (x, w)), backward, function, X, W, probes=False)
    assert [d.path for d in report.diagnoses] == ["x"]
    assert words in report.diagnoses[0].message


def test_operands_that_are_swapped():
    """x**2 / output equals x / w, but the gradient of x w has no factor output."""
    report = check_vjp(lambda x, w: (x * w, (x, w)), lambda dy, c: (dy * c[0], dy * c[1]), jnp.multiply, X, W)
    assert [d.message for d in report.diagnoses] == [
        "the factor is x, and should be w.",
        "the factor is w, and should be x.",
    ]
