"""Networks from descriptions: whole networks of every kind of layer are verified, and a fault is named by its layer."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

import autodiff.network
import manual
import manual.fast
import manual.network
from compare import Verdict, check_gradients
from compare.suite.models import listed, named
from manual import convolution
from manual.network import KINDS
from tests.networks import NETWORKS, marks, point


@functools.cache
def sides(name):
    """Both sides of a network, as the judge wants them; the same objects at every call, so that they compile once.

    Their parameters have the names that the command gives them, of which the kind of the layer is a part.
    """
    description, _, loss, _ = NETWORKS[name]

    def by_hand(parameters, x, targets, masks, statistics):
        marks = {}
        beside = {"masks": masks, "statistics": statistics, "intermediates": marks}
        value, gradients = manual.network.loss_and_gradients(
            listed(parameters, description), x, targets, description=description, loss=loss, **beside
        )
        return value, named(gradients, description), marks

    def by_jax(parameters, x, targets, masks, statistics):
        beside = {"masks": masks, "statistics": statistics}
        return autodiff.network.compute_loss(
            listed(parameters, description), x, targets, description=description, loss=loss, **beside
        )

    return by_hand, by_jax


def judged(name, *, dtype: Any = np.float64, training=True, **options):
    parameters, *arguments = point(name, dtype, training)
    return check_gradients(*sides(name), named(parameters, NETWORKS[name][0]), *arguments, **options)


# ------------------------------------------------------------------------------- whole networks


@pytest.mark.sweep
@pytest.mark.parametrize("name", NETWORKS)
def test_both_sides_agree_in_both_dtypes_at_every_layer(name):
    for dtype in (np.float64, np.float32):
        report = judged(name, dtype=dtype)
        assert report.verdict is Verdict.AGREE, f"{dtype.__name__}\n{report}"
        assert marks(NETWORKS[name][0]) < {row.path for row in report.rows}
        assert {row.dtype for row in report.rows} == {dtype.__name__}


@pytest.mark.sweep
@pytest.mark.parametrize("name", NETWORKS)
def test_fast_ops_make_the_same_network(name):
    description, _, loss, _ = NETWORKS[name]
    for training in (True, False):
        parameters, x, targets, masks, statistics = point(name, np.float64, training)
        found = []
        for ops in (manual, manual.fast):
            marks = {}
            beside = {"masks": masks, "statistics": statistics, "intermediates": marks, "ops": ops}
            value, gradients = manual.network.loss_and_gradients(
                parameters, x, targets, description=description, loss=loss, **beside
            )
            found.append((value, gradients, marks))
        for page, fast in zip(*map(jax.tree.leaves, found), strict=True):
            np.testing.assert_allclose(fast, page, rtol=1e-9, atol=1e-12)


def test_both_sides_agree_in_evaluation():
    report = judged("mlp", training=False)
    assert report.verdict is Verdict.AGREE, report


def test_every_kind_is_in_a_verified_network():
    assert {layer["kind"] for description, *_ in NETWORKS.values() for layer in description} == set(KINDS)
    assert list(KINDS) == list(autodiff.network.KINDS)
    assert "swiglu" not in KINDS


# ---------------------------------------------------------------------------------- planted faults


def plant(monkeypatch, kind, backward):
    """Give a kind of layer a backward of its own: `backward(output_gradient, *inputs, **options)`."""
    row = KINDS[kind]

    @functools.wraps(row.forward)  # which keeps the names of its options
    def forward(*inputs, **options):
        value, _ = row.forward(*inputs, **options)
        return value, (inputs, options)

    def from_inputs(output_gradient, cache):
        inputs, options = cache
        return backward(output_gradient, *inputs, **options)

    monkeypatch.setitem(KINDS, kind, row._replace(forward=forward, backward=from_inputs))


def batch_norm_by_steps(dy, x, weight, bias, *, epsilon=1e-5, through_mean=1):
    """Ioffe and Szegedy's section 3."""
    axes = tuple(range(x.ndim - 1))
    n = x.size // x.shape[-1]
    centered = x - x.mean(axis=axes)
    s = np.sqrt((centered**2).mean(axis=axes) + epsilon)
    dx_hat = dy * weight
    dvariance = -0.5 * np.sum(dx_hat * centered, axis=axes) / s**3
    dmean = -np.sum(dx_hat, axis=axes) / s * through_mean
    dx = dx_hat / s + dvariance * 2 * centered / n + dmean / n
    return dx, np.sum(dy * centered / s, axis=axes), np.sum(dy, axis=axes)


def layer_norm_of_constant_deviation(dy, x, weight, bias):
    g, s = dy * weight, np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
    x_hat = (x - x.mean(axis=-1, keepdims=True)) / s
    axes = tuple(range(x.ndim - 1))
    return (g - g.mean(axis=-1, keepdims=True)) / s, np.sum(dy * x_hat, axis=axes), np.sum(dy, axis=axes)


def embedding_overwriting_repeated_ids(dy, weight, ids):
    dweight = np.zeros_like(weight)
    dweight[ids] = dy
    return dweight


def dropout_without_its_mask(dy, x, mask, *, rate):
    return dy / (1 - rate)


def conv2d_without_its_stride(dy, x, weight, bias, **options):
    """As if outputs came from neighbouring places."""
    value, correct = convolution.conv2d(x, weight, bias, **options | {"stride": 1})
    apart = np.zeros_like(value)
    apart[:, : dy.shape[1], : dy.shape[2]] = dy
    return convolution.conv2d_backward(apart, correct)


def lstm_by_steps(dy, x, h_0, c_0, W, U, b, *, through_forget=1):
    """Backpropagation through time, as textbooks have it."""
    steps, h, c = [], h_0, c_0
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ W + h @ U + b, 4, axis=1)
        i, f, g, o = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))
        steps.append((h, c, i, f, g, o))
        c = f * c + i * g
        h = o * np.tanh(c)
    dx, dW, dU, db = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    dh, dc = np.zeros_like(h_0), np.zeros_like(c_0)
    for t, (h, c, i, f, g, o) in reversed([*enumerate(steps)]):
        dh, tanh_c = dh + dy[:, t], np.tanh(f * c + i * g)
        dc = dc + dh * o * (1 - tanh_c**2)
        df = dc * c * f * (1 - f) * through_forget
        da = np.concatenate([dc * g * i * (1 - i), df, dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)], axis=1)
        dx[:, t] = da @ W.T
        dW, dU, db = dW + x[:, t].T @ da, dU + h.T @ da, db + da.sum(axis=0)
        dh, dc = da @ U.T, dc * f
    return dx, dh, dc, dW, dU, db


# kind: (network, its faulty backward, what is named: its input, or of its wrong parameters the first by name)
FAULTS = {
    "batch_norm": ("conv", functools.partial(batch_norm_by_steps, through_mean=0), "1.batch_norm.input"),
    "layer_norm": ("conv", layer_norm_of_constant_deviation, "7.layer_norm.input"),
    "embedding": ("words", embedding_overwriting_repeated_ids, "0.embedding.weight"),
    "dropout": ("conv", dropout_without_its_mask, "4.dropout.input"),
    "conv2d": ("conv", conv2d_without_its_stride, "5.conv2d.weight"),  # the other one has stride 1
    "lstm": ("words", functools.partial(lstm_by_steps, through_forget=0), "1.lstm.hidden_weight"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named_by_its_op(monkeypatch, kind):
    name, backward, first_wrong = FAULTS[kind]
    plant(monkeypatch, kind, backward)
    report = judged(name, references=kind == "embedding")
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == first_wrong
    assert first_wrong.split(".")[1] == kind
    if kind == "embedding":
        assert report.wrong_side == "manual"
        assert [(diagnosis.path, diagnosis.kind) for diagnosis in report.diagnoses] == [(first_wrong, "lost-repeats")]


@pytest.mark.parametrize(
    ("name", "kind", "backward"), [("conv", "batch_norm", batch_norm_by_steps), ("words", "lstm", lstm_by_steps)]
)
def test_another_correct_backward_passes(monkeypatch, name, kind, backward):
    plant(monkeypatch, kind, backward)
    assert judged(name, references=False).verdict is Verdict.AGREE
