"""Recurrent layers, with every derivative by hand.

Symbols, once: x_t are the inputs of step t, h_t the hidden state, da_t the gradient with respect to what an activation
of step t is given. Arrays are (batch, time, features); weights are (inputs, gates x hidden), the gates side by side.

Only what depends on the state before it stands in the loop over time. The inputs of all steps are projected by
one product of matrices before the loop, and after it another one makes dx and each gradient of a weight. What a
backward loop multiplies its carried gradient by is computed for all steps at once, in the array that then holds da.
A sequence without steps leaves its states as they are.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._affine import affine, affine_backward
from manual._recurrent_shapes import check_activation, check_recurrent

Inputs = Float[np.ndarray, "batch time inputs"]
State = Float[np.ndarray, "batch hidden"]
States = Float[np.ndarray, "batch time hidden"]
Gradients = tuple[np.ndarray, ...]


class RnnCache(NamedTuple):
    """The outputs, because f' is a function of them. They are also factors of dU, as x is of dW."""

    x: Float[np.ndarray, "batch time inputs"]
    initial_state: Float[np.ndarray, "batch hidden"]
    input_weight: Float[np.ndarray, "inputs hidden"]
    hidden_weight: Float[np.ndarray, "hidden hidden"]
    outputs: Float[np.ndarray, "batch time hidden"]
    activation: str


def rnn(
    x: Inputs,
    initial_state: State,
    input_weight: Float[np.ndarray, "inputs hidden"],
    hidden_weight: Float[np.ndarray, "hidden hidden"],
    bias: Float[np.ndarray, " hidden"],
    *,
    activation: Literal["tanh", "relu"] = "tanh",
) -> tuple[States, RnnCache]:
    """The state is a function of the inputs and of the state before.

        h_t = f(x_t W + h_{t-1} U + b)      f = tanh or relu

    Returns all h_t, of which the last is the final state. Raises ValueError if shapes do not fit or f is another.
    Source: Elman, "Finding structure in time" (1990).
    """
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (bias,), gates=1)
    check_activation(activation)
    outputs = affine(x, input_weight, bias)
    h = initial_state
    for t in range(x.shape[1]):
        a = outputs[:, t]
        a += h @ hidden_weight
        h = np.tanh(a, out=a) if activation == "tanh" else np.maximum(a, 0, out=a)
    return outputs, RnnCache(x, initial_state, input_weight, hidden_weight, outputs, activation)


def rnn_backward(output_gradient: States, cache: RnnCache) -> Gradients:
    """h_t is used by the output of its step and by the next step:

        dh_t = dy_t + da_{t+1} U^T      da_t = f'(a_t) dh_t      tanh' = 1 - h^2, relu' = 1 where h > 0, else 0
        dW = sum of x_t^T da_t      dU = sum of h_{t-1}^T da_t      db = sum of da_t      dx_t = da_t W^T

    Returns the gradients of x, the initial state (da_1 U^T), both weights and the bias. At relu's kink, 0, the slope
    is 0. Source: Werbos, "Backpropagation through time: what it does and how to do it" (1990).
    """
    x, initial_state, W, U, h, activation = cache
    da = 1 - h**2 if activation == "tanh" else (h > 0).astype(h.dtype)
    dh, UT = np.zeros_like(initial_state), np.ascontiguousarray(U.T)
    for t in reversed(range(x.shape[1])):
        dh += output_gradient[:, t]
        da[:, t] *= dh
        np.matmul(da[:, t], UT, out=dh)
    dx, dW, db = affine_backward(da, x, W)
    return dx, dh, dW, _hidden_gradient(initial_state, h, da), db


class LstmCache(NamedTuple):
    """The gates after their activations, because their derivatives are functions of these.

    tanh of the cells is computed again, for all steps in one pass.
    """

    x: Float[np.ndarray, "batch time inputs"]
    initial_hidden: Float[np.ndarray, "batch hidden"]
    initial_cell: Float[np.ndarray, "batch hidden"]
    input_weight: Float[np.ndarray, "inputs 4*hidden"]
    hidden_weight: Float[np.ndarray, "hidden 4*hidden"]
    gates: Float[np.ndarray, "batch time 4*hidden"]  # i, f, g, o
    cells: Float[np.ndarray, "batch time hidden"]
    outputs: Float[np.ndarray, "batch time hidden"]


def lstm(
    x: Inputs,
    initial_hidden: State,
    initial_cell: State,
    input_weight: Float[np.ndarray, "inputs 4*hidden"],
    hidden_weight: Float[np.ndarray, "hidden 4*hidden"],
    bias: Float[np.ndarray, " 4*hidden"],
) -> tuple[tuple[States, State], LstmCache]:
    """A cell that gates add to, fade and show: long short-term memory.

        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four blocks of x_t W + h_{t-1} U + b
        c_t = f c_{t-1} + i g      h_t = o tanh(c_t)

    Returns (all h_t, the last c_t); the last h_t is the final hidden state. The order of the blocks is that of
    PyTorch and Keras; PyTorch has a second bias, which only adds to the first. No gate looks at the cell (no
    peepholes). Raises ValueError if shapes do not fit. Source: Hochreiter and Schmidhuber, "Long short-term memory"
    (1997), with the forget gate of Gers, Schmidhuber and Cummins, "Learning to forget" (2000).
    """
    check_recurrent(x, (initial_hidden, initial_cell), input_weight, hidden_weight, (bias,), gates=4)
    gates = affine(x, input_weight, bias)
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
    cache = LstmCache(x, initial_hidden, initial_cell, input_weight, hidden_weight, gates, cells, outputs)
    return (outputs, np.copy(c)), cache


def lstm_backward(output_gradient: tuple[States, State], cache: LstmCache) -> Gradients:
    """Two gradients are carried back, of the hidden state and of the cell:

        dh_t = dy_t + da_{t+1} U^T      dc_t = f_{t+1} dc_{t+1} + dh_t o (1 - tanh^2 c_t)
        da_i = dc g i (1 - i)      da_f = dc c_{t-1} f (1 - f)      da_g = dc i (1 - g^2)
        da_o = dh tanh(c) o (1 - o)

    sigmoid' = sigmoid (1 - sigmoid). The gradients of the weights are those of `rnn_backward`. `output_gradient` is the
    pair (dy, gradient of the final cell), and dc begins with the latter. Returns the gradients of x, the initial
    hidden state, the initial cell (f_1 dc_1), both weights and the bias.
    """
    x, initial_hidden, initial_cell, W, U, gates, cells, outputs = cache
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
    for t in reversed(range(x.shape[1])):
        dh += dy[:, t]
        dc += dh * through_h[:, t]
        by_gate[:3, :, t] *= dc
        by_gate[3, :, t] *= dh
        np.matmul(da[:, t], UT, out=dh)
        dc *= f[:, t]
    dx, dW, db = affine_backward(da, x, W)
    return dx, dh, dc, dW, _hidden_gradient(initial_hidden, outputs, da), db


class GruCache(NamedTuple):
    """The gates after their activations, because their derivatives are functions of these.

    Also what r was multiplied by, because it is a factor of da_r and costs a product of matrices.
    """

    x: Float[np.ndarray, "batch time inputs"]
    initial_state: Float[np.ndarray, "batch hidden"]
    input_weight: Float[np.ndarray, "inputs 3*hidden"]
    hidden_weight: Float[np.ndarray, "hidden 3*hidden"]
    gates: Float[np.ndarray, "batch time 3*hidden"]  # r, z, n
    recalled: Float[np.ndarray, "batch time hidden"]  # h_{t-1} Un + cn
    outputs: Float[np.ndarray, "batch time hidden"]


def gru(
    x: Inputs,
    initial_state: State,
    input_weight: Float[np.ndarray, "inputs 3*hidden"],
    hidden_weight: Float[np.ndarray, "hidden 3*hidden"],
    input_bias: Float[np.ndarray, " 3*hidden"],
    hidden_bias: Float[np.ndarray, " 3*hidden"],
) -> tuple[States, GruCache]:
    """A state that is kept where z is 1 and replaced where it is 0: the gated recurrent unit.

        r, z = sigmoid of the first two blocks of x_t W + b + h_{t-1} U + c
        n = tanh(x_t Wn + bn + r (h_{t-1} Un + cn))      h_t = (1 - z) n + z h_{t-1}

    Returns all h_t, of which the last is the final state. This is PyTorch's unit, and Keras's but for the order of
    the blocks, which there is z, r, n. The published version of Cho et al., and Keras with reset_after=False, reset
    before the matrix, (r h_{t-1}) Un; Chung et al. (2014) exchange z and 1 - z. Raises ValueError if shapes do not fit.
    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014), 2.3.
    """
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (input_bias, hidden_bias), gates=3)
    gates = affine(x, input_weight, input_bias)
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
    cache = GruCache(x, initial_state, input_weight, hidden_weight, gates, recalled, outputs)
    return outputs, cache


def gru_backward(output_gradient: States, cache: GruCache) -> Gradients:
    """With dh_t = dy_t + z dh_{t+1} + (what comes back through U), everything else is a multiple of dh_t:

        da_n = dh (1 - z) (1 - n^2)      da_z = dh (h_{t-1} - n) z (1 - z)
        da_r = da_n (h_{t-1} Un + cn) r (1 - r)

    x and b receive (da_r, da_z, da_n). h_{t-1}, U and c receive (da_r, da_z, r da_n), because r stands between them
    and the candidate n. Returns the gradients of x, the initial state, both weights and both biases.
    """
    x, initial_state, W, U, gates, recalled, outputs = cache
    r, z, n = _blocks(gates, 3)
    da = np.empty_like(gates)
    by_gate = _blocks(da, 3)
    da_n = (1 - z) * (1 - n**2)
    np.multiply(da_n, r, out=by_gate[2])  # what U receives, until the loop is done
    np.multiply(by_gate[2] * recalled, 1 - r, out=by_gate[0])
    np.multiply((_before(initial_state, outputs) - n) * z, 1 - z, out=by_gate[1])
    dh, UT = np.zeros_like(initial_state), np.ascontiguousarray(U.T)
    for t in reversed(range(x.shape[1])):
        dh += output_gradient[:, t]
        by_gate[:, :, t] *= dh
        da_n[:, t] *= dh
        dh *= z[:, t]
        dh += da[:, t] @ UT
    dU, dc = _hidden_gradient(initial_state, outputs, da), np.sum(da, axis=(0, 1))
    by_gate[2] = da_n
    dx, dW, db = affine_backward(da, x, W)
    return dx, dh, dW, dU, db, dc


def _sigmoid(a: np.ndarray) -> None:
    """1 / (1 + exp(-a)), in place. Where exp overflows, 0 is right."""
    with np.errstate(over="ignore"):
        e = np.exp(-a)  # np.negative(a, out=a) is wrong in NumPy 2.4.6 for some strides, as of four gates of one unit
    e += 1
    np.reciprocal(e, out=a)


def _blocks(a: np.ndarray, count: int) -> np.ndarray:
    """(batch, time, count x hidden) -> (count, batch, time, hidden), a view."""
    return a.reshape(*a.shape[:2], count, a.shape[2] // count).transpose(2, 0, 1, 3)


def _before(initial: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The state before each step."""
    return np.concatenate([initial[:, None], states], axis=1)[:, :-1]


def _hidden_gradient(initial: np.ndarray, states: np.ndarray, da: np.ndarray) -> np.ndarray:
    """dU = sum over batch and time of h_{t-1}^T da_t."""
    before = _before(initial, states)
    return before.reshape(-1, before.shape[2]).T @ da.reshape(-1, da.shape[2])


Rule = tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]

RECURRENT: dict[str, Rule] = {
    "rnn": (rnn, rnn_backward),
    "lstm": (lstm, lstm_backward),
    "gru": (gru, gru_backward),
}
