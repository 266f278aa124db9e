"""Networks from descriptions: whole networks of every kind of layer are verified, and a fault is named by its layer."""

import functools
import json
from typing import Any

import jax
import numpy as np
import pytest

import autodiff.network
import manual.network
from compare import Verdict, check_gradients
from compare.models import listed, named
from manual import convolution
from manual._description import layers_of
from manual.network import KINDS

SIDES = [manual.network, autodiff.network]

MLP = [
    {"kind": "dense", "features": 5},
    {"kind": "batch_norm"},
    {"kind": "tanh"},
    {"kind": "dropout", "rate": 0.2},
    {"kind": "dense", "features": 4},
    {"kind": "gelu", "approximate": True},
    {"kind": "dense", "features": 3},
]
CONV = [
    {"kind": "conv2d", "features": 4, "kernel": 3, "padding": 1},
    {"kind": "batch_norm"},
    {"kind": "relu"},
    {"kind": "max_pool2d", "window": 2},
    {"kind": "dropout", "rate": 0.3},
    {"kind": "conv2d", "features": 3, "kernel": [2, 3], "stride": [1, 2], "padding": 1, "bias": False},
    {"kind": "flatten"},
    {"kind": "layer_norm"},
    {"kind": "dense", "features": 3},
]
WORDS = [
    {"kind": "embedding", "vocabulary": 7, "features": 3},
    {"kind": "lstm", "features": 4},
    {"kind": "last"},
    {"kind": "dense", "features": 3},
]
TIMES = [{"kind": "gru", "features": 4}, {"kind": "dense", "features": 3}]
SIGNAL = [
    {"kind": "conv1d", "features": 6, "kernel": 3, "groups": 2},
    {"kind": "group_norm", "groups": 2},
    {"kind": "silu"},
    {"kind": "global_average_pool"},
    {"kind": "dense", "features": 3},
]
IMAGE = [
    {"kind": "conv_transpose2d", "features": 6, "kernel": 2, "stride": 2, "groups": 2},
    {"kind": "leaky_relu", "negative_slope": 0.2},
    {"kind": "average_pool2d", "window": [3, 2]},
    {"kind": "layer_norm"},
    {"kind": "elu", "alpha": 0.5},
    {"kind": "flatten"},
    {"kind": "rms_norm", "epsilon": 0.001},
    {"kind": "selu"},
    {"kind": "dense", "features": 3},
    {"kind": "softmax"},
]
RECURRENCE = [
    {"kind": "rnn", "features": 4, "activation": "tanh"},
    {"kind": "softplus"},
    {"kind": "dense", "features": 3},
    {"kind": "sigmoid"},
    {"kind": "log_softmax"},
    {"kind": "gelu"},
]

# name: (description, shape of an example, loss, targets for a batch of 5)
CLASSES = np.array([2, 0, 1, 1, 2])
TIME_CLASSES = np.array([[0, 2, 1, 0], [2, 2, 0, 1], [1, 0, 0, 2], [1, 2, 2, 0], [0, 1, 1, 1]])
LABELS = (np.arange(60).reshape(5, 4, 3) % 7 < 3).astype(float)
AIMS = np.linspace(-1, 1, 15).reshape(5, 3)
NETWORKS = {
    "mlp": (MLP, (6,), "cross_entropy", CLASSES),
    "conv": (CONV, (6, 8, 2), "cross_entropy", CLASSES),
    "words": (WORDS, (4,), "cross_entropy", CLASSES),
    "times": (TIMES, (4, 3), "cross_entropy", TIME_CLASSES),
    "signal": (SIGNAL, (7, 2), "cross_entropy", CLASSES),
    "image": (IMAGE, (3, 4, 2), "mean_squared_error", AIMS),
    "recurrence": (RECURRENCE, (4, 2), "binary_cross_entropy", LABELS),
}


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


def point(name, dtype: Any = np.float64, training=True):
    """Parameters at random (biases too), and the arguments that follow them."""
    description, shape, _, targets = NETWORKS[name]
    random = np.random.default_rng(3)
    parameters = manual.network.initialize_parameters(description, shape, seed=1, dtype=dtype)
    parameters = [
        {key: (value + 0.2 * random.standard_normal(value.shape)).astype(dtype) for key, value in layer.items()}
        for layer in parameters
    ]
    x = random.standard_normal((5, *shape)).astype(dtype)
    if name == "words":
        x = random.integers(0, 7, (5, *shape))
        x[0, :3] = x[1, 0] = 2  # repeated in a sequence and across them
    masks = manual.network.draw_masks(description, shape, 5, seed=2)
    statistics = {
        i: {"mean": random.standard_normal(len(s["mean"])).astype(dtype), "variance": s["variance"] + dtype(0.5)}
        for i, s in manual.network.initialize_statistics(description, shape, dtype=dtype).items()
    }
    if targets.dtype == float:
        targets = targets.astype(dtype)
    return parameters, x, targets, masks if training else None, None if training else statistics


def judged(name, *, dtype: Any = np.float64, training=True, **options):
    parameters, *arguments = point(name, dtype, training)
    return check_gradients(*sides(name), named(parameters, NETWORKS[name][0]), *arguments, **options)


def marks(description):
    return {f"{i}.{layer['kind']}.input" for i, layer in enumerate(description) if i} | {"logits"}


# ------------------------------------------------------------------------------- whole networks


@pytest.mark.parametrize("name", NETWORKS)
def test_both_sides_agree_in_both_dtypes_at_every_layer(name):
    for dtype in (np.float64, np.float32):
        report = judged(name, dtype=dtype)
        assert report.verdict is Verdict.AGREE, f"{dtype.__name__}\n{report}"
        assert marks(NETWORKS[name][0]) < {row.path for row in report.rows}
        assert {row.dtype for row in report.rows} == {dtype.__name__}


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
    "lstm": ("words", functools.partial(lstm_by_steps, through_forget=0), "1.lstm.bias"),
}


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


# ----------------------------------------------------------------------------- starting values


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_means_the_same_bits_on_both_sides(name):
    description, shape, *_ = NETWORKS[name]
    for dtype in (np.float64, np.float32):
        by_hand, by_jax = (side.initialize_parameters(description, shape, seed=4, dtype=dtype) for side in SIDES)
        assert len(by_hand) == len(description)
        assert jax.tree.structure(by_hand) == jax.tree.structure(by_jax)
        for ours, theirs in zip(jax.tree.leaves(by_hand), jax.tree.leaves(by_jax), strict=True):
            assert ours.dtype == theirs.dtype == dtype
            np.testing.assert_array_equal(ours, theirs)
    other = manual.network.initialize_parameters(description, shape, seed=5)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(by_hand), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("side", SIDES)
def test_the_scale_of_weights_by_what_follows_them(side):
    description = [
        {"kind": "conv2d", "features": 50, "kernel": [3, 2]},
        {"kind": "relu"},
        {"kind": "conv2d", "features": 50, "kernel": 3, "groups": 2},
        {"kind": "layer_norm"},
        {"kind": "relu"},
        {"kind": "flatten"},
        {"kind": "dense", "features": 10},
    ]
    parameters = jax.tree.map(np.asarray, side.initialize_parameters(description, (5, 4, 20)))
    before_relu, grouped, norm, head = (parameters[i] for i in (0, 2, 3, 6))
    assert before_relu["weight"].shape == (3, 2, 20, 50)
    assert grouped["weight"].shape == (3, 3, 25, 50)
    for weight, variance in (
        (before_relu["weight"], 2 / 120),
        (grouped["weight"], 1 / 225),
        (head["weight"], 1 / head["weight"].shape[0]),
    ):
        assert np.var(weight) == pytest.approx(variance, rel=0.15)
        assert np.mean(weight) == pytest.approx(0, abs=0.01)
    assert (norm["weight"] == 1).all()
    assert not any(np.any(layer["bias"]) for layer in (before_relu, grouped, norm, head))


@pytest.mark.parametrize("side", SIDES)
def test_weights_of_all_kinds(side):
    shapes = [
        {key: value.shape for key, value in layer.items()}
        for name in ("words", "times", "recurrence", "image")
        for layer in side.initialize_parameters(*NETWORKS[name][:2])[:2]
    ]
    assert shapes == [
        {"weight": (7, 3)},
        {"input_weight": (3, 16), "hidden_weight": (4, 16), "bias": (16,)},
        {"input_weight": (3, 12), "hidden_weight": (4, 12), "input_bias": (12,), "hidden_bias": (12,)},
        {"weight": (4, 3), "bias": (3,)},
        {"input_weight": (2, 4), "hidden_weight": (4, 4), "bias": (4,)},
        {},
        {"weight": (2, 2, 3, 2), "bias": (6,)},
        {},
    ]


def test_masks_are_the_same_on_both_sides_and_keep_as_many_as_they_should():
    description = [{"kind": "dropout", "rate": 0.2}, {"kind": "flatten"}, {"kind": "dropout", "rate": 0.2}]
    by_hand, by_jax = (side.draw_masks(description, (40, 5), 30, seed=6) for side in SIDES)
    assert list(by_hand) == list(by_jax) == [0, 2]
    assert [by_hand[i].shape for i in by_hand] == [(30, 40, 5), (30, 200)]
    for i, mask in by_hand.items():
        np.testing.assert_array_equal(mask, by_jax[i])
        assert mask.mean() == pytest.approx(0.8, abs=0.02)
    assert (by_hand[0].reshape(30, 200) != by_hand[2]).any()
    other = manual.network.draw_masks(description, (40, 5), 30, seed=7)
    assert (other[0] != by_hand[0]).any()


# ------------------------------------------------------------------------------------ descriptions


def test_a_description_in_words():
    assert manual.network.describe(CONV, (6, 8, 2)) == [
        "0  conv2d      features=4, kernel=3, padding=1                                  (6, 8, 4)  76",
        "1  batch_norm                                                                   (6, 8, 4)  8",
        "2  relu                                                                         (6, 8, 4)  0",
        "3  max_pool2d  window=2                                                         (3, 4, 4)  0",
        "4  dropout     rate=0.3                                                         (3, 4, 4)  0",
        "5  conv2d      features=3, kernel=[2, 3], stride=[1, 2], padding=1, bias=False  (4, 2, 3)  72",
        "6  flatten                                                                      (24,)      0",
        "7  layer_norm                                                                   (24,)      48",
        "8  dense       features=3                                                       (3,)       75",
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_both_sides_describe_and_shape_alike(name):
    description, shape, *_ = NETWORKS[name]
    lines = manual.network.describe(description, shape)
    assert lines == autodiff.network.describe(description, shape)
    parameters, x, *_ = point(name)
    value, _ = manual.network.apply(parameters, x, description=description)
    assert f"  {value.shape[1:]}  " in lines[-1]
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == sum(int(line.split()[-1]) for line in lines)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_description_survives_json_and_use(name):
    description, shape, *_ = NETWORKS[name]
    stored = json.loads(json.dumps(description))
    for side in SIDES:
        assert side.describe(stored, shape) == side.describe(description, shape)
    parameters, x, *_ = point(name)
    value, _ = manual.network.apply(parameters, x, description=description)
    np.testing.assert_array_equal(manual.network.apply(parameters, x, description=stored)[0], value)
    assert stored == description


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("side", SIDES)
def test_a_small_network_worked_out_by_hand(side):
    """relu(x W0 + b0) W2 with W0 = [[1, -1], [2, 0]], b0 = (0, 1), W2 = (3, 1)."""
    description = [{"kind": "dense", "features": 2}, {"kind": "relu"}, {"kind": "dense", "features": 1, "bias": False}]
    first = {"weight": np.array([[1.0, -1.0], [2.0, 0.0]]), "bias": np.array([0.0, 1.0])}
    parameters = [first, {}, {"weight": np.array([[3.0], [1.0]])}]
    x, targets = np.array([[1.0, 1.0], [-2.0, 0.0]]), np.array([[8.0], [3.0]])
    # hidden: (3, 0) and (-2, 3), of which relu keeps (3, 0) and (0, 3): outputs 9 and 3, errors 1 and 0.
    loss, gradients = side.loss_and_gradients(
        parameters, x, targets, description=description, loss="mean_squared_error"
    )
    assert float(loss) == 0.5
    assert float(side.compute_loss(parameters, x, targets, description=description, loss="mean_squared_error")) == 0.5
    # dy = 2 error / 2 = (1, 0); it reaches the first hidden unit of the first example, by 3.
    np.testing.assert_array_equal(gradients[2]["weight"], [[3.0], [0.0]])
    np.testing.assert_array_equal(gradients[0]["weight"], [[3.0, 0.0], [3.0, 0.0]])
    np.testing.assert_array_equal(gradients[0]["bias"], [3.0, 0.0])
    assert gradients[1] == {}
    assert list(gradients[2]) == ["weight"]


@pytest.mark.parametrize("side", SIDES)
def test_both_sides_fill_intermediates(side):
    parameters, x, targets, masks, _ = point("mlp")
    found = {}
    arguments = {"description": MLP, "masks": masks}
    loss, gradients = side.loss_and_gradients(parameters, x, targets, intermediates=found, **arguments)
    assert found.keys() == marks(MLP)
    found, gradients = jax.tree.map(np.asarray, (found, gradients))
    probabilities = np.exp(manual.network.apply(parameters, x, **arguments)[0])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["logits"], (probabilities - np.eye(3)[targets]) / 5, atol=1e-14)
    # A bias is added to every row of the layer's output: its gradient is the sum over them.
    np.testing.assert_allclose(found["1.batch_norm.input"].sum(axis=0), gradients[0]["bias"], atol=1e-14)
    np.testing.assert_allclose(found["2.tanh.input"].sum(axis=0), gradients[1]["bias"], atol=1e-14)
    again = side.loss_and_gradients(parameters, x, targets, **arguments)
    np.testing.assert_allclose(again[0], loss, rtol=1e-14)
    for a, b in zip(jax.tree.leaves(again[1]), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def value_of(side, *args, **options):
    result = side.apply(*args, **options)
    return np.asarray(result[0] if side is manual.network else result)


DROPPING = [{"kind": "dropout", "rate": 0.5}, {"kind": "batch_norm"}]
UNIT = [{}, {"weight": np.ones(2), "bias": np.zeros(2)}]


@pytest.mark.parametrize("side", SIDES)
def test_training_and_evaluation_differ_where_they_should(side):
    x, masks = np.array([[1.0, 5.0], [3.0, 5.0]]), {0: np.array([[True, True], [False, True]])}
    statistics = {1: {"mean": np.array([1.0, 2.0]), "variance": np.array([4.0, 9.0])}}
    np.testing.assert_array_equal(value_of(side, [{}], x, description=DROPPING[:1]), x)
    np.testing.assert_array_equal(value_of(side, [{}], x, description=DROPPING[:1], masks=masks), [[2, 10], [0, 10]])
    evaluated = value_of(side, UNIT, x, description=DROPPING, statistics=statistics)
    np.testing.assert_allclose(evaluated, [[0, 1], [1, 1]], atol=1e-5)
    trained = value_of(side, UNIT, x, description=DROPPING, masks=masks)  # of 2, 0 and of 10, 10
    np.testing.assert_allclose(trained, [[1, 0], [-1, 0]], atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_statistics_after_a_batch(side):
    start = side.initialize_statistics(DROPPING, (2,), dtype=np.float32)
    assert {i: {name: (v.tolist(), v.dtype.name) for name, v in s.items()} for i, s in start.items()} == {
        1: {"mean": ([0, 0], "float32"), "variance": ([1, 1], "float32")}
    }
    x, masks = np.array([[1.0, 5.0], [3.0, 5.0]]), {0: np.array([[True, True], [False, True]])}
    start = {1: {"mean": np.array([4.0, 0.0]), "variance": np.array([1.0, 1.0])}}
    plain = side.update_statistics(UNIT, x, start, description=DROPPING)
    np.testing.assert_allclose(plain[1]["mean"], [0.9 * 4 + 0.1 * 2, 0.1 * 5])
    np.testing.assert_allclose(plain[1]["variance"], [0.9 + 0.1 * 2, 0.9])
    masked = side.update_statistics(UNIT, x, start, description=DROPPING, masks=masks, momentum=0.5)
    np.testing.assert_allclose(masked[1]["mean"], [0.5 * 4 + 0.5 * 1, 0.5 * 10])
    np.testing.assert_allclose(masked[1]["variance"], [0.5 + 0.5 * 2, 0.5])
    assert start[1]["mean"].tolist() == [4, 0]


def test_last_is_the_last_time():
    x = np.arange(24.0).reshape(2, 3, 4)
    for side in SIDES:
        np.testing.assert_array_equal(value_of(side, [{}], x, description=[{"kind": "last"}]), x[:, 2])


@pytest.mark.parametrize("side", SIDES)
def test_one_example(side):
    parameters, x, targets, _, statistics = point("mlp", training=False)
    arguments = {"description": MLP, "statistics": statistics}
    among_others, _ = manual.network.apply(parameters, x, **arguments)
    alone = among_others[1]
    loss, gradients = side.loss_and_gradients(parameters, x[1:2], targets[1:2], **arguments)
    assert float(loss) == pytest.approx(np.log(np.exp(alone).sum()) - alone[targets[1]])
    assert jax.tree.map(np.shape, gradients) == jax.tree.map(np.shape, parameters)


# --------------------------------------------------------------------------------------- conduct


@pytest.mark.parametrize("side", SIDES)
def test_work_keeps_its_dtype_and_inputs_their_values(side):
    parameters, x, targets, masks, _ = point("mlp", np.float32)
    frozen = jax.tree.map(np.copy, (parameters, x, targets, masks))
    for leaf in jax.tree.leaves((parameters, x, targets, masks)):
        leaf.flags.writeable = False
    x = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    loss, gradients = side.loss_and_gradients(parameters, x, targets, description=MLP, masks=masks)
    statistics = side.initialize_statistics(MLP, (6,), dtype=np.float32)
    updated = side.update_statistics(parameters, x, statistics, description=MLP, momentum=0.5)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, gradients, updated))} == {np.dtype(np.float32)}
    jax.tree.map(np.testing.assert_array_equal, (parameters, x, targets, masks), frozen)


def test_the_value_is_never_the_input_itself():
    x = np.ones((2, 3))
    value, _ = manual.network.apply([{}], x, description=[{"kind": "dropout", "rate": 0.5}])
    assert not np.shares_memory(value, x)


def test_jax_compiles_once_for_a_description():
    """Two equal descriptions, of which one came as JSON and in another order, are one program."""
    parameters, x, targets, _, _ = point("mlp")
    stored = [dict(reversed(layer.items())) for layer in json.loads(json.dumps(MLP))]
    compiled: Any = autodiff.network._value_and_grad
    autodiff.network.loss_and_gradients(parameters, x, targets, description=MLP)
    before = compiled._cache_size()
    autodiff.network.loss_and_gradients(parameters, x, targets, description=stored)
    assert compiled._cache_size() == before


# ---------------------------------------------------------------------------------------- errors

DENSE = {"kind": "dense", "features": 3}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("description", "text"),
    [
        ([], r"a description is a list of at least one layer, as in \[{'kind': 'dense', .*\], got \[\]"),
        ([DENSE, {"features": 3}], "layer 1 must be a dict with a kind, such as {'kind': .*, got {'features': 3}"),
        ([{"kind": "densse"}], "layer 0: no kind of layer is called 'densse'; there are dense, embedding, conv1d"),
        ([{"kind": "dense"}], r"layer 0 \(dense\) needs the option 'features'; it knows features, bias"),
        ([DENSE | {"size": 3}], r"layer 0 \(dense\) has no option 'size'; it knows features, bias"),
        ([DENSE, {"kind": "relu", "slope": 1}], r"layer 1 \(relu\) has no option 'slope'; it knows none"),
        ([DENSE | {"features": 0}], r"layer 0 \(dense\): features must be at least 1, got 0"),
        ([DENSE | {"features": "3"}], r"layer 0 \(dense\): features must be at least 1, got '3'"),
        ([DENSE | {"bias": 1}], r"layer 0 \(dense\): bias must be true or false, got 1"),
        (
            [DENSE | {"features": np.int64(3)}],
            r"layer 0 \(dense\): features must be of a JSON type, got int64; int\(\)",
        ),
        ([{"kind": "conv1d", "features": 2, "kernel": [3, 3]}], r"layer 0 \(conv1d\): kernel must be one number, or"),
        ([{"kind": "conv2d", **DENSE, "kernel": 3}], None),
    ],
)
def test_descriptions_that_make_no_sense(side, description, text):
    if text is None:
        description[0]["kind"] = "conv2d"
        text = (
            r"layer 0 \(conv2d\) needs input with the axes \(batch, height, width, channels\), got \(batch, 6, 2\). Re"
        )
    with pytest.raises(ValueError, match=text):
        side.describe(description, (6, 2))


@pytest.mark.parametrize("side", SIDES)
def test_layers_that_do_not_fit_their_input(side):
    flat_first = [{"kind": "flatten"}, {"kind": "max_pool2d", "window": 2}]
    with pytest.raises(
        ValueError, match=r"layer 1 \(max_pool2d\) needs input with the axes .*, got \(batch, 12\)\. Put a"
    ):
        side.initialize_parameters(flat_first, (3, 4))
    with pytest.raises(ValueError, match=r"layer 1 \(embedding\) needs integer input, got float"):
        side.initialize_parameters([DENSE, WORDS[0]], (4,))
    description = [DENSE, {"kind": "relu"}]
    parameters = [{"weight": np.ones((2, 3)), "bias": np.ones(3)}, {}]
    for bad, text in (
        (
            np.ones(2),
            r"layer 0 \(dense\) needs input with the axes \(batch, ..., features\), got \(batch\)\. Reshape x",
        ),
        (np.ones((4, 2), np.int64), r"layer 0 \(dense\) needs floating input, got int(32|64)\. Cast x\."),
        (np.ones((4, 2), np.float32), r"layer 0 \(dense\) has input and parameters of float32 and float64: cast one"),
        (
            np.ones((4, 5)),
            r"layer 0 \(dense\) needs the parameters bias \(3,\), weight \(5, 3\); got bias \(3,\), weight \(2, 3\)\.",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            side.apply(parameters, bad, description=description)
    with pytest.raises(ValueError, match="the description has 2 layers and parameters 1 entries; there must be one"):
        side.apply(parameters[:1], np.ones((4, 2)), description=description)
    with pytest.raises(ValueError, match=r"layer 1 \(relu\) needs the parameters none; got weight \(2,\)\."):
        side.apply([parameters[0], {"weight": np.ones(2)}], np.ones((4, 2)), description=description)


@pytest.mark.parametrize("side", SIDES)
def test_masks_and_statistics_for_layers_that_take_none(side):
    x = np.ones((2, 2))
    for options, text in (
        (
            {"masks": {1: np.ones((2, 2))}},
            r"masks are for dropout layers, which are \[0\] here; got one for layer 1 \(b",
        ),
        (
            {"masks": {-2: np.ones((2, 2))}},
            r"masks are for dropout layers, which are \[0\] here; got one for layer -2\.",
        ),
        (
            {"statistics": {0: {}}},
            r"statistics are for batch_norm layers, which are \[1\] here; got one for layer 0 \(dr",
        ),
        (
            {"statistics": {1: {"mean": np.ones(2)}}},
            r"statistics of layer 1 \(batch_norm\) must be a mean and a variance",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            side.apply(UNIT, x, description=DROPPING, **options)
    with pytest.raises(ValueError, match="masks are for dropout layers, which are none here; got one for layer 0"):
        side.apply([{}], x, description=[{"kind": "relu"}], masks={0: x})
    with pytest.raises(ValueError, match=r"statistics are for batch_norm layers, which are \[1\] here"):
        side.update_statistics(UNIT, x, {0: {"mean": x, "variance": x}}, description=DROPPING)


@pytest.mark.parametrize("side", SIDES)
def test_an_unknown_loss(side):
    with pytest.raises(
        ValueError, match="no loss is called 'cross-entropy'; there are binary_cross_entropy, cross_ent"
    ):
        side.loss_and_gradients(
            [{}], np.ones((2, 2)), CLASSES[:2], description=[{"kind": "relu"}], loss="cross-entropy"
        )


def test_what_is_no_list_is_no_description():
    for wrong in ({"kind": "dense"}, "dense", None):
        with pytest.raises(ValueError, match="a description is a list of at least one layer"):
            layers_of(wrong)
    with pytest.raises(ValueError, match=r"layer 0 must be a dict with a kind, such as .*, got 'dense'"):
        layers_of(["dense"])
    with pytest.raises(ValueError, match=r"layer 0: no kind of layer is called \['dense'\]"):
        layers_of([{"kind": ["dense"]}])
