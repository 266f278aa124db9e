"""Functions with side effects, whose results may be right. Each call of a function here creates a new one."""

from typing import Any

import numpy as np

from benchmarks.backward import LINES, ByHand, by_hand, correct


def standardizes_x_in_place() -> ByHand:
    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> Any:
        x -= x.mean(axis=1, keepdims=True)
        x /= x.std(axis=1, keepdims=True) + 1e-6
        return correct(parameters, x, y)

    return loss_and_gradients


def updates_parameters_in_place() -> ByHand:
    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> Any:
        results = correct(parameters, x, y)
        for name, gradient in results[1].items():
            parameters[name] -= 0.1 * gradient
        return results

    return loss_and_gradients


def replaces_parameters_in_their_dict() -> ByHand:
    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> Any:
        results = correct(parameters, x, y)
        for name, gradient in results[1].items():
            parameters[name] = parameters[name] - 0.1 * gradient
        return results

    return loss_and_gradients


def flips_labels_in_place() -> ByHand:
    """A2 - y is computed in the memory of the labels."""

    def loss_and_gradients(parameters: Any, x: Any, y: Any) -> Any:
        results = correct(parameters, x, y)
        y[...] = results[2]["Z2"]
        return results

    return loss_and_gradients


def reuses_its_buffer() -> ByHand:
    buffers: dict[Any, np.ndarray] = {}

    def product(v: Any) -> Any:
        key = (v.W1.shape, v.W1.dtype)
        return np.matmul(v.dZ1, v.x.T, out=buffers.setdefault(key, np.empty_like(v.W1)))

    return by_hand(dW1=product)


def reuses_every_buffer() -> ByHand:
    buffers: dict[Any, dict[str, np.ndarray]] = {}

    def gradients(v: Any) -> Any:
        new = LINES["gradients"](v)
        kept = buffers.setdefault((v.W1.shape, v.W2.shape, v.W1.dtype), {name: new[name].copy() for name in new})
        for name, gradient in new.items():
            kept[name][...] = gradient
        return kept

    return by_hand(gradients=gradients)


def accumulates() -> ByHand:
    """Gradients are added to those of earlier calls, as in a framework in which gradients must be set to zero."""
    sums: dict[Any, np.ndarray] = {}

    def gradients(v: Any) -> Any:
        for name, gradient in LINES["gradients"](v).items():
            key = (name, gradient.shape, gradient.dtype)
            sums[key] = sums.get(key, 0) + gradient
        return {name: sums[name, gradient.shape, gradient.dtype] for name, gradient in LINES["gradients"](v).items()}

    return by_hand(gradients=gradients)


def uses_the_activations_of_the_call_before() -> ByHand:
    last: dict[Any, Any] = {}

    def product(v: Any) -> Any:
        key = (v.A1.shape, v.A1.dtype)
        before = last.get(key, v.A1)
        last[key] = v.A1
        return v.dZ2 @ before.T

    return by_hand(dW2=product)


def scales_with_the_number_of_calls() -> ByHand:
    calls = 0

    def db2(v: Any) -> Any:
        nonlocal calls
        calls += 1
        return LINES["db2"](v) / (1 - 0.5**calls) * 0.5

    return by_hand(db2=db2)


def drops_units_at_random() -> ByHand:
    random = np.random.default_rng()  # without a seed, which is the fault

    def dropout(v: Any) -> Any:
        kept = random.random(v.Z1.shape) > 0.2
        return np.tanh(v.Z1) * kept / 0.8

    return by_hand(A1=dropout)


def adds_noise() -> ByHand:
    random = np.random.default_rng()

    def noisy(v: Any) -> Any:
        noise = 1e-3 * random.standard_normal(v.W1.shape)
        return LINES["dW1"](v) * (1 + noise.astype(v.W1.dtype))

    return by_hand(dW1=noisy)


def writes_its_gradient_into_a_parameter() -> ByHand:
    return by_hand(db1=lambda v: np.sum(v.dZ1, axis=1, keepdims=True, out=v.b1))
