"""What recurrent layers refuse, and the well-known faults of their backward passes."""

import inspect
import re

import numpy as np
import pytest

import autodiff.recurrent
import manual.recurrent
from compare import Verdict, check_vjp
from manual.recurrent import RECURRENT
from tests.manual.recurrent_inputs import drawn

SIDES = (manual.recurrent, autodiff.recurrent)

# ------------------------------------------------------------------------------------- bad input

BAD = [
    ("rnn", {0: (2, 3)}, {}, "x must be (batch, time, inputs) and a state (batch, hidden); got (2, 3) and (2, 2)"),
    ("rnn", {1: (2,)}, {}, "A single sequence is x[None]"),
    ("rnn", {}, {"activation": "sigmoid"}, "activation must be 'tanh' or 'relu', got 'sigmoid'"),
    ("lstm", {3: (8, 3)}, {}, "for x (2, 3, 3) and 4 x 2 hidden units, the shapes of states, input weight"),
    ("lstm", {2: (1, 2)}, {}, "must be [(2, 2), (2, 2), (3, 8), (2, 8), (8,)]; got [(2, 2), (1, 2), (3, 8)"),
    ("gru", {3: (2, 8)}, {}, "transpose PyTorch's"),
    ("gru", {5: (2,)}, {}, "must be [(2, 2), (3, 6), (2, 6), (6,), (6,)]; got [(2, 2), (3, 6), (2, 6), (6,), (2,)]"),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("name", "shapes", "options", "message"), BAD)
def test_bad_input_is_refused_alike(side, name, shapes, options, message):
    """As it is for a user, without the shape checks that only these tests install."""
    inputs = drawn(name)[:-2]
    for place, shape in shapes.items():
        inputs[place] = np.zeros(shape)
    with pytest.raises(ValueError, match=re.escape(message)):
        inspect.unwrap(getattr(side, name))(*inputs, **options)


# -------------------------------------------------------------------------------- planted faults


def x_of(cache):
    return cache.inputs.x.reshape(*cache.outputs.shape[:2], -1)


def textbook(name, fault=None):
    """A backward pass written step by step, gate by gate, with one of the well-known faults, or none."""
    forward = RECURRENT[name][0]

    def rnn(dy, c):
        da, dh = np.zeros_like(c.outputs), 0
        for t in reversed(range(dy.shape[1])):
            da[:, t] = (dy[:, t] + dh) * (1 - c.outputs[:, t] ** 2)
            dh = da[:, t] @ c.hidden_weight.T
        before = np.concatenate([c.initial_state[:, None], c.outputs[:, :-1]], axis=1)
        if fault == "initial state misses a step":
            dh = da[:, 0]
        bias = da[:, -1].sum(axis=0) if fault == "bias of the last step only" else da.sum(axis=(0, 1))
        return (
            da @ c.inputs.weight.T,
            dh,
            np.einsum("bti,btk->ik", x_of(c), da),
            np.einsum("bth,btk->hk", before, da),
            bias,
        )

    def lstm(output_gradient, c):
        dy, dc = output_gradient
        i, f, g, o = np.split(c.gates, 4, axis=-1)
        da, dh = np.zeros_like(c.gates), 0
        before = np.concatenate([c.initial_cell[:, None], c.cells[:, :-1]], axis=1)
        for t in reversed(range(dy.shape[1])):
            dh = dy[:, t] + dh
            dc = dc + dh * o[:, t] * (1 - np.tanh(c.cells[:, t]) ** 2)
            parts = dc * g[:, t], dc * before[:, t], dc * i[:, t], dh * np.tanh(c.cells[:, t])
            slopes = i * (1 - i), f * (1 - f), 1 - g**2, o * (1 - o)
            da[:, t] = np.concatenate([p * s[:, t] for p, s in zip(parts, slopes, strict=True)], axis=1)
            dh = da[:, t] @ c.hidden_weight.T
            dc = {"cell not faded": dc, "cell not passed on": 0 * dc}.get(fault or "", dc * f[:, t])
        h = np.concatenate([c.initial_hidden[:, None], c.outputs[:, :-1]], axis=1)
        weights = np.einsum("bti,btk->ik", x_of(c), da), np.einsum("bth,btk->hk", h, da)
        return da @ c.inputs.weight.T, dh, dc, *weights, da.sum(axis=(0, 1))

    def gru(dy, c):
        r, z, n = np.split(c.gates, 3, axis=-1)
        before = np.concatenate([c.initial_state[:, None], c.outputs[:, :-1]], axis=1)
        from_x, from_h, dh = np.zeros_like(c.gates), np.zeros_like(c.gates), 0
        for t in reversed(range(dy.shape[1])):
            dh = dy[:, t] + dh
            da_n = dh * (1 - z[:, t]) * (1 - n[:, t] ** 2)
            da_z = dh * (before[:, t] - n[:, t]) * z[:, t] * (1 - z[:, t])
            da_r = da_n * c.u_n[:, t] * r[:, t] * (1 - r[:, t])
            from_x[:, t] = np.concatenate([da_r, da_z, da_n], axis=1)
            da_recalled = da_n if fault == "candidate without r" else da_n * r[:, t]
            from_h[:, t] = np.concatenate([da_r, da_z, da_recalled], axis=1)
            dh = dh * z[:, t] + from_h[:, t] @ c.hidden_weight.T
        weights = np.einsum("bti,btk->ik", x_of(c), from_x), np.einsum("bth,btk->hk", before, from_h)
        return from_x @ c.inputs.weight.T, dh, *weights, from_x.sum(axis=(0, 1)), from_h.sum(axis=(0, 1))

    return forward, {"rnn": rnn, "lstm": lstm, "gru": gru}[name]


LSTM = ["x", "initial_hidden", "initial_cell", "input_weight", "hidden_weight", "bias"]
GRU = ["x", "initial_state", "input_weight", "hidden_weight", "input_bias", "hidden_bias"]


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("name", "fault", "wrong"),
    [
        ("rnn", None, []),
        ("rnn", "initial state misses a step", ["initial_state"]),
        ("rnn", "bias of the last step only", ["bias"]),
        ("lstm", None, []),
        ("lstm", "cell not faded", LSTM),
        ("lstm", "cell not passed on", LSTM),
        ("gru", None, []),
        ("gru", "candidate without r", GRU),
    ],
)
def test_faults(name, fault, wrong):
    *inputs, _, _ = drawn(name)
    report = check_vjp(*textbook(name, fault), getattr(autodiff.recurrent, name), *inputs, probes=False)
    assert report.verdict is (Verdict.DISAGREE if fault else Verdict.AGREE), str(report)
    assert sorted(row.path for row in report.rows if row.verdict is Verdict.DISAGREE) == sorted(wrong)
    assert report.wrong_side == ("manual" if fault else None)
