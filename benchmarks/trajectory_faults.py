"""Faults that are planted in training: in the update rule or, in a few cases, in the gradient.

There are three optimizers, by hand and in JAX: gradient descent without state, momentum and Adam. Each fault is one
argument of a hand-written rule, or one wrong gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import autodiff
from benchmarks.backward import by_hand, correct
from benchmarks.networks import network

RATE, MOMENTUM, BETAS = 0.1, 0.9, (0.9, 0.999)
LARGE_EPSILON = 1e-2  # large enough that its position in Adam's denominator makes a difference
STEPS = 60
EXAMPLES, BATCH = 20, 8  # the last mini-batch of an epoch has 4


@dataclass(frozen=True)
class TrajectoryFault:
    """Two step functions, and the place at which their results differ.

    A step is `step(parameters, *batch) -> parameters` or, with an optimizer that has state,
    `step(parameters, state, *batch) -> (parameters, state)`. A correct pair has no kinds, no wrong step and no leaf.

    Attributes:
        name: what is wrong.
        manual_step: the hand-written step.
        autodiff_step: the step in JAX.
        parameters: the initial parameters.
        state: the initial state of the optimizer, or None.
        batches: the batches.
        kinds: the kinds of diagnoses that name the cause.
        wrong_step: the first step, counted from 1, after which parameters or state differ.
        leaf: the leaf that differs; None if all parameters or all their states do.
    """

    name: str
    manual_step: Callable[..., Any]
    autodiff_step: Callable[..., Any]
    parameters: Any
    state: Any
    batches: tuple[tuple[Any, ...], ...]
    kinds: frozenset[str]
    wrong_step: int | None
    leaf: str | None


# --------------------------------------------------------------------------------------- by hand

Gradient = Callable[..., dict[str, Any]]


def _gradient(parameters: Any, x: Any, y: Any) -> dict[str, Any]:
    return correct(parameters, x, y)[1]


def _step(rule: Callable[..., Any], gradient: Gradient = _gradient, **options: Any) -> Callable[..., Any]:
    return lambda parameters, x, y: rule(parameters, gradient(parameters, x, y), **options)


def _state_step(rule: Callable[..., Any], gradient: Gradient = _gradient, **options: Any) -> Callable[..., Any]:
    return lambda parameters, state, x, y: rule(parameters, state, gradient(parameters, x, y), **options)


def _descent(parameters: Any, gradients: Any, *, rate: float = RATE, decay: float = 0, frozen: str = "") -> Any:
    return {
        name: value if name == frozen else value - rate * (gradients[name] + (decay * value if name == "W1" else 0))
        for name, value in parameters.items()
    }


def _momentum(
    parameters: Any, velocity: Any, gradients: Any, *, decay: float = MOMENTUM, again: float = 0, frozen: str = ""
) -> Any:
    """Momentum with the factor `decay`. The step is the velocity plus `again` times the velocity."""
    velocity = {name: decay * velocity[name] + gradients[name] for name in velocity}
    steps = {name: velocity[name] + again * velocity[name] for name in velocity}
    return _descent(parameters, steps, frozen=frozen), velocity


def _adam(
    parameters: Any,
    state: Any,
    gradients: Any,
    *,
    rate: float = RATE,
    betas: tuple[float, float] = BETAS,
    epsilon: float = 1e-8,
    corrected: bool = True,
    inside: bool = False,
    advance: int = 1,
) -> Any:
    """Kingma and Ba, "Adam", 2015, algorithm 1. With `inside`, epsilon is under the square root."""
    count = state["count"] + advance
    t = max(int(count), 1)
    first, second = betas
    m = {name: first * state["m"][name] + (1 - first) * g for name, g in gradients.items()}
    v = {name: second * state["v"][name] + (1 - second) * g**2 for name, g in gradients.items()}
    updated = {}
    for name, value in parameters.items():
        m_hat = m[name] / (1 - first**t) if corrected else m[name]
        v_hat = v[name] / (1 - second**t) if corrected else v[name]
        root = np.sqrt(v_hat + epsilon) if inside else np.sqrt(v_hat) + epsilon
        updated[name] = value - rate * m_hat / root
    return updated, {"count": count, "m": m, "v": v}


def _counted_descent(
    parameters: Any, state: Any, gradients: Any, *, wrong_at: int = 0, wrong_from: int | None = None, frozen: str = "b2"
) -> Any:
    """Gradient descent that counts its steps.

    At step `wrong_at`, one entry moves 1% too far. From step `wrong_from` on, the leaf `frozen` is not updated.
    """
    count = state["count"] + 1
    updated = _descent(parameters, gradients, frozen=frozen if wrong_from and count >= wrong_from else "")
    if count == wrong_at:
        updated["W2"][1, 2] += 0.01 * (updated["W2"][1, 2] - parameters["W2"][1, 2])
    return updated, {"count": count}


def _stale_gradient(parameters: Any, x: Any, y: Any) -> dict[str, Any]:
    """The gradient of W1 is computed with the updated W2."""
    gradients = _gradient(parameters, x, y)
    updated = {**parameters, "W2": parameters["W2"] - RATE * gradients["W2"]}
    stale = by_hand(dA1=lambda v: updated["W2"].T @ v.dZ2)
    return gradients | {"W1": stale(parameters, x, y)[1]["W1"]}


def _gradient_of_full_batches(parameters: Any, x: Any, y: Any) -> dict[str, Any]:
    """The gradient is divided by the size of a full batch, also for a smaller batch."""
    return by_hand(dZ2=lambda v: (v.A2 - v.y) / BATCH)(parameters, x, y)[1]


# ---------------------------------------------------------------------------------------- in JAX


@jax.jit
def _jax_descent(parameters: Any, x: Any, y: Any) -> Any:
    _, gradients = autodiff.loss_and_gradients(parameters, x, y)
    return jax.tree.map(lambda value, g: value - RATE * g, parameters, gradients)


@jax.jit
def _jax_counted_descent(parameters: Any, state: Any, x: Any, y: Any) -> Any:
    return _jax_descent(parameters, x, y), {"count": state["count"] + 1}


@jax.jit
def _jax_momentum(parameters: Any, velocity: Any, x: Any, y: Any) -> Any:
    _, gradients = autodiff.loss_and_gradients(parameters, x, y)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, gradients)
    return jax.tree.map(lambda value, v: value - RATE * v, parameters, velocity), velocity


@partial(jax.jit, static_argnames="epsilon")
def _jax_adam(parameters: Any, state: Any, x: Any, y: Any, epsilon: float = 1e-8) -> Any:
    _, gradients = autodiff.loss_and_gradients(parameters, x, y)
    count = state["count"] + 1
    t = count.astype(parameters["W1"].dtype)
    first, second = BETAS
    m = jax.tree.map(lambda m, g: first * m + (1 - first) * g, state["m"], gradients)
    v = jax.tree.map(lambda v, g: second * v + (1 - second) * g**2, state["v"], gradients)

    def updated(value: Any, m: Any, v: Any) -> Any:
        return value - RATE * (m / (1 - first**t)) / (jnp.sqrt(v / (1 - second**t)) + epsilon)

    return jax.tree.map(updated, parameters, m, v), {"count": count, "m": m, "v": v}


_jax_adam_large_epsilon = partial(_jax_adam, epsilon=LARGE_EPSILON)


# ------------------------------------------------------------------------------------ the corpus


def _pair(
    name: str,
    manual_step: Callable[..., Any],
    autodiff_step: Callable[..., Any],
    kinds: str = "",
    wrong_step: int | None = None,
    leaf: str | None = None,
    *,
    state: str = "",
    steps: int = STEPS,
    dtype: str = "float64",
) -> TrajectoryFault:
    parameters, x, y = network(np.random.default_rng(0), (3, 4, 2, EXAMPLES), dtype=dtype)
    zeros = {leaf: np.zeros_like(value) for leaf, value in parameters.items()}
    count = {"count": np.zeros((), np.int32)}
    states = {"": None, "count": count, "velocity": zeros, "adam": count | {"m": zeros, "v": zeros}}
    epoch = [(x[:, i : i + BATCH], y[:, i : i + BATCH]) for i in range(0, EXAMPLES, BATCH)]
    batches = tuple(epoch[i % len(epoch)] for i in range(steps))
    name = f"{name} (float32)" if dtype == "float32" else name
    return TrajectoryFault(
        name, manual_step, autodiff_step, parameters, states[state], batches, frozenset(kinds.split()), wrong_step, leaf
    )


def _faults(pair: Callable[..., TrajectoryFault]) -> list[TrajectoryFault]:
    momentum = partial(pair, autodiff_step=_jax_momentum, state="velocity")
    adam = partial(pair, autodiff_step=_jax_adam, state="adam")
    counted = partial(pair, autodiff_step=_jax_counted_descent, state="count")
    return [
        pair("frozen leaf", _step(_descent, frozen="b1"), _jax_descent, "frozen", 1, "b1"),
        momentum("frozen leaf under momentum", _state_step(_momentum, frozen="W2"), kinds="frozen", wrong_step=1,
                 leaf="W2"),
        counted("frozen from step 40 on", _state_step(_counted_descent, wrong_from=40), kinds="frozen",
                wrong_step=40, leaf="b2"),
        pair("stale read", _step(_descent, _stale_gradient), _jax_descent, "stale-read", 1, "W1"),
        pair("learning rate 1% too large", _step(_descent, rate=1.01 * RATE), _jax_descent, "factor", 1),
        pair("learning rate ten times too small", _step(_descent, rate=0.1 * RATE), _jax_descent, "factor", 1),
        pair("short batches divided by the full size", _step(_descent, _gradient_of_full_batches), _jax_descent,
             "factor", 3),
        pair("weight decay in the update", _step(_descent, decay=1e-3), _jax_descent, "weight-decay", 1, "W1"),
        momentum("momentum applied twice to the velocity", _state_step(_momentum, decay=MOMENTUM**2),
                 kinds="momentum", wrong_step=2),
        momentum("momentum applied again to the step", _state_step(_momentum, again=MOMENTUM),
                 kinds="momentum factor", wrong_step=1),
        momentum("no momentum", _state_step(_momentum, decay=0.0), kinds="momentum", wrong_step=2),
        adam("Adam without bias correction", _state_step(_adam, corrected=False), kinds="bias-correction",
             wrong_step=1),
        adam("Adam whose count stands still", _state_step(_adam, advance=0), kinds="bias-correction frozen",
             wrong_step=1, leaf="count"),
        adam("Adam with epsilon under the root", _state_step(_adam, epsilon=LARGE_EPSILON, inside=True),
             autodiff_step=_jax_adam_large_epsilon, kinds="wrong-order", wrong_step=1),
        adam("Adam with its betas swapped", _state_step(_adam, betas=BETAS[::-1]), kinds="wrong-number", wrong_step=1),
        adam("Adam at twice the learning rate", _state_step(_adam, rate=2 * RATE), kinds="factor", wrong_step=1),
    ]  # fmt: skip


def _sound(pair: Callable[..., TrajectoryFault]) -> list[TrajectoryFault]:
    return [
        pair("descent", _step(_descent), _jax_descent),
        pair("counted descent", _state_step(_counted_descent), _jax_counted_descent, state="count"),
        pair("momentum", _state_step(_momentum), _jax_momentum, state="velocity"),
        pair("Adam", _state_step(_adam), _jax_adam, state="adam"),
        pair("Adam, large epsilon", _state_step(_adam, epsilon=LARGE_EPSILON), _jax_adam_large_epsilon, state="adam"),
    ]


_IN_FLOAT32 = partial(_pair, dtype="float32")

TRAJECTORY_FAULTS = (
    *_faults(_pair),
    _pair("one entry +1% at step 500", _state_step(_counted_descent, wrong_at=500), _jax_counted_descent,
          "single-entry", 500, "W2", state="count", steps=1000),
    *_faults(_IN_FLOAT32),
)  # fmt: skip
SOUND_TRAJECTORIES = (*_sound(_pair), *_sound(_IN_FLOAT32))
