"""The exercises on sequences: attention, causal attention, a recurrent network, one step of an LSTM."""

import numpy as np

from compare.exercise.entry import Exercise, normal
from manual import attention as attentions
from manual import recurrent


def attention(q, k, v):
    s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
    e = np.exp(s - s.max(axis=2, keepdims=True))
    p = e / e.sum(axis=2, keepdims=True)
    return p @ v, (q, k, v, p)


ATTENTION = Exercise(
    title="Attention",
    task="""s = q k^T / sqrt(depth), p = softmax(s) along each row, y = p v, for every example.

    q (examples, queries, depth)    k (examples, keys, depth)    v (examples, keys, width)
    s and p (examples, queries, keys)    y and dy (examples, queries, width)

    Go backwards line by line: dv and dp from y = p v, ds from the softmax, dq and dk from s.
    You may also return the gradients of p and s. Then the judge can tell which line is the first that is wrong.""",
    blank="""
    q, k, v, p = cache
    dv = ...
    dp = ...
    ds = ...
    dq = ...
    dk = ...
    return dq, dk, dv, {"p": dp, "s": ds}""",
    returns=("dq", "dk", "dv"),
    hints=(
        "dp and ds are (examples, queries, keys); x.transpose(0, 2, 1) exchanges the last two axes.",
        "The derivative of the softmax couples the keys of a row. dq and dk contain the factor 1 / sqrt(depth) of s.",
        "dv = p^T dy; dp = dy v^T; ds = p (dp - sum over keys of p dp); dq = ds k / sqrt(depth); dk = ds^T q / "
        "sqrt(depth).",
    ),
    page=attentions.attention_backward,
    inputs=(normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 3)),
    given=attention,
)


def causal_attention(q, k, v):
    s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[2])
    hidden = np.triu(np.ones(s.shape[1:], bool), 1)
    s = np.where(hidden, -np.inf, s)
    e = np.exp(s - s.max(axis=2, keepdims=True))
    p = e / e.sum(axis=2, keepdims=True)
    return p @ v, (q, k, v, p)


CAUSAL_ATTENTION = Exercise(
    title="Causal attention",
    task="""As in attention, but s_ij = -infinity if key j comes after query i, so that p_ij = 0.

    q, k and v (examples, tokens, depth)    s and p (examples, tokens, tokens)
    y and dy (examples, tokens, depth)

    What does the mask do to the gradient of s? Look at the factor p in it.""",
    blank="""
    q, k, v, p = cache
    dv = ...
    dp = ...
    ds = ...
    dq = ...
    dk = ...
    return dq, dk, dv, {"p": dp, "s": ds}""",
    returns=("dq", "dk", "dv"),
    hints=(
        "The shapes are those of attention. All queries see key 0. Only the last query sees the last key.",
        "p is 0 where a key is hidden, and p is a factor of ds. So nothing else has to be masked.",
        "dv = p^T dy; dp = dy v^T; ds = p (dp - sum over keys of p dp); dq = ds k / sqrt(depth); dk = ds^T q / "
        "sqrt(depth).",
    ),
    page=attentions.attention_backward,
    inputs=(normal(2, 4, 3), normal(2, 4, 3, seed=1), normal(2, 4, 3, seed=2)),
    given=causal_attention,
)


def rnn(x, h_start, W, U, b):
    h = np.zeros((*x.shape[:2], len(U)), x.dtype)
    before = h_start
    for t in range(x.shape[1]):
        before = h[:, t] = np.tanh(x[:, t] @ W + before @ U + b)
    return h, (x, h_start, W, U, h)


RNN = Exercise(
    title="A recurrent network, backwards in time",
    task="""h_t = tanh(x_t W + h_{t-1} U + b), for t = 0, 1, ..., with h_{-1} = h_start. The output is all h_t.

    x (examples, time, inputs)    W (inputs, hidden)    U (hidden, hidden)    b (hidden,)
    h_start (examples, hidden)    h and dy (examples, time, hidden)

    h_t is used twice: as an output, and in the next step. Go from the last step to the first.""",
    blank="""
    x, h_start, W, U, h = cache
    dx = ...
    dh_start = ...
    dW = ...
    dU = ...
    db = ...
    return dx, dh_start, dW, dU, db""",
    returns=("dx", "dh_start", "dW", "dU", "db"),
    hints=(
        "Start with zeros in the shapes of x, W, U and b, and loop over time backwards: "
        "for t in reversed(range(x.shape[1])).",
        "dh_t is dy_t plus the gradient that comes from step t + 1 through U. Every step uses the weights: add up "
        "over time.",
        "dh = dy_t + da_{t+1} U^T; da_t = dh (1 - h_t^2); dx_t = da_t W^T; dW += x_t^T da_t; dU += h_{t-1}^T da_t; db "
        "+= sum of da_t; dh_start = da_0 U^T.",
    ),
    page=recurrent.rnn_backward,
    inputs=(normal(2, 3, 3), normal(2, 4), 0.5 * normal(3, 4), 0.5 * normal(4, 4), normal(4)),
    given=rnn,
    output="h",
)


def lstm_step(x, h, c, W, U, b):
    a = x @ W + h @ U + b
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (a_i, a_f, a_o))
    g = np.tanh(a_g)
    c_new = f * c + i * g
    h_new = o * np.tanh(c_new)
    return (h_new, c_new), (x, h, c, W, U, i, f, g, o, c_new)


LSTM_STEP = Exercise(
    title="One step of an LSTM",
    task="""i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four blocks of a = x W + h U + b
    c_new = f c + i g      h_new = o tanh(c_new)      The output is the pair (h_new, c_new).

    x (examples, inputs)    h and c (examples, hidden)    W (inputs, 4 hidden)    U (hidden, 4 hidden)
    b (4 hidden,)    dy is a pair: the gradients of h_new and of c_new

    c_new affects the loss in two ways: as an output, and through h_new.
    You may also return the gradients of the cell and of the four blocks. Then the judge can tell which is wrong
    first.""",
    blank="""
    x, h, c, W, U, i, f, g, o, c_new = cache
    dh_new, dc_new = dy
    dcell = ...
    da_i = ...
    da_f = ...
    da_g = ...
    da_o = ...
    dx = ...
    dh = ...
    dc = ...
    dW = ...
    dU = ...
    db = ...
    return dx, dh, dc, dW, dU, db, {"cell": dcell, "a_i": da_i, "a_f": da_f, "a_g": da_g, "a_o": da_o}""",
    returns=("dx", "dh", "dc", "dW", "dU", "db"),
    hints=(
        "da = np.concatenate([da_i, da_f, da_g, da_o], axis=1) is (examples, 4 hidden), in the order of the blocks of "
        "W. The rest is the backward pass of a dense layer.",
        "The gradient of the cell is dc_new plus the gradient that comes through h_new. The derivative of a gate is "
        "s (1 - s) for a sigmoid and 1 - g^2 for tanh.",
        "dcell = dc_new + dh_new o (1 - tanh(c_new)^2); da_i = dcell g i (1 - i); da_f = dcell c f (1 - f); da_g = "
        "dcell i (1 - g^2); da_o = dh_new tanh(c_new) o (1 - o); dc = dcell f; dx = da W^T; dh = da U^T; dW = x^T da; "
        "dU = h^T da; db = sum of da.",
    ),
    page=recurrent._lstm_step_backward,
    inputs=(normal(2, 3), normal(2, 2), normal(2, 2, seed=1), normal(3, 8), normal(2, 8), normal(8)),
    given=lstm_step,
    output="the pair (h_new, c_new)",
)

EXERCISES = {
    "attention": ATTENTION,
    "causal_attention": CAUSAL_ATTENTION,
    "rnn": RNN,
    "lstm_step": LSTM_STEP,
}
