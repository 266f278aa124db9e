"""Marks in a JAX function: found in order, without effect outside a check, and one fault blamed once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.backward import BACKWARD_ORDER, LINES, by_hand, correct
from benchmarks.faults import OBLONG
from compare import Verdict, check_gradients, tap
from compare.judge.evaluation.intermediates import (
    backward_order,
    find_taps,
    not_compared,
    tapped_values,
)
from compare.judge.program.inputs import Inputs
from compare.judge.program.trace import traced
from compare.suite.shallow import shallow_loss
from tests.helpers import network

W, X = np.array([[0.5, -1.0], [2.0, 0.3]]), np.array([1.0, -2.0])


def two_layers(w, x):
    hidden = tap("hidden", jnp.tanh(w @ x))
    return jnp.sum(tap("output", w @ hidden) ** 2)


def plain(w, x):
    return jnp.sum((w @ jnp.tanh(w @ x)) ** 2)


# --------------------------------------------------------------------------- outside a check


@pytest.mark.sweep
@pytest.mark.parametrize(
    "transform", [jax.jit, jax.grad, lambda f: jax.vmap(f, (0, None))], ids=["jit", "grad", "vmap"]
)
def test_a_tap_is_the_identity_to_every_transformation(transform):
    w = np.stack([W, 2 * W]) if transform not in (jax.jit, jax.grad) else W
    np.testing.assert_array_equal(transform(two_layers)(w, X), transform(plain)(w, X))


def test_a_tap_returns_what_it_got():
    assert tap("anything", 1.5) == 1.5
    np.testing.assert_array_equal(tap("anything", X), X)


# ------------------------------------------------------------------------------- finding taps


def test_taps_are_found_in_the_order_of_the_forward_pass():
    taps = find_taps(traced(two_layers, W, X))
    assert list(taps) == ["hidden", "output"]
    assert all(value.shape == (2,) for value in taps.values())
    assert find_taps(traced(plain, W, X)) == {}


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint], ids=["jit", "checkpoint"])
def test_taps_are_found_inside_of_calls(wrap):
    assert list(find_taps(traced(wrap(two_layers), W, X))) == ["hidden", "output"]
    assert backward_order(traced(wrap(two_layers), W, X)) == backward_order(traced(two_layers, W, X))


def test_taps_inside_of_loops_and_branches_are_not_seen():
    def looping(w, x):
        def step(carry, _):
            return tap("carry", jnp.tanh(w @ carry)), None

        carry, _ = jax.lax.scan(step, x, None, length=3)
        carry = jax.lax.cond(carry[0] > 0, lambda c: tap("positive", c), lambda c: tap("negative", c), carry)
        return jnp.sum(tap("end", carry))

    assert list(find_taps(traced(looping, W, X))) == ["end"]
    assert backward_order(traced(looping, W, X)) == ["loss", "end", "value"]


def test_a_name_that_marks_two_values_is_an_error():
    def twice(w, x):
        return jnp.sum(tap("a", w @ tap("a", x)))

    with pytest.raises(ValueError, match="the name 'a' marks two values in the loss; give each tap its own"):
        find_taps(traced(twice, W, X))
    with pytest.raises(ValueError, match="marks two values"):
        check_gradients(lambda w, x: (0.0, w), twice, W, X)


def test_the_backward_order_of_our_network():
    parameters, *args = network(0, *OBLONG)
    assert backward_order(traced(shallow_loss, parameters, *args)) == list(BACKWARD_ORDER)


def test_a_parameter_follows_the_tap_through_which_the_last_of_its_gradient_arrives():
    assert backward_order(traced(two_layers, W, X)) == ["loss", "output", "hidden", "value"]

    def skipping(p, x):
        return jnp.sum(tap("late", p["b"] * tap("early", p["a"] * x))) + jnp.sum(p["c"])

    parameters = {name: np.ones(2) for name in "abcd"}
    order = backward_order(traced(skipping, parameters, X))
    assert order == ["loss", "c", "late", "b", "early", "a", "d"]  # d is used nowhere


@pytest.mark.parametrize("names", [("W1", "b1", "W2", "b2"), ("z", "y", "x", "w"), ("a", "b", "c", "d")])
def test_without_taps_parameters_come_in_the_opposite_order_of_their_first_use(names):
    early, its_bias, late, last = names

    def loss(p, x):
        penalty = 0.1 * sum(jnp.sum(p[name] ** 2) for name in names)  # where no parameter counts as used
        hidden = jnp.tanh((2 * p[early]) @ x + p[its_bias])
        return penalty + jnp.sum((p[late] @ hidden + p[last]) ** 2)

    parameters = dict(zip(names, (W, X, W, X), strict=True))
    for wrap in (lambda f: f, jax.jit):
        order = backward_order(traced(wrap(loss), parameters, X))
        assert order == ["loss", *sorted([late, last]), *sorted([early, its_bias])]
    held = backward_order(traced(lambda p: loss(p, X), parameters))
    assert held == order
    as_given = backward_order(traced(loss, parameters, X), by_use=False)
    assert as_given == ["loss", *sorted(names)]


def test_parameters_that_are_used_at_the_same_place_keep_their_order():
    parameters = dict.fromkeys("cab", X)

    def squares(p, x):
        return sum(jnp.sum(p[name] ** 2) for name in "bca") + jnp.sum(x)

    assert backward_order(traced(squares, parameters, X)) == ["loss", "a", "b", "c"]


def test_an_error_of_the_last_layer_is_placed_there_without_taps():
    def network(p, x):
        hidden = np.tanh(p["first"] @ x)
        output = p["second"] @ hidden
        wrong = 2 * output * (1 - output**2)
        before = (p["second"].T @ wrong) * (1 - hidden**2)
        return np.sum(output**2), {"first": np.outer(before, x), "second": np.outer(wrong, hidden)}

    report = check_gradients(network, None, {"first": W, "second": W + 0.3}, X, probes=False)
    assert report.first_wrong == "second"
    assert [row.path for row in report.rows] == ["loss", "second", "first"]


# ----------------------------------------------------------------------- values, and what cannot be compared


def test_marked_values_are_found_by_name():
    with jax.enable_x64(True):
        values = tapped_values(traced(two_layers, W, X), Inputs(W, (X,)))
    hidden = np.tanh(W @ X)
    np.testing.assert_allclose(values["hidden"], hidden, rtol=1e-14)
    np.testing.assert_allclose(values["output"], W @ hidden, rtol=1e-14)


def test_values_marked_in_float32_are_found_in_float64():
    narrow = W.astype(np.float32), X.astype(np.float32)
    values = tapped_values(traced(two_layers, *narrow), Inputs(narrow[0], narrow[1:]))
    np.testing.assert_allclose(values["hidden"], np.tanh(narrow[0].astype(float) @ narrow[1].astype(float)), rtol=1e-14)


def test_what_is_offered_under_other_names_is_said_not_to_be_compared():
    def loss(w, x):
        w = jax.lax.fori_loop(0, 2, lambda i, c: tap("turn", jnp.sin(c)), w)
        return jnp.sum(tap("end", w @ x))

    program = traced(loss, W, X)
    taps = find_taps(program)
    assert not_compared(program, taps, {"end"}) == []
    inside, unknown = not_compared(program, taps, {"end", "turn", "ends"})
    assert inside.startswith(
        "the tap 'turn' is not compared: inside a loop, a branch or a custom derivative of the loss"
    )
    assert unknown == "the gradient 'ends' is not compared: the taps of the loss are end."
    (sentence,) = not_compared(traced(plain, W, X), {}, {"a", "b"})
    assert sentence == "the gradients 'a', 'b' are not compared: the loss marks no value with tap(name, value)."


# ---------------------------------------------------------------------------------- one fault, blamed once


PROBLEM = network(0, *OBLONG)  # a shape that is compiled once for several modules of tests


def test_one_fault_upstream_makes_much_wrong_and_is_blamed_once():
    report = check_gradients(by_hand(dZ2=lambda v: v.A2 - v.y), shallow_loss, *PROBLEM)
    wrong = {row.path for row in report.rows if row.verdict is Verdict.DISAGREE}
    assert wrong == {"Z2", "W2", "b2", "A1", "Z1", "W1", "b1"}
    assert report.first_wrong == "Z2"
    assert [diagnosis.path for diagnosis in report.diagnoses] == ["Z2"]


def test_two_faults_are_both_blamed_and_the_first_comes_first():
    fault = by_hand(dZ2=lambda v: -LINES["dZ2"](v), dW1=lambda v: 2 * LINES["dW1"](v))
    report = check_gradients(fault, shallow_loss, *PROBLEM)
    assert [(d.path, d.kind) for d in report.diagnoses] == [("Z2", "sign"), ("W1", "factor")]


def test_without_intermediates_the_first_wrong_parameter_is_named():
    def without(parameters, x, y):
        return by_hand(dA1=lambda v: 2 * LINES["dA1"](v))(parameters, x, y)[:2]

    report = check_gradients(without, shallow_loss, *PROBLEM)
    assert [row.path for row in report.rows] == ["loss", "W2", "b2", "W1", "b1"]
    assert report.first_wrong == "W1"


def test_some_of_the_intermediates_are_enough_to_narrow_it_down():
    def only_z1(parameters, x, y):
        loss, gradients, intermediates = by_hand(dW1=lambda v: 2 * LINES["dW1"](v))(parameters, x, y)
        return loss, gradients, {"Z1": intermediates["Z1"]}

    report = check_gradients(only_z1, shallow_loss, *PROBLEM)
    assert report.first_wrong == "W1"
    assert "Z1" in [row.path for row in report.rows]


def test_all_of_it_right():
    report = check_gradients(correct, shallow_loss, *PROBLEM)
    assert report.verdict is Verdict.AGREE
    assert [row.path for row in report.rows] == list(BACKWARD_ORDER)


def tapped_in_numpy(p, x):
    z = tap("z", x @ p["w"])
    a = tap("a", np.tanh(z))
    da = 2 * a
    dz = da * (1 - a)  # and not its square
    return np.sum(a**2), {"w": x.T @ dz}, {"z": dz, "a": da}


def test_a_hand_written_function_marks_its_own_values():
    random = np.random.default_rng(0)
    p, x = {"w": random.normal(size=(3, 2))}, random.normal(size=(5, 3))
    report = check_gradients(tapped_in_numpy, None, p, x)
    assert report.first_wrong == "z"
    assert report.diagnoses[0].kind == "wrong-factor"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_outside_of_a_check_a_mark_leaves_numpys_arrays_as_they_are(dtype):
    x = np.arange(3, dtype=dtype)
    assert tap("x", x) is x
    assert tap("y", x[0]).dtype == dtype
