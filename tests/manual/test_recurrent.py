"""Recurrent layers against loops over single units, and at their edges."""

import math
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff.recurrent
import manual.fast
from manual.recurrent import RECURRENT
from tests.manual.recurrent_inputs import GATES, drawn


def paired(name, dy, d_cell) -> Any:
    return (dy, d_cell) if name == "lstm" else dy


def by_hand(name, inputs, output_gradient, *, rules=RECURRENT, **options) -> Any:
    value, cache = rules[name][0](*inputs, **options)
    return value, rules[name][1](output_gradient, cache)


BY_HAND = pytest.mark.parametrize("rules", [RECURRENT, manual.fast.recurrent.RECURRENT], ids=["page", "fast"])


@partial(jax.jit, static_argnums=0)
def compiled(function, inputs, output_gradient) -> Any:
    value, pull = jax.vjp(function, *inputs)
    return value, pull(output_gradient)


def by_jax(name, inputs, output_gradient) -> Any:
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, compiled(getattr(autodiff.recurrent, name), inputs, output_gradient))


def assert_close(ours, theirs, rtol=1e-12, atol=1e-13):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


# ------------------------------------------------------------------------- one unit after another


def sigmoid(a):
    return 1 / (1 + math.exp(-a)) if a > -700 else 0.0


def naive(name, x, *inputs, activation="tanh") -> Any:
    """The same value from loops over examples, steps and units, in the words of the docstrings."""
    states, (W, U, *biases) = (inputs[:2], inputs[2:]) if name == "lstm" else (inputs[:1], inputs[1:])
    hidden = U.shape[0]
    outputs, cells = np.zeros((*x.shape[:2], hidden)), np.array(states[-1])
    for b in range(x.shape[0]):
        h = states[0][b]
        for t in range(x.shape[1]):
            new = np.zeros(hidden)
            for k in range(hidden):
                columns = range(k, U.shape[1], hidden)
                from_x = [sum(x[b, t] * W[:, j]) + biases[0][j] for j in columns]
                from_h = [sum(h * U[:, j]) + (biases[1][j] if name == "gru" else 0) for j in columns]
                if name == "rnn":
                    new[k] = math.tanh(from_x[0] + from_h[0]) if activation == "tanh" else max(from_x[0] + from_h[0], 0)
                elif name == "lstm":
                    i, f, g, o = (a + c for a, c in zip(from_x, from_h, strict=True))
                    cells[b, k] = sigmoid(f) * cells[b, k] + sigmoid(i) * math.tanh(g)
                    new[k] = sigmoid(o) * math.tanh(cells[b, k])
                else:
                    r, z = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
                    new[k] = (1 - z) * math.tanh(from_x[2] + r * from_h[2]) + z * h[k]
            h = outputs[b, t] = new
    return (outputs, cells) if name == "lstm" else outputs


def differences(name, inputs, output_gradient, **options):
    """Central differences of <output gradient, value> by every entry of every input."""

    def loss(*inputs):
        terms = jax.tree.map(lambda value, dy: np.sum(value * dy), naive(name, *inputs, **options), output_gradient)
        return sum(jax.tree.leaves(terms))

    gradients = [np.zeros_like(x) for x in inputs]
    for number, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [np.copy(x) for x in inputs]
                moved[number][index] += step
                ends.append(loss(*moved))
            gradient[index] = (ends[0] - ends[1]) / 2e-6
    return gradients


EDGES = {
    "several steps": {},
    "one step": {"time": 1},
    "one example": {"batch": 1, "time": 2},
    "one unit": {"hidden": 1, "inputs": 1},
    "no examples": {"batch": 0},
    "no steps": {"time": 0},
}


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("name", "options"), [("rnn", {}), ("rnn", {"activation": "relu"}), ("lstm", {}), ("gru", {})])
def test_against_one_unit_at_a_time(rules, name, options, edge):
    *inputs, dy, d_cell = drawn(name, **EDGES[edge])
    output_gradient = paired(name, dy, d_cell)
    value, gradients = by_hand(name, inputs, output_gradient, **options, rules=rules)
    assert_close(value, naive(name, *inputs, **options))
    assert_close(gradients, differences(name, inputs, output_gradient, **options), rtol=1e-6, atol=1e-8)


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("edge", [{"batch": 0}, {"time": 0}])
@pytest.mark.parametrize("name", GATES)
def test_nothing_to_do_is_done_alike_on_both_sides(rules, name, edge):
    """Without steps the states stay, and their gradients pass through; without examples the weights' are zero."""
    *inputs, dy, d_cell = drawn(name, **edge)
    value, gradients = by_hand(name, inputs, paired(name, dy, d_cell), rules=rules)
    theirs, their_gradients = by_jax(name, inputs, paired(name, dy, d_cell))
    assert_close((value, gradients), (theirs, their_gradients), rtol=0, atol=0)
    if name == "lstm":
        np.testing.assert_array_equal(value[1], inputs[2])
        assert not np.shares_memory(value[1], inputs[2])
        np.testing.assert_array_equal(gradients[2], d_cell)
    for gradient in gradients[-3:]:
        assert not gradient.any()


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", GATES)
def test_saturated_gates_are_finite_and_silent(rules, name, dtype):
    *inputs, dy, d_cell = drawn(name, scale=100.0)
    value, gradients = by_hand(
        name, [x.astype(dtype) for x in inputs], paired(name, dy.astype(dtype), d_cell.astype(dtype)), rules=rules
    )
    assert_close(value, naive(name, *inputs), rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if dtype == np.float64:
        assert_close((value, gradients), by_jax(name, inputs, paired(name, dy, d_cell)), rtol=1e-9, atol=1e-12)


@BY_HAND
@pytest.mark.parametrize("hidden", [1, 2, 4, 8])
@pytest.mark.parametrize("name", GATES)
def test_no_stride_of_the_gates_is_special(rules, name, hidden):
    """np.negative in place is wrong in NumPy 2.4 for strides of 4 float32 or of 8 float64."""
    *inputs, _, _ = drawn(name, batch=3, time=2, hidden=hidden)
    narrow, _ = rules[name][0](*(x.astype(np.float32) for x in inputs))
    assert_close(rules[name][0](*inputs)[0], naive(name, *inputs))
    assert_close(narrow, naive(name, *inputs), rtol=1e-4, atol=1e-5)


@BY_HAND
def test_at_the_nonsmooth_point_of_relu_the_slope_is_zero(rules):
    *inputs, dy, _ = drawn("rnn")
    inputs[0], inputs[1], inputs[4] = 0 * inputs[0], 0 * inputs[1], 0 * inputs[4]
    value, gradients = by_hand("rnn", inputs, dy, activation="relu", rules=rules)
    _, pull = jax.vjp(jax.jit(partial(autodiff.recurrent.rnn, activation="relu")), *map(np.float32, inputs))
    for gradient in (value, *gradients, *pull(np.float32(dy))):
        np.testing.assert_array_equal(gradient, 0)


@BY_HAND
def test_gates_that_are_wide_open_carry_a_state_and_its_gradient_unchanged(rules):
    *inputs, dy, d_cell = drawn("lstm")
    inputs[5] = np.repeat([-1000.0, 1000.0, 0.0, -1000.0], 2)  # i, f, g, o: nothing in, all kept, nothing shown
    (outputs, final_cell), gradients = by_hand("lstm", inputs, (dy, d_cell), rules=rules)
    np.testing.assert_array_equal(outputs, 0)
    np.testing.assert_array_equal(final_cell, inputs[2])
    np.testing.assert_array_equal(gradients[2], d_cell)
    *inputs, dy, _ = drawn("gru")
    inputs[4] = np.repeat([0.0, 1000.0, 0.0], 2)  # r, z, n: all kept
    outputs, gradients = by_hand("gru", inputs, dy, rules=rules)
    np.testing.assert_array_equal(outputs, np.repeat(inputs[1][:, None], 3, axis=1))
    np.testing.assert_allclose(gradients[1], dy.sum(axis=1), rtol=1e-14)


@settings(deadline=None)
@given(st.sampled_from(list(GATES)), st.integers(0, 10**6), st.integers(1, 6), st.data())
def test_a_sequence_in_two_pieces_is_the_sequence(name, seed, time, data):
    """With the final state of the first handed to the second, and its gradient handed back."""
    *inputs, dy, d_cell = drawn(name, time=time, seed=seed)
    cut = data.draw(st.integers(0, time))
    forward, backward = RECURRENT[name]
    value, cache = forward(*inputs)
    dx, *rest = backward(paired(name, dy, d_cell), cache)
    x, *others = inputs
    states = 2 if name == "lstm" else 1
    first, first_cache = forward(x[:, :cut], *others)
    outputs, *cells = first if name == "lstm" else (first,)
    middle = [outputs[:, -1] if cut else others[0], *cells]
    second, second_cache = forward(x[:, cut:], *middle, *others[states:])
    dx_second, *rest_second = backward(paired(name, dy[:, cut:], d_cell), second_cache)
    dy_first = np.copy(dy[:, :cut])
    if cut:
        dy_first[:, -1] += rest_second[0]
    dx_first, *rest_first = backward(paired(name, dy_first, rest_second[1]), first_cache)
    whole, last = (value[0], second[0]) if name == "lstm" else (value, second)
    assert_close(np.concatenate([outputs, last], axis=1), whole)
    assert_close(np.concatenate([dx_first, dx_second], axis=1), dx, atol=1e-10)
    for one, other, both in zip(rest_first[states:], rest_second[states:], rest[states:], strict=True):
        assert_close(one + other, both, rtol=1e-10, atol=1e-10)
    if cut:
        assert_close(rest_first[:states], rest[:states], atol=1e-10)


@pytest.mark.parametrize("name", GATES)
def test_the_conventions_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    *inputs, _, _ = drawn(name)
    states, weights = inputs[1 : -4 if name == "gru" else -3], inputs[-4 if name == "gru" else -3 :]
    layer = getattr(torch.nn, name.upper())(3, 2, batch_first=True).double()
    W, U, *biases = (torch.from_numpy(np.ascontiguousarray(weight.T)) for weight in weights)
    for parameter, values in zip(layer.parameters(), [W, U, *biases, torch.zeros_like(biases[0])], strict=False):
        parameter.data = values
    begin = [torch.from_numpy(state[None]) for state in states]
    outputs, final = layer(torch.from_numpy(inputs[0]), tuple(begin) if name == "lstm" else begin[0])
    value, _ = RECURRENT[name][0](*inputs)
    theirs = (outputs.detach(), final[1][0].detach()) if name == "lstm" else outputs.detach()
    assert_close(value, jax.tree.map(np.asarray, theirs))


# --------------------------------------------------------------------------------------- manners


@BY_HAND
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", GATES)
def test_inputs_may_be_read_only_and_strided_and_work_keeps_its_dtype(rules, name, dtype):
    drawn_here = [x.astype(dtype) for x in drawn(name)]
    strided = [np.repeat(x, 2, axis=-1)[..., ::2] for x in drawn_here]
    for x in strided:
        x.flags.writeable = False
    ours = by_hand(name, strided[:-2], paired(name, *strided[-2:]), rules=rules)
    plain = by_hand(name, drawn_here[:-2], paired(name, *drawn_here[-2:]), rules=rules)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=50 * np.finfo(dtype).eps, atol=50 * np.finfo(dtype).eps)


@BY_HAND
@pytest.mark.parametrize("name", GATES)
def test_backward_leaves_its_cache_and_its_output_gradient_alone(rules, name):
    *inputs, dy, d_cell = drawn(name)
    kept = np.copy(dy), np.copy(d_cell)
    _, cache = rules[name][0](*inputs)
    first, again = (rules[name][1](paired(name, dy, d_cell), cache) for _ in range(2))
    assert_close(first, again, rtol=0, atol=0)
    assert_close((dy, d_cell), kept, rtol=0, atol=0)
    assert not any(np.shares_memory(a, b) for a, b in zip(first, again, strict=True))
