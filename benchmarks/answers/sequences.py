"""Answers to the exercises on attention, causal attention, a recurrent network and a step of an LSTM."""

import numpy as np

from benchmarks.answers.entry import Answer, into

ANSWERS: list[Answer] = []
wrong, right = into(ANSWERS)


def turned(array):
    return array.transpose(0, 2, 1)


def through_softmax(dp, p):
    return p * (dp - (dp * p).sum(axis=2, keepdims=True))


def attended(dy, cache, *, through=through_softmax, scale=None):
    """The gradients, line by line, with a given derivative of the softmax and a given scale."""
    q, k, v, p = cache
    scale = 1 / np.sqrt(q.shape[2]) if scale is None else scale
    dp = dy @ turned(v)
    ds = through(dp, p)
    return ds @ k * scale, turned(ds) @ q * scale, turned(p) @ dy, {"p": dp, "s": ds}


# ------------------------------------------------------------------------------------------ attention


@wrong("attention", "eriklindernoren/ML-From-Scratch #71", "s", "other-quantity", "there softmax")
def softmax_as_if_it_were_a_sigmoid(dy, cache):
    return attended(dy, cache, through=lambda dp, p: dp * p * (1 - p))


@wrong("attention", "pjreddie/darknet, pull request 96", "s", "other-quantity", "there softmax")
def softmax_is_passed_over(dy, cache):
    return attended(dy, cache, through=lambda dp, p: dp)


@wrong("attention", "mlc-ai/mlc-llm, pull request 3426", "q k", "common-mistake factor", "there in the forward")
def without_the_scale(dy, cache):
    return attended(dy, cache, scale=1.0)


@wrong("attention", "uTensor/uTensor, pull request 171", "s", "common-mistake", "there a forward's sum")
def the_sum_goes_over_all(dy, cache):
    return attended(dy, cache, through=lambda dp, p: p * (dp - (dp * p).sum()))


@right("attention")
def by_einsum_and_whole_jacobians(dy, cache):
    q, k, v, p = cache
    dp = np.einsum("bqv,bkv->bqk", dy, v)
    jacobian = np.einsum("bqk,kl->bqkl", p, np.eye(k.shape[1])) - np.einsum("bqk,bql->bqkl", p, p)
    ds = np.einsum("bqkl,bql->bqk", jacobian, dp) / np.sqrt(q.shape[2])
    return np.einsum("bqk,bkd->bqd", ds, k), np.einsum("bqk,bqd->bkd", ds, q), np.einsum("bqk,bqv->bkv", p, dy)


# ----------------------------------------------------------------------------------- causal attention


@wrong("causal_attention", "keras-team/keras #23038", "v s", "missing-mask misplaced", "there in the forward")
def the_mask_is_dropped(dy, cache):
    q, k, v, _ = cache
    s = q @ turned(k) / np.sqrt(q.shape[2])
    e = np.exp(s - s.max(axis=2, keepdims=True))
    return attended(dy, (q, k, v, e / e.sum(axis=2, keepdims=True)))


@wrong("causal_attention", "pjreddie/darknet, pull request 96", "s", "other-quantity", "there softmax")
def no_derivative_of_softmax(dy, cache):
    return attended(dy, cache, through=lambda dp, p: dp)


@wrong("causal_attention", "eriklindernoren/ML-From-Scratch #71", "s", "other-quantity", "there softmax")
def a_sigmoid_for_each_score(dy, cache):
    return attended(dy, cache, through=lambda dp, p: dp * p * (1 - p))


@wrong("causal_attention", "mlc-ai/mlc-llm, pull request 3426", "q k", "common-mistake factor", "there in the forward")
def the_scale_is_missing(dy, cache):
    return attended(dy, cache, scale=1.0)


@right("causal_attention")
def query_by_query(dy, cache):
    q, k, v, p = cache
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for b, i in np.ndindex(*q.shape[:2]):
        seen = slice(None, i + 1)
        dp = v[b, seen] @ dy[b, i]
        ds = p[b, i, seen] * (dp - p[b, i, seen] @ dp) / np.sqrt(q.shape[2])
        dq[b, i] = ds @ k[b, seen]
        dk[b, seen] += np.outer(ds, q[b, i])
        dv[b, seen] += np.outer(p[b, i, seen], dy[b, i])
    return dq, dk, dv


# ---------------------------------------------------------------------------------- recurrent network


def back_in_time(dy, cache, *, from_next=1.0, from_output=1.0):
    """The gradients, with factors on the gradient that flows back in time and on that of the outputs."""
    x, h_start, W, U, h = cache
    before = np.concatenate([h_start[:, None], h[:, :-1]], axis=1)
    da, dh_next = np.zeros_like(h), np.zeros_like(h_start)
    for t in reversed(range(x.shape[1])):
        da[:, t] = (from_output * dy[:, t] + from_next * dh_next) * (1 - h[:, t] ** 2)
        dh_next = da[:, t] @ U.T
    return da @ W.T, dh_next, np.einsum("bti,bth->ih", x, da), np.einsum("bti,bth->ih", before, da), da.sum(axis=(0, 1))


@wrong("rnn", "qixianbiao/RNN #2", "x U W b h_start", "missing-path missing-term")
def nothing_flows_back_in_time(dy, cache):
    return back_in_time(dy, cache, from_next=0.0)


@wrong("rnn", "datascience.stackexchange.com, question 30850", "U", "factor")
def averaged_over_time(dy, cache):
    dx, dh, dW, dU, db = back_in_time(dy, cache)
    return dx, dh, dW, dU / dy.shape[1], db


@wrong("rnn", "unslothai/unsloth #4533", "h_start", "zeros missing-leaf", "there the gain of an RMS norm")
def the_first_state_gets_nothing(dy, cache):
    dx, dh, dW, dU, db = back_in_time(dy, cache)
    return dx, np.zeros_like(dh), dW, dU, db


@wrong("rnn", "kvfrans/notes #5", "b", "factor", "there a dense layer")
def the_bias_averaged_over_the_batch(dy, cache):
    dx, dh, dW, dU, db = back_in_time(dy, cache)
    return dx, dh, dW, dU, db / len(dy)


@right("rnn")
def example_by_example_with_outer_products(dy, cache):
    x, h_start, W, U, h = cache
    dx, dh_start, dW, dU, db = np.zeros_like(x), np.zeros_like(h_start), np.zeros_like(W), np.zeros_like(U), 0
    for n in range(len(x)):
        carried = np.zeros(len(U))
        for t in range(x.shape[1] - 1, -1, -1):
            da = (1 - h[n, t]) * (1 + h[n, t]) * (carried + dy[n, t])
            dx[n, t] = W @ da
            dW += np.outer(x[n, t], da)
            dU += np.outer(h[n, t - 1] if t else h_start[n], da)
            db = db + da
            carried = U @ da
        dh_start[n] = carried
    return dx, dh_start, dW, dU, db


# --------------------------------------------------------------------------------------- step of LSTM


def gates_back(dy, cache, *, slope_of_f=None, of_cell=1.0, slope_of_g=None, slope_of_cell=None):
    x, h, c, W, U, i, f, g, o, c_new = cache
    dh_new, dc_new = dy
    tanh_c = np.tanh(c_new)
    d = of_cell * dc_new + dh_new * o * (1 - tanh_c**2 if slope_of_cell is None else slope_of_cell)
    da_f = d * c * (f * (1 - f) if slope_of_f is None else slope_of_f(f))
    da_g = d * i * (1 - g**2 if slope_of_g is None else slope_of_g)
    slopes = {"a_i": d * g * i * (1 - i), "a_f": da_f, "a_g": da_g, "a_o": dh_new * tanh_c * o * (1 - o)}
    da = np.concatenate(list(slopes.values()), axis=1)
    return da @ W.T, da @ U.T, d * f, x.T @ da, h.T @ da, da.sum(axis=0), {"cell": d, **slopes}


@wrong("lstm_step", "CaptainE/RNN-LSTM-in-numpy #1 and pull request 2", "a_f", "missing-factor wrong-factor")
def the_forget_gate_without_its_derivative(dy, cache):
    return gates_back(dy, cache, slope_of_f=lambda f: f)


@wrong("lstm_step", "deeplearning4j/deeplearning4j #8838; apache/mxnet #4057", "cell", "missing-path missing-term")
def the_gradient_of_the_cell_itself_is_dropped(dy, cache):
    return gates_back(dy, cache, of_cell=0.0)


@wrong("lstm_step", "llSourcell/LSTM_Networks #4", "a_g", "missing-factor wrong-factor")
def the_candidate_without_its_derivative(dy, cache):
    return gates_back(dy, cache, slope_of_g=1.0)


@wrong(
    "lstm_step",
    "llSourcell/LSTM_Networks #4",
    "cell",
    "missing-factor wrong-factor missing-path",
    "there of the gates",
    not_yet=True,
)
def the_cell_without_the_slope_of_its_tanh(dy, cache):
    return gates_back(dy, cache, slope_of_cell=1.0)


@wrong(
    "lstm_step",
    "whu-pzhang/cs231n and fqhank/CS231n-2021spring, lstm_step_backward; right but for that",
    "-",
    "modifies-arguments",
)
def it_adds_to_the_output_gradient_in_place(dy, cache):
    _, _, _, _, _, _, _, _, o, c_new = cache
    dh_new, dc_new = dy
    gradients = gates_back(dy, cache)
    dc_new += dh_new * o * (1 - np.tanh(c_new) ** 2)
    return gradients


@right("lstm_step")
def gate_by_gate(dy, cache):
    x, h, c, W, U, i, f, g, o, c_new = cache
    dh_new, dc_new = dy
    d = dc_new + dh_new * o / np.cosh(c_new) ** 2
    slopes = {"i": d * g * (i - i**2), "f": d * c * (f - f**2), "g": d * i * (1 - g) * (1 + g)}
    slopes["o"] = dh_new * np.tanh(c_new) * (o - o**2)
    dx = sum(slopes[gate] @ block.T for gate, block in zip("ifgo", np.split(W, 4, axis=1), strict=True))
    dh = sum(slopes[gate] @ block.T for gate, block in zip("ifgo", np.split(U, 4, axis=1), strict=True))
    blocks = [slopes[gate] for gate in "ifgo"]
    dW = np.hstack([np.einsum("ki,kj->ij", x, block) for block in blocks])
    dU = np.hstack([np.einsum("ki,kj->ij", h, block) for block in blocks])
    return dx, dh, f * d, dW, dU, np.hstack([block.sum(axis=0) for block in blocks])
