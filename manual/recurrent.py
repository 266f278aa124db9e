"""Recurrent layers, with every derivative by hand.

Symbols: x_t are the inputs at step t, h_t the hidden state (h_0 the initial one), c_t the cell state, a_t the
pre-activations, and da_t the gradient with respect to a_t; W is the input weight, U the hidden weight and b the bias.
Arrays are (batch, time, features), and weights are (inputs, gates x hidden), with the gates side by side.

x_t W + b does not depend on the state. So it is one dense layer for all steps at once, before the loop over time; in
the backward pass it comes after the loop, in which the terms of step t + 1 are 0 at the last step. A sequence without
steps leaves the states unchanged. Every layer raises ValueError if shapes do not fit.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from manual._recurrent_shapes import check_activation, check_recurrent
from manual._rules import Rules
from manual.activations import sigmoid
from manual.layers import DenseCache, dense, dense_backward

Inputs = Float[np.ndarray, "batch time inputs"]
State = Float[np.ndarray, "batch hidden"]
States = Float[np.ndarray, "batch time hidden"]
Gradients = tuple[Any, ...]


class RnnCache(NamedTuple):
    """The outputs h, because f' is a function of h and h is a factor of dU; x, in `inputs`, is a factor of dW."""

    inputs: DenseCache
    initial_state: Float[np.ndarray, "batch hidden"]
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
    """The hidden state is a function of the input and of the previous hidden state.

        h_t = f(x_t W + h_{t-1} U + b)      f = tanh or relu

    Args:
        x: (batch, time, inputs).
        initial_state: h_0, (batch, hidden).
        input_weight: W.
        hidden_weight: U.
        bias: b.
        activation: f, "tanh" or "relu".

    Returns:
        h_t for all t (batch, time, hidden), of which the last is the final state, and the cache.

    Raises:
        ValueError: if shapes do not fit, or the activation is unknown.

    Source: Elman, "Finding structure in time" (1990).
    """
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (bias,), gates=1)
    check_activation(activation)
    from_x, inputs = dense(x, input_weight, bias)
    outputs, h = np.zeros_like(from_x), initial_state
    for t in range(x.shape[1]):
        a = from_x[:, t] + h @ hidden_weight
        h = outputs[:, t] = np.tanh(a) if activation == "tanh" else np.maximum(a, 0)
    return outputs, RnnCache(inputs, initial_state, hidden_weight, outputs, activation)


def rnn_backward(output_gradient: States, cache: RnnCache) -> Gradients:
    """h_t affects the output of its step, and the next step:

        dh_t = dy_t + da_{t+1} U^T      da_t = f'(a_t) dh_t      tanh' = 1 - h^2, relu' = 1 where h > 0, else 0
        dW = sum of x_t^T da_t      dU = sum of h_{t-1}^T da_t      db = sum of da_t      dx_t = da_t W^T

    Returns the gradients of x, the initial state (da_1 U^T), both weights and the bias. At the nonsmooth point of relu
    the derivative is 0. Source: Werbos, "Backpropagation through time: what it does and how to do it" (1990).
    """
    inputs, initial_state, U, h, activation = cache
    h_before = _before(initial_state, h)
    slope = 1 - h**2 if activation == "tanh" else h > 0
    da, dh_from_next = np.zeros_like(h), np.zeros_like(initial_state)
    for t in reversed(range(h.shape[1])):
        dh = output_gradient[:, t] + dh_from_next
        da[:, t] = slope[:, t] * dh
        dh_from_next = da[:, t] @ U.T
    dx, dW, db = dense_backward(da, inputs)
    dU = _sum_of_products(h_before, da)
    return dx, dh_from_next, dW, dU, db


class LstmCache(NamedTuple):
    """The activated gates, because the derivatives of their activations are functions of them; and the cell states."""

    inputs: DenseCache
    initial_hidden: Float[np.ndarray, "batch hidden"]
    initial_cell: Float[np.ndarray, "batch hidden"]
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
    """Long short-term memory: gates control what is added to a cell state, what is kept of it, and what is output.

        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four blocks of x_t W + h_{t-1} U + b
        c_t = f c_{t-1} + i g      h_t = o tanh(c_t)

    The blocks are in the order of PyTorch and Keras. PyTorch has a second bias, which is added to the first. There are
    no peepholes, that is, no gate depends on the cell state.

    Args:
        x: (batch, time, inputs).
        initial_hidden: h_0, (batch, hidden).
        initial_cell: c_0, (batch, hidden).
        input_weight: W.
        hidden_weight: U.
        bias: b.

    Returns:
        ((h_t for all t, the last c_t), cache). The last h_t is the final hidden state.

    Raises:
        ValueError: if shapes do not fit.

    Source: Hochreiter and Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers, Schmidhuber and
    Cummins, "Learning to forget" (2000).
    """
    check_recurrent(x, (initial_hidden, initial_cell), input_weight, hidden_weight, (bias,), gates=4)
    from_x, inputs = dense(x, input_weight, bias)
    h, c = initial_hidden, np.copy(initial_cell)
    gates = np.zeros_like(from_x)
    cells, outputs = np.zeros((2, *x.shape[:2], h.shape[1]), x.dtype)
    for t in range(x.shape[1]):
        a_i, a_f, a_g, a_o = np.split(from_x[:, t] + h @ hidden_weight, 4, axis=1)
        (i, _), (f, _), g, (o, _) = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c = f * c + i * g
        h = o * np.tanh(c)
        gates[:, t], cells[:, t], outputs[:, t] = np.concatenate([i, f, g, o], axis=1), c, h
    return (outputs, c), LstmCache(inputs, initial_hidden, initial_cell, hidden_weight, gates, cells, outputs)


def lstm_backward(output_gradient: tuple[States, State], cache: LstmCache) -> Gradients:
    """Two gradients are propagated back through time, of the hidden state and of the cell state:

        dh_t = dy_t + da_{t+1} U^T      dc_t = f_{t+1} dc_{t+1} + dh_t o_t (1 - tanh^2 c_t)

    `_lstm_step_backward` computes da_t from them. dW, dU and db are those of `rnn_backward`. `output_gradient` is the
    pair (dy, gradient of the final cell), and dc starts with the latter. Returns the gradients of x, the initial hidden
    state (da_1 U^T), the initial cell (f_1 dc_1), both weights and the bias.
    """
    inputs, initial_hidden, initial_cell, U, gates, c, h = cache
    dy, dc_final = output_gradient
    c_before, h_before = _before(initial_cell, c), _before(initial_hidden, h)
    da, dh_from_next, dc_from_next = np.zeros_like(gates), np.zeros_like(initial_hidden), np.copy(dc_final)
    for t in reversed(range(h.shape[1])):
        dh = dy[:, t] + dh_from_next
        da[:, t], dc_from_next = _lstm_step_backward(dh, dc_from_next, gates[:, t], c_before[:, t], c[:, t])
        dh_from_next = da[:, t] @ U.T
    dx, dW, db = dense_backward(da, inputs)
    dU = _sum_of_products(h_before, da)
    return dx, dh_from_next, dc_from_next, dW, dU, db


def _lstm_step_backward(
    dh: State, dc_from_next: State, gates: np.ndarray, c_before: State, c: State
) -> tuple[np.ndarray, State]:
    """The gradients of one step, which is h = o tanh(c) and c = f c_before + i g with the four activations:

        da_i = dc g i (1 - i)      da_f = dc c_before f (1 - f)      da_g = dc i (1 - g^2)
        da_o = dh tanh(c) o (1 - o)

    sigmoid' = sigmoid (1 - sigmoid). Returns da and the gradient of c_before.
    """
    i, f, g, o = np.split(gates, 4, axis=1)
    tanh_c = np.tanh(c)
    dc = dc_from_next + dh * o * (1 - tanh_c**2)
    da_i = dc * g * i * (1 - i)
    da_f = dc * c_before * f * (1 - f)
    da_g = dc * i * (1 - g**2)
    da_o = dh * tanh_c * o * (1 - o)
    da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
    dc_before = f * dc
    return da, dc_before


class GruCache(NamedTuple):
    """The activated gates, because the derivatives of their activations are functions of them.

    u_n is kept too, because it is a factor of da_r and recomputing it costs a matrix product.
    """

    inputs: DenseCache
    initial_state: Float[np.ndarray, "batch hidden"]
    hidden_weight: Float[np.ndarray, "hidden 3*hidden"]
    gates: Float[np.ndarray, "batch time 3*hidden"]  # r, z, n
    u_n: Float[np.ndarray, "batch time hidden"]
    outputs: Float[np.ndarray, "batch time hidden"]


def gru(
    x: Inputs,
    initial_state: State,
    input_weight: Float[np.ndarray, "inputs 3*hidden"],
    hidden_weight: Float[np.ndarray, "hidden 3*hidden"],
    input_bias: Float[np.ndarray, " 3*hidden"],
    hidden_bias: Float[np.ndarray, " 3*hidden"],
) -> tuple[States, GruCache]:
    """The gated recurrent unit: where z is 1 the state is kept, and where z is 0 it is replaced.

        u = h_{t-1} U + b_h      a = x_t W + b_x + (u_r, u_z, r u_n)      in three blocks, for r, z and n
        r = sigmoid(a_r)      z = sigmoid(a_z)      n = tanh(a_n)         h_t = (1 - z) n + z h_{t-1}

    This is PyTorch's unit, and Keras's up to the order of the blocks, which is z, r, n there. The published version of
    Cho et al., and Keras with reset_after=False, apply r before the matrix: (r h_{t-1}) U. Chung et al. (2014)
    exchange z and 1 - z.

    Args:
        x: (batch, time, inputs).
        initial_state: h_0, (batch, hidden).
        input_weight: W.
        hidden_weight: U.
        input_bias: b_x.
        hidden_bias: b_h.

    Returns:
        h_t for all t (batch, time, hidden), of which the last is the final state, and the cache.

    Raises:
        ValueError: if shapes do not fit.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014), 2.3.
    """
    check_recurrent(x, (initial_state,), input_weight, hidden_weight, (input_bias, hidden_bias), gates=3)
    from_x, inputs = dense(x, input_weight, input_bias)
    h = initial_state
    gates = np.zeros_like(from_x)
    all_u_n, outputs = np.zeros((2, *x.shape[:2], h.shape[1]), x.dtype)
    for t in range(x.shape[1]):
        x_r, x_z, x_n = np.split(from_x[:, t], 3, axis=1)
        u_r, u_z, u_n = np.split(h @ hidden_weight + hidden_bias, 3, axis=1)
        (r, _), (z, _) = sigmoid(x_r + u_r), sigmoid(x_z + u_z)
        n = np.tanh(x_n + r * u_n)
        h = (1 - z) * n + z * h
        gates[:, t], all_u_n[:, t], outputs[:, t] = np.concatenate([r, z, n], axis=1), u_n, h
    return outputs, GruCache(inputs, initial_state, hidden_weight, gates, all_u_n, outputs)


def gru_backward(output_gradient: States, cache: GruCache) -> Gradients:
    """h_t affects the output of its step, and the next state in two ways, directly by z h_t and through u:

        dh_t = dy_t + z_{t+1} dh_{t+1} + du_{t+1} U^T

    `_gru_step_backward` computes da_t and du_t. dW and db_x are those of `rnn_backward`; dU = sum of h_{t-1}^T du_t and
    db_h = sum of du_t. Returns the gradients of x, the initial state (z_1 dh_1 + du_1 U^T), both weights and both
    biases.
    """
    inputs, initial_state, U, gates, u_n, h = cache
    h_before = _before(initial_state, h)
    da, du, dh_from_next = np.zeros_like(gates), np.zeros_like(gates), np.zeros_like(initial_state)
    for t in reversed(range(h.shape[1])):
        dh = output_gradient[:, t] + dh_from_next
        da[:, t], du[:, t], dh_direct = _gru_step_backward(dh, gates[:, t], u_n[:, t], h_before[:, t])
        dh_from_next = dh_direct + du[:, t] @ U.T
    dx, dW, db_x = dense_backward(da, inputs)
    dU = _sum_of_products(h_before, du)
    db_h = np.sum(du, axis=(0, 1))
    return dx, dh_from_next, dW, dU, db_x, db_h


def _gru_step_backward(
    dh: State, gates: np.ndarray, u_n: State, h_before: State
) -> tuple[np.ndarray, np.ndarray, State]:
    """The gradients of one step, h = (1 - z) n + z h_before, whose pre-activations contain u_r, u_z and r u_n:

        dn = dh (1 - z)            da_n = dn (1 - n^2)
        dz = dh (h_before - n)     da_z = dz z (1 - z)
        dr = da_n u_n              da_r = dr r (1 - r)        du = (da_r, da_z, da_n r)

    tanh' = 1 - tanh^2 and sigmoid' = sigmoid (1 - sigmoid). Returns da, du and dh z, the direct gradient of h_before.
    """
    r, z, n = np.split(gates, 3, axis=1)
    dn = dh * (1 - z)
    da_n = dn * (1 - n**2)
    dz = dh * (h_before - n)
    da_z = dz * z * (1 - z)
    dr = da_n * u_n
    da_r = dr * r * (1 - r)
    dh_direct = dh * z
    da = np.concatenate([da_r, da_z, da_n], axis=1)
    du = np.concatenate([da_r, da_z, da_n * r], axis=1)
    return da, du, dh_direct


def _before(initial: State, states: States) -> States:
    """The state before each step."""
    return np.concatenate([initial[:, None], states], axis=1)[:, :-1]


def _sum_of_products(before: States, da: np.ndarray) -> np.ndarray:
    """dU = sum over batch and time of h_{t-1}^T da_t."""
    return np.einsum("bti,btj->ij", before, da, optimize=True)


RECURRENT: Rules = {
    "rnn": (rnn, rnn_backward),
    "lstm": (lstm, lstm_backward),
    "gru": (gru, gru_backward),
}
