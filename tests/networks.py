"""Descriptions of networks with every kind of layer, and random parameters and inputs for them."""

from typing import Any

import numpy as np

import manual.network

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

DROPPING = [{"kind": "dropout", "rate": 0.5}, {"kind": "batch_norm"}]
UNIT = [{}, {"weight": np.ones(2), "bias": np.zeros(2)}]


def point(name, dtype: Any = np.float64, training=True):
    """Random parameters (biases too), and the arguments that follow them in a call."""
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


def marks(description):
    return {f"{i}.{layer['kind']}.input" for i, layer in enumerate(description) if i} | {"logits"}
