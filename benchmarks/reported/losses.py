"""Reported bugs of losses, and of kernels of Gaussian processes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reported.elementwise import normal
from benchmarks.reported.entry import ReportedFault, into

FAULTS: list[ReportedFault] = []
fault = into(FAULTS)
LABELS = np.array([0, 3, 1, 1, 2, 0])
PAD = 1  # the label of ignored rows


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(z: Any) -> Any:
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def one_hot(labels: Any) -> np.ndarray:
    return np.eye(4)[labels]


@fault(
    "softmax's gradient twice",
    "markroxor/fromscratchtoml#65",
    "gradients",
    "z",
    "The gradient of softmax with cross-entropy is off by a factor of two.",
    "factor",
)
def softmax_twice(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, y: Any) -> Any:
        return -np.sum(log_softmax(p["z"]) * one_hot(y)), {"z": (1 + broken) * (softmax(p["z"]) - one_hot(y))}

    return hand, lambda p, y: -jnp.sum(jax.nn.log_softmax(p["z"]) * jnp.eye(4)[y]), {"z": normal(6, 4)}, LABELS


@fault(
    "KL divergence's gradient twice",
    "torch/cunn#318",
    "gradients",
    "log_q",
    "The gradient of the averaged divergence is scaled by 2/size.",
    "factor",
)
def kl_twice(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, t: Any) -> Any:
        return np.mean(t * (np.log(t) - p["log_q"])), {"log_q": -(2.0 if broken else 1.0) * t / t.size}

    target = softmax(normal(5, 4, seed=1))
    return hand, lambda p, t: jnp.mean(t * (jnp.log(t) - p["log_q"])), {"log_q": log_softmax(normal(5, 4))}, target


def dice(p: Any, t: Any, smooth: float = 1e-4) -> Any:
    return 2 * (p * t).sum() / (p.sum() + t.sum() + smooth)


@fault(
    "dice with a plus in the quotient rule",
    "milesial/Pytorch-UNet#35",
    "gradients",
    "p",
    "The quotient rule has a plus for its minus.",
    "term wrong-sign",
)
def dice_sign(broken: bool) -> tuple[Any, ...]:
    def hand(q: Any, t: Any) -> Any:
        p = q["p"]
        inter, union = np.sum(p * t), np.sum(p) + np.sum(t) + 1e-4
        return dice(p, t), {"p": 2 * (t * union + (inter if broken else -inter)) / union**2}

    p = np.random.default_rng(0).uniform(0.1, 0.9, 10)
    return hand, lambda q, t: dice(q["p"], t), {"p": p}, (normal(10, seed=1) > 0) * 1.0


@fault(
    "dice's two columns one below the other",
    "mattmacy/torchbiomed#2",
    "gradients",
    "scores",
    "The gradients of both classes are joined along the examples instead of along the classes.",
    "permutation transpose",
)
def dice_axis(broken: bool) -> tuple[Any, ...]:
    def squared(s: Any, t: Any) -> Any:
        p = s[:, 0] - s[:, 1]
        return 2 * (p * t).sum() / ((p**2).sum() + t.sum())

    def hand(q: Any, t: Any) -> Any:
        p = q["scores"][:, 0] - q["scores"][:, 1]
        union = np.sum(p**2) + np.sum(t)
        d = 2 * t / union - 4 * p * np.sum(p * t) / union**2
        joined = np.concatenate([d, -d]).reshape(-1, 2) if broken else np.stack([d, -d], axis=1)
        return squared(q["scores"], t), {"scores": joined}

    return hand, lambda q, t: squared(q["scores"], t), {"scores": normal(7, 2)}, (normal(7, seed=1) > 0) * 1.0


@fault(
    "dice's derivative without its smoothing",
    "mlpack/mlpack#1674",
    "gradients",
    "p",
    "The loss is smoothed, its derivative is not.",
    "missing-term",
)
def dice_smooth(broken: bool) -> tuple[Any, ...]:
    def smoothed(p: Any, t: Any) -> Any:
        return 1 - (2 * (p * t).sum() + 1) / ((p**2).sum() + (t**2).sum() + 1)

    def hand(q: Any, t: Any) -> Any:
        p, smooth = q["p"], 0.0 if broken else 1.0
        union = np.sum(p * p) + np.sum(t * t) + smooth
        return smoothed(p, t), {"p": -2 * (t * union - p * (2 * np.sum(p * t) + smooth)) / union**2}

    p = np.random.default_rng(0).uniform(0.1, 0.9, 10)
    return hand, lambda q, t: smoothed(q["p"], t), {"p": p}, (normal(10, seed=1) > 0) * 1.0


@fault(
    "dice's denominator without squares",
    "argman/EAST#288",
    "gradients",
    "loss",
    "The terms of the denominator are not squared.",
    "missing-operation",
)
def dice_squares(broken: bool) -> tuple[Any, ...]:
    def hand(q: Any, t: Any) -> Any:
        p = q["p"]
        union = np.sum(p if broken else p**2) + np.sum(t)
        inner = np.sum(p * t)
        dunion = 1.0 if broken else 2 * p
        return 1 - 2 * inner / union, {"p": -2 * t / union + 2 * inner * dunion / union**2}

    def loss(q: Any, t: Any) -> Any:
        return 1 - 2 * jnp.sum(q["p"] * t) / (jnp.sum(q["p"] ** 2) + jnp.sum(t**2))

    p = np.random.default_rng(0).uniform(0.1, 0.9, 10)
    return hand, loss, {"p": p}, (normal(10, seed=1) > 0) * 1.0


def smoothed_loss(p: Any, y: Any) -> Any:
    kept = (y != PAD) * 1.0
    log_p = jax.nn.log_softmax(p["z"])
    terms = 0.8 * -jnp.sum(log_p * jnp.eye(4)[y], -1) + 0.2 * -jnp.mean(log_p, -1)
    return jnp.sum(terms * kept) / jnp.sum(kept)


@fault(
    "label smoothing of ignored rows",
    "pytorch/pytorch#73205",
    "gradients",
    "loss",
    "The uniform part of the smoothed loss counts rows that are ignored.",
    "missing-mask wrong-order wrong-operand",
)
def smoothing_ignored(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, y: Any) -> Any:
        z = p["z"]
        kept = (y != PAD)[:, None] * 1.0
        uniform = np.ones_like(kept) if broken else kept
        count = kept.sum()
        loss = -np.sum(log_softmax(z) * (0.8 * kept * one_hot(y) + 0.05 * uniform)) / count
        dz = (softmax(z) * (0.8 * kept + 0.2 * uniform) - 0.8 * kept * one_hot(y) - 0.05 * uniform) / count
        return loss, {"z": dz}

    return hand, smoothed_loss, {"z": normal(6, 4)}, LABELS


@fault(
    "ignored rows have a gradient",
    "PaddlePaddle/Paddle#28622",
    "gradients",
    "z",
    "Rows whose label is ignored count nothing in the loss, but have the gradient of any other.",
    "missing-mask",
)
def ignored_gradient(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, y: Any) -> Any:
        z, kept = p["z"], (y != PAD)[:, None] * 1.0
        dz = (softmax(z) - one_hot(y)) / len(y)
        return -np.sum(log_softmax(z) * one_hot(y) * kept) / len(y), {"z": dz if broken else dz * kept}

    def loss(p: Any, y: Any) -> Any:
        return -jnp.sum(jax.nn.log_softmax(p["z"]) * jnp.eye(4)[y] * (y != PAD)[:, None]) / len(y)

    return hand, loss, {"z": normal(6, 4)}, LABELS


@fault(
    "the mask of ignored rows inverted",
    "awslabs/sockeye#200",
    "gradients",
    "loss",
    "The rows that should be ignored are the only ones that count.",
    "wrong-mask",
)
def mask_inverted(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, y: Any) -> Any:
        z, kept = p["z"], (y == PAD if broken else y != PAD)[:, None] * 1.0
        return -np.sum(log_softmax(z) * one_hot(y) * kept), {"z": (softmax(z) - one_hot(y)) * kept}

    def loss(p: Any, y: Any) -> Any:
        return -jnp.sum(jax.nn.log_softmax(p["z"]) * jnp.eye(4)[y] * (y != PAD)[:, None])

    return hand, loss, {"z": normal(6, 4)}, LABELS


def distilled(p: Any, t: Any) -> Any:
    return 9.0 * jnp.mean(jnp.sum(t * (jnp.log(t) - jax.nn.log_softmax(p["z"] / 3.0)), -1))


def distilled_by_hand(scale: float) -> Any:
    def hand(p: Any, t: Any) -> Any:
        z = p["z"] / 3.0
        return scale * np.mean(np.sum(t * (np.log(t) - log_softmax(z)), -1)), {
            "z": scale / 3.0 * (softmax(z) - t) / len(t)
        }

    return hand


@fault(
    "distillation averaged over classes",
    "HikariTJU/LD#74",
    "gradients",
    "loss",
    "The divergence is averaged over classes, and not only over examples.",
    "factor",
)
def distillation_mean(broken: bool) -> tuple[Any, ...]:
    target = softmax(normal(6, 4, seed=1))
    return distilled_by_hand(9.0 / 4 if broken else 9.0), distilled, {"z": normal(6, 4)}, target


@fault(
    "distillation without T squared",
    "IntelLabs/distiller#122",
    "gradients",
    "loss",
    "The soft loss is not multiplied by the square of the temperature.",
    "factor missing-factor",
)
def distillation_temperature(broken: bool) -> tuple[Any, ...]:
    target = softmax(normal(6, 4, seed=1))
    return distilled_by_hand(1.0 if broken else 9.0), distilled, {"z": normal(6, 4)}, target


@fault(
    "smooth L1 with a beta in its condition only",
    "pytorch/pytorch#17447",
    "gradients",
    "loss",
    "Beta moves the border between the branches, but scales neither of them.",
    "missing-factor",
)
def smooth_l1(broken: bool) -> tuple[Any, ...]:
    beta = 0.7

    def hand(p: Any, y: Any) -> Any:
        r = p["x"] - y
        z, b = np.abs(r), 1.0 if broken else beta
        inside = z < beta
        return np.sum(np.where(inside, 0.5 * z * z / b, z - 0.5 * b)), {"x": np.where(inside, r / b, np.sign(r))}

    def loss(p: Any, y: Any) -> Any:
        z = jnp.abs(p["x"] - y)
        return jnp.sum(jnp.where(z < beta, 0.5 * z * z / beta, z - 0.5 * beta))

    return hand, loss, {"x": normal(12)}, normal(12, seed=1)


@fault(
    "binomial loss's derivative without its 2",
    "schalkdaniel/compboost#260",
    "gradients",
    "f",
    "The numerator of the derivative is -y instead of -2y.",
    "factor",
)
def binomial(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, y: Any) -> Any:
        f = p["f"]
        return np.sum(np.logaddexp(0, -2 * y * f)), {"f": -(1 if broken else 2) * y / (1 + np.exp(2 * y * f))}

    return (
        hand,
        lambda p, y: jnp.sum(jnp.logaddexp(0, -2 * y * p["f"])),
        {"f": normal(9)},
        np.sign(normal(9, seed=1)),
    )


@fault(
    "logistic regression's gradient without x",
    "fengdu78/Coursera-ML-AndrewNg-Notes#82",
    "gradients",
    "theta",
    "The sum over examples lacks the factor x_j, so that all features have the same.",
    "broadcast missing-sum missing-factor",
)
def logistic(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, x: Any, y: Any) -> Any:
        z = x @ p["theta"]
        error = 1 / (1 + np.exp(-z)) - y
        data = np.full(3, error.mean()) if broken else x.T @ error / len(y)
        loss = np.mean(np.logaddexp(0, z) - y * z) + 0.05 * np.sum(p["theta"] ** 2)
        return loss, {"theta": data + 0.1 * p["theta"]}

    def loss(p: Any, x: Any, y: Any) -> Any:
        z = x @ p["theta"]
        return jnp.mean(jnp.logaddexp(0, z) - y * z) + 0.05 * jnp.sum(p["theta"] ** 2)

    return hand, loss, {"theta": normal(3)}, normal(20, 3, seed=1), (normal(20, seed=2) > 0) * 1.0


@fault(
    "RBF kernel's length scale by its logarithm",
    "scikit-learn/scikit-learn#11113",
    "gradients",
    "length",
    "The gradient divides by the square of the length scale where the cube is expected.",
    "factor",
)
def rbf_length(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, r: Any, c: Any) -> Any:
        length = p["length"]
        k = np.exp(-0.5 * (r / length) ** 2)
        return np.sum(c * k), {"length": np.sum(c * k * r**2) / length ** (2 if broken else 3)}

    def loss(p: Any, r: Any, c: Any) -> Any:
        return jnp.sum(c * jnp.exp(-0.5 * (r / p["length"]) ** 2))

    return hand, loss, {"length": np.array(1.7)}, np.abs(normal(5, 5)), normal(5, 5, seed=1)


@fault(
    "RBF kernel's input without the square",
    "sarmueller/gibo#3",
    "gradients",
    "x",
    "The gradient with respect to the input is divided by the length scales, not by their squares.",
    "wrong-factor missing-factor",
)
def rbf_input(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, points: Any, scale: Any) -> Any:
        r = p["x"] - points
        k = np.exp(-0.5 * np.sum((r / scale) ** 2, axis=1))
        return k.sum(), {"x": -(k[:, None] * r).sum(axis=0) / scale ** (1 if broken else 2)}

    def loss(p: Any, points: Any, scale: Any) -> Any:
        return jnp.sum(jnp.exp(-0.5 * jnp.sum(((p["x"] - points) / scale) ** 2, axis=1)))

    return hand, loss, {"x": 0.3 * normal(4)}, normal(8, 4, seed=1), np.array([0.7, 1.3, 2.0, 0.9])


@fault(
    "a Gaussian's mixed coefficient halved",
    "graphdeco-inria/gaussian-splatting#551",
    "gradients",
    "b",
    "The mixed term of the quadratic form has the coefficient -0.5 of the other two, where -1 is right.",
    "factor",
)
def splat(broken: bool) -> tuple[Any, ...]:
    def hand(p: Any, d: Any, c: Any) -> Any:
        u, v = d
        g = c * np.exp(-0.5 * (p["a"] * u**2 + p["c"] * v**2) - p["b"] * u * v)
        half = -0.5 if broken else -1.0
        return g.sum(), {
            "a": -0.5 * np.sum(g * u**2),
            "b": half * np.sum(g * u * v),
            "c": -0.5 * np.sum(g * v**2),
        }

    def loss(p: Any, d: Any, c: Any) -> Any:
        u, v = d
        return jnp.sum(c * jnp.exp(-0.5 * (p["a"] * u**2 + p["c"] * v**2) - p["b"] * u * v))

    parameters = {"a": np.array(1.2), "b": np.array(0.3), "c": np.array(0.8)}
    return hand, loss, parameters, normal(2, 15), normal(15, seed=1)
