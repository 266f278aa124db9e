"""The training loop of `shallow`, with the formulas of `manual.shallow.backpropagation` on preallocated memory.

It is faster than `manual.shallow` for these reasons:

- The loop allocates no array of the size of the data.
- A bias is the weight of an additional input that is 1, so that it needs no separate pass over memory.
- exp(-|Z2|) is computed once, for the loss and for the sigmoid. For logits of either sign,

      sigmoid(Z2) - y = (1/2 + sign(Z2) / 2 - y)  -  sign(Z2) exp(-|Z2|) / (1 + exp(-|Z2|)).

  The first term is exactly 0 for a correct label, so that a small second term is not absorbed.
- With one output, dA1 = W2^T dZ2 is an outer product, which is multiplied into dZ1 and never stored.
"""

from collections.abc import Mapping

import numpy as np


class Steps:
    """Steps of full-batch gradient descent, in the common dtype of the parameters and x."""

    def __init__(self, parameters: Mapping[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> None:
        (n_h, n_x), (n_y, m) = parameters["W1"].shape, y.shape
        dtype = np.result_type(x, *parameters.values())

        def empty(*shape: int) -> np.ndarray:
            return np.empty(shape, dtype)

        # (W1 b1) and (W2 b2) share one array, and so do their gradients, so that one call updates all. (W1 b1) is
        # stored transposed, because BLAS is fastest with this layout for these shapes.
        first, second = n_h * (n_x + 1), n_y * (n_h + 1)
        self.weights, self.gradient = empty(first + second), empty(first + second)
        (self.V1, self.V2), (self.dV1, self.dV2) = (
            (flat[:first].reshape(n_x + 1, n_h).T, flat[first:].reshape(n_y, n_h + 1))
            for flat in (self.weights, self.gradient)
        )
        for V, W, b in ((self.V1, "W1", "b1"), (self.V2, "W2", "b2")):
            V[:, :-1], V[:, -1:] = parameters[W], parameters[b]
        self.W2T = self.V2[:, :-1].T

        self.x, self.A1 = empty(n_x + 1, m), empty(n_h + 1, m)
        self.x[:-1], self.x[-1], self.A1[-1] = x, 1, 1
        self.hidden, self.xT, self.A1T = self.A1[:-1], self.x.T, self.A1.T
        self.dZ1, self.slope = empty(n_h, m), empty(n_h, m)
        self.Z2, self.dZ2, self.t, self.terms = (empty(n_y, m) for _ in range(4))
        self.one, self.minus, self.m = (np.array(value, dtype) for value in (1, -1, m))
        self.half = self.one / self.m / 2
        self.label = np.asarray(y, dtype) / -self.m
        self.weight = np.full(n_y * m, 1 / m, dtype)

    def step(self, learning_rate: float) -> np.floating:
        """One update. Returns the loss before it."""
        loss = self._forward_and_backward()
        np.multiply(self.gradient, learning_rate, out=self.gradient)
        np.subtract(self.weights, self.gradient, out=self.weights)
        return loss

    def _forward_and_backward(self) -> np.floating:
        """Fills `gradient` and returns the loss. Terms are divided by m before sums, so that these do not overflow."""
        hidden, Z2, dZ2, t, terms, dZ1, slope = self.hidden, self.Z2, self.dZ2, self.t, self.terms, self.dZ1, self.slope
        np.matmul(self.V1, self.x, out=hidden)
        np.tanh(hidden, out=hidden)
        np.matmul(self.V2, self.A1, out=Z2)

        np.copysign(self.half, Z2, out=dZ2)
        np.add(dZ2, self.half, out=dZ2)  # exactly 1/m or 0
        np.add(dZ2, self.label, out=dZ2)
        np.copysign(Z2, self.minus, out=t)
        np.exp(t, out=t)  # exp(-|Z2|)
        np.log1p(t, out=terms)
        # max(Z2, 0) - y Z2 is Z2 times the first term in the formula above.
        loss = np.dot(terms.ravel(), self.weight) + np.dot(Z2.ravel(), dZ2.ravel())
        np.add(t, self.one, out=terms)
        np.divide(t, terms, out=t)
        np.divide(t, self.m, out=t)
        np.copysign(t, Z2, out=t)
        np.subtract(dZ2, t, out=dZ2)

        np.multiply(hidden, hidden, out=slope)
        np.subtract(self.one, slope, out=slope)
        if len(dZ2) == 1:
            np.multiply(slope, self.W2T, out=slope)
            np.multiply(slope, dZ2, out=dZ1)
        else:
            np.matmul(self.W2T, dZ2, out=dZ1)
            np.multiply(dZ1, slope, out=dZ1)
        np.matmul(dZ2, self.A1T, out=self.dV2)
        np.matmul(dZ1, self.xT, out=self.dV1)
        return loss

    def loss_and_gradients(self) -> tuple[np.floating, dict[str, np.ndarray]]:
        loss = self._forward_and_backward()
        return loss, _taken_apart(self.dV1, self.dV2)

    def parameters(self) -> dict[str, np.ndarray]:
        return _taken_apart(self.V1, self.V2)


def _taken_apart(V1: np.ndarray, V2: np.ndarray) -> dict[str, np.ndarray]:
    found = {"W1": V1[:, :-1], "b1": V1[:, -1:], "W2": V2[:, :-1], "b2": V2[:, -1:]}
    return {name: np.array(value, order="C") for name, value in found.items()}
