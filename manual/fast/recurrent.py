"""`manual.recurrent` in the memory of the gates, with as little work as possible in the loop over time.

The factors by which the backward loop multiplies the gradient of the state are computed for all time steps at once, in
the array that holds da after the loop.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from manual._recurrent_shapes import check_activation, check_recurrent
from manual._rules import Rules
from manual.fast.layers import dense, dense_backward
from manual.recurrent import (
    Gradients,
    GruCache,
    Inputs,
    LstmCache,
    RnnCache,
    State,
    States,
    _before,
    _sum_of_products,
)


def rnn(
    x: Inputs,
    initial_state: State,
    input_weight: Float[np.ndarray, "inputs hidden"],
    hidden_weight: Float[np.ndarray, "hidden hidden"],
    bias: Float[np.ndarray, " hidden"],
    *,
    activation: Literal["tanh", "relu"] = "tanh",
) -> tuple[States, RnnCache]:
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (bias,), gates=1)
    check_activation(activation)
    outputs, inputs = dense(x, input_weight, bias)
    h = initial_state
    for t in range(x.shape[1]):
        a = outputs[:, t]
        a += h @ hidden_weight
        h = np.tanh(a, out=a) if activation == "tanh" else np.maximum(a, 0, out=a)
    return outputs, RnnCache(inputs, initial_state, hidden_weight, outputs, activation)


def rnn_backward(output_gradient: States, cache: RnnCache) -> Gradients:
    inputs, initial_state, U, h, activation = cache
    da = 1 - h**2 if activation == "tanh" else (h > 0).astype(h.dtype)
    dh, UT = np.zeros_like(initial_state), np.ascontiguousarray(U.T)
    for t in reversed(range(da.shape[1])):
        dh += output_gradient[:, t]
        da[:, t] *= dh
        np.matmul(da[:, t], UT, out=dh)
    dx, dW, db = dense_backward(da, inputs)
    return dx, dh, dW, _sum_of_products(_before(initial_state, h), da), db


def lstm(
    x: Inputs,
    initial_hidden: State,
    initial_cell: State,
    input_weight: Float[np.ndarray, "inputs 4*hidden"],
    hidden_weight: Float[np.ndarray, "hidden 4*hidden"],
    bias: Float[np.ndarray, " 4*hidden"],
) -> tuple[tuple[States, State], LstmCache]:
    check_recurrent(x, (initial_hidden, initial_cell), input_weight, hidden_weight, (bias,), gates=4)
    gates, inputs = dense(x, input_weight, bias)
    i, f, g, o = _blocks(gates, 4)
    cells, outputs = np.empty_like(o, order="C"), np.empty_like(o, order="C")
    hidden, h, c = initial_hidden.shape[1], initial_hidden, initial_cell
    for t in range(x.shape[1]):
        gates[:, t] += h @ hidden_weight
        _sigmoid(gates[:, t, : 2 * hidden])
        np.tanh(g[:, t], out=g[:, t])
        _sigmoid(o[:, t])
        c = np.multiply(f[:, t], c, out=cells[:, t])
        c += i[:, t] * g[:, t]
        h = np.multiply(o[:, t], np.tanh(c), out=outputs[:, t])
    cache = LstmCache(inputs, initial_hidden, initial_cell, hidden_weight, gates, cells, outputs)
    return (outputs, np.copy(c)), cache


def lstm_backward(output_gradient: tuple[States, State], cache: LstmCache) -> Gradients:
    inputs, initial_hidden, initial_cell, U, gates, cells, outputs = cache
    dy, d_final_cell = output_gradient
    i, f, g, o = _blocks(gates, 4)
    tanh_c = np.tanh(cells)
    da = np.empty_like(gates)
    by_gate = _blocks(da, 4)
    np.multiply(g * i, 1 - i, out=by_gate[0])
    np.multiply(_before(initial_cell, cells) * f, 1 - f, out=by_gate[1])
    np.multiply(i, 1 - g**2, out=by_gate[2])
    np.multiply(tanh_c * o, 1 - o, out=by_gate[3])
    through_h = o * (1 - tanh_c**2)
    dh, dc, UT = np.zeros_like(initial_hidden), np.array(d_final_cell), np.ascontiguousarray(U.T)
    for t in reversed(range(da.shape[1])):
        dh += dy[:, t]
        dc += dh * through_h[:, t]
        by_gate[:3, :, t] *= dc
        by_gate[3, :, t] *= dh
        np.matmul(da[:, t], UT, out=dh)
        dc *= f[:, t]
    dx, dW, db = dense_backward(da, inputs)
    return dx, dh, dc, dW, _sum_of_products(_before(initial_hidden, outputs), da), db


def gru(
    x: Inputs,
    initial_state: State,
    input_weight: Float[np.ndarray, "inputs 3*hidden"],
    hidden_weight: Float[np.ndarray, "hidden 3*hidden"],
    input_bias: Float[np.ndarray, " 3*hidden"],
    hidden_bias: Float[np.ndarray, " 3*hidden"],
) -> tuple[States, GruCache]:
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (input_bias, hidden_bias), gates=3)
    gates, inputs = dense(x, input_weight, input_bias)
    r, z, n = _blocks(gates, 3)
    recalled, outputs = np.empty_like(n, order="C"), np.empty_like(n, order="C")
    hidden, h = initial_state.shape[1], initial_state
    for t in range(x.shape[1]):
        from_h = h @ hidden_weight
        from_h += hidden_bias
        recalled[:, t] = from_h[:, 2 * hidden :]
        gates[:, t, : 2 * hidden] += from_h[:, : 2 * hidden]
        _sigmoid(gates[:, t, : 2 * hidden])
        n[:, t] += r[:, t] * recalled[:, t]
        np.tanh(n[:, t], out=n[:, t])
        kept = z[:, t] * h
        h = np.multiply(1 - z[:, t], n[:, t], out=outputs[:, t])
        h += kept
    cache = GruCache(inputs, initial_state, hidden_weight, gates, recalled, outputs)
    return outputs, cache


def gru_backward(output_gradient: States, cache: GruCache) -> Gradients:
    inputs, initial_state, U, gates, recalled, outputs = cache
    r, z, n = _blocks(gates, 3)
    da = np.empty_like(gates)
    by_gate = _blocks(da, 3)
    da_n = (1 - z) * (1 - n**2)
    np.multiply(da_n, r, out=by_gate[2])  # the factor of U's gradient; replaced by da_n after the loop
    np.multiply(by_gate[2] * recalled, 1 - r, out=by_gate[0])
    np.multiply((_before(initial_state, outputs) - n) * z, 1 - z, out=by_gate[1])
    dh, UT = np.zeros_like(initial_state), np.ascontiguousarray(U.T)
    for t in reversed(range(da.shape[1])):
        dh += output_gradient[:, t]
        by_gate[:, :, t] *= dh
        da_n[:, t] *= dh
        dh *= z[:, t]
        dh += da[:, t] @ UT
    dU, dc = _sum_of_products(_before(initial_state, outputs), da), np.sum(da, axis=(0, 1))
    by_gate[2] = da_n
    dx, dW, db = dense_backward(da, inputs)
    return dx, dh, dW, dU, db, dc


def _sigmoid(a: np.ndarray) -> None:
    """1 / (1 + exp(-a)), in place. If exp overflows, the result is the correct 0."""
    with np.errstate(over="ignore"):
        e = np.exp(-a)  # np.negative(a, out=a) is wrong in NumPy 2.4.6 for some strides, as of four gates of one unit
    e += 1
    np.reciprocal(e, out=a)


def _blocks(a: np.ndarray, count: int) -> np.ndarray:
    """(batch, time, count x hidden) -> (count, batch, time, hidden), a view."""
    return a.reshape(*a.shape[:2], count, a.shape[2] // count).transpose(2, 0, 1, 3)


RECURRENT: Rules = {
    "rnn": (rnn, rnn_backward),
    "lstm": (lstm, lstm_backward),
    "gru": (gru, gru_backward),
}
