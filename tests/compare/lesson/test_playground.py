"""The network that may be broken: its right lines are `manual`'s, and the judge says of each wrong one that it is."""

import numpy as np
import pytest

import manual
from compare.judge.gradients import check_gradients
from compare.judge.reports.verdict import Verdict
from compare.lesson.content import Plane
from compare.lesson.playground import ACTIVATIONS, by_hand, lines, loss_in_jax, playground
from compare.platform import precise
from manual.activations import ACTIVATIONS as RULES

NAMES = [line.name for line in lines("tanh")]
# What the judge names, where a cause is to be had.
CAUSES = {
    ("tanh", "dZ2"): "7 times what it should be",
    ("relu", "db2"): "1 / x.shape[1]",
    ("tanh", "dA1"): "the sign is wrong",
    ("tanh", "dZ1"): "1 - Z1**2, and should be 1 - A1**2",
    ("sigmoid", "dZ1"): "the factor A1 is missing",
}


def a_problem(hidden=3, examples=7):
    random = np.random.default_rng(1)
    shapes = {"W1": (hidden, 2), "b1": (hidden,), "W2": (1, hidden), "b2": (1,)}
    parameters = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    return parameters, random.standard_normal((2, examples)), random.integers(0, 2, (1, examples)).astype(float)


def test_with_tanh_the_lines_are_those_of_manual():
    p, x, y = a_problem()
    loss, gradients, intermediates = by_hand("tanh")(p, x, y)
    columns = p | {name: p[name][:, np.newaxis] for name in ("b1", "b2")}
    expected_loss, expected = manual.loss_and_gradients(columns, x, y)
    assert loss == expected_loss
    assert gradients.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(gradients[name], expected[name].reshape(gradients[name].shape), rtol=1e-13)
    assert [f"d{name}" for name in (*intermediates, *gradients)] == sorted(
        NAMES, key=["dZ2", "dA1", "dZ1", "dW1", "dW2", "db1", "db2"].index
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_slope_of_every_activation_is_that_of_its_page(activation):
    p, x, y = a_problem()
    _, _, intermediates = by_hand(activation)(p, x, y)
    forward, backward = RULES[activation]
    _, cache = forward(p["W1"] @ x + p["b1"][:, np.newaxis])
    np.testing.assert_allclose(intermediates["Z1"], backward(intermediates["A1"], cache), rtol=1e-13)


@pytest.mark.sweep
@pytest.mark.parametrize(("activation", "broken"), [*CAUSES, ("relu", "dZ1"), ("sigmoid", "dW2"), ("relu", "")])
def test_the_judge_says_what_is_wrong_with_a_broken_line(activation, broken):
    p, x, y = a_problem()
    with precise(p):
        report = check_gradients(by_hand(activation, broken), loss_in_jax(activation), p, x, y, probes=False)
    assert report.verdict is (Verdict.DISAGREE if broken else Verdict.AGREE)
    assert report.first_wrong == (broken.removeprefix("d") or None)
    assert CAUSES.get((activation, broken), "") in report.sentence


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_wrong_line_changes_what_it_computes(activation):
    p, x, y = a_problem()
    _, right, between = by_hand(activation)(p, x, y)
    right = right | between
    for line in lines(activation):
        _, wrong, between = by_hand(activation, line.name)(p, x, y)
        changed = {name for name, value in (wrong | between).items() if not np.allclose(value, right[name])}
        assert line.name.removeprefix("d") in changed
        assert changed <= {name.removeprefix("d") for name in NAMES[NAMES.index(line.name) :]}


@pytest.mark.campaign
def test_every_line_of_an_activation_is_judged_and_data_in_the_plane_are_offered(monkeypatch):
    for other in ("relu", "sigmoid"):
        monkeypatch.delitem(ACTIVATIONS, other)
    _, x, y = a_problem()
    settings = {"dataset": "mine.csv", "hidden": 3, "activation": "gelu", "learning_rate": 0.5}
    play = playground(Plane(x, y, (x[0], x[1])), settings=settings)
    assert (play.chosen, play.hidden, play.activation, play.rate) == ("data of the lesson", 3, "tanh", 0.5)
    assert list(play.data) == ["moons", "flower", "data of the lesson"]
    assert {line: found.verdict for line, found in play.verdicts["tanh"].items()} == {"": "agree"} | dict.fromkeys(
        NAMES, "disagree"
    )
