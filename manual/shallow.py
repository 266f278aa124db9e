"""One hidden layer, every derivative by hand.

    Z1 = W1 x + b1      A1 = tanh(Z1)
    Z2 = W2 A1 + b2     A2 = sigmoid(Z2)
    J  = (1/m) sum over outputs and examples of  -y log A2 - (1 - y) log(1 - A2)

Symbols: n_x features, n_h hidden units, n_y outputs, m examples. Columns are examples, as in the notebook that this
project began with, so x is (n_x, m) and y is (n_y, m). dQ always means dJ/dQ, the gradient of the loss itself; in
texts that follow Ng, dZ means m dJ/dZ and the factor 1/m comes later. In the functions for jvp and
Hessian-vector products, RQ is the derivative of Q along a direction of the parameters.

Functions keep the floating dtype of their arguments, hold no state and never modify an argument. Labels may have any
dtype, and are cast to that of x. Shapes that do not fit, and numbers that are out of range, raise ValueError.
"""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32, Num
from numpy.typing import ArrayLike, DTypeLike

import manual
from manual._trees import check_alike, leaves_by_path

Parameters = dict[str, np.ndarray]  # W1 (n_h, n_x), b1 (n_h, 1), W2 (n_y, n_h), b2 (n_y, 1)
Features = Float[np.ndarray, "n_x m"]
Outputs = Float[np.ndarray, "n_y m"]
Labels = Num[np.ndarray, "n_y labels"]
Intermediates = dict[str, np.ndarray] | None


class Cache(NamedTuple):
    """A1 and A2, because the derivatives are functions of them; Z2, because the loss needs it; Z1, for inspection."""

    Z1: Float[np.ndarray, "n_h m"]
    A1: Float[np.ndarray, "n_h m"]
    Z2: Float[np.ndarray, "n_y m"]
    A2: Float[np.ndarray, "n_y m"]


def layer_structure(x: np.ndarray, y: np.ndarray, hidden_size: int) -> tuple[int, int, int]:
    """Sizes (n_x, n_h, n_y) of the network that maps the columns of x to the columns of y.

    Raises ValueError if x or y is not a matrix, if they differ in examples or have none, or if `hidden_size` is not
    positive.
    """
    if x.ndim != 2 or y.ndim != 2:
        raise ValueError(
            f"x and y must be matrices whose columns are examples; got shapes {x.shape} and {y.shape}. "
            "A single row of labels is y.reshape(1, -1)."
        )
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} examples (columns) and y has {y.shape[1]}; they must be equal. "
            "Transpose data that keeps its examples in rows."
        )
    if x.shape[1] == 0:
        raise ValueError(f"x has shape {x.shape}: there are no examples (columns). Give at least one.")
    if hidden_size < 1:
        raise ValueError(f"hidden_size must be at least 1, got {hidden_size}.")
    return x.shape[0], hidden_size, y.shape[0]


def initialize_parameters(
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    seed: int = 0,
    scale: float = 0.1,
    dtype: DTypeLike = np.float64,
) -> Parameters:
    """Weights from a normal distribution with standard deviation `scale`; biases zero.

    They are drawn in float64, W1 before W2, and then cast, so that a seed gives the same network in every dtype, in
    `manual` and in `autodiff`.
    """
    random = np.random.default_rng(seed)
    W1 = scale * random.standard_normal((hidden_size, input_size))
    W2 = scale * random.standard_normal((output_size, hidden_size))
    return {
        "W1": W1.astype(dtype),
        "b1": np.zeros((hidden_size, 1), dtype),
        "W2": W2.astype(dtype),
        "b2": np.zeros((output_size, 1), dtype),
    }


def sigmoid(z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """1 / (1 + exp(-z)), written so that the argument of exp is never positive and exp cannot overflow."""
    t = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, t) / (1 + t)


def forward_propagation(x: Features, parameters: Parameters) -> tuple[Outputs, Cache]:
    """The prediction A2, and the cache for the backward pass.

    Args:
        x: (n_x, m).
        parameters: W1, b1, W2 and b2.
    """
    W1, b1, W2, b2 = (parameters[name] for name in ("W1", "b1", "W2", "b2"))
    Z1 = W1 @ x + b1
    A1 = np.tanh(Z1)
    Z2 = W2 @ A1 + b2
    A2 = sigmoid(Z2)
    return A2, Cache(Z1, A1, Z2, A2)


def compute_loss(Z2: Outputs, y: Outputs) -> np.floating:
    """Binary cross-entropy, summed over outputs and averaged over examples.

    With A2 = sigmoid(Z2), each term -y log A2 - (1 - y) log(1 - A2) equals

        max(Z2, 0) - y Z2 + log(1 + exp(-|Z2|)),

    which is finite for every finite logit. The form with A2 computes log 0 as soon as A2 rounds to 0 or 1.
    The terms are divided by m before they are summed, so that the sum overflows only if the loss does.

    Args:
        Z2: logits (n_y, m).
        y: labels (n_y, m).
    """
    m = Z2.shape[1]
    terms = np.maximum(Z2, 0) - y * Z2 + np.log1p(np.exp(-np.abs(Z2)))
    return np.sum(terms / m)


def backpropagation(
    parameters: Parameters, cache: Cache, x: Features, y: Outputs, *, intermediates: Intermediates = None
) -> Parameters:
    """The gradients of the loss with respect to the parameters, from the output back to the input.

        J wrt Z2   dJ/dZ2 = (A2 - y) / m, because the sigmoid's derivative A2 (1 - A2) cancels against
                   dJ/dA2 = (A2 - y) / (A2 (1 - A2)) / m
        Z2 = W2 A1 + b2    each example contributes dZ2 A1^T to dW2 and dZ2 to db2, and dA1 = W2^T dZ2
        A1 = tanh(Z1)      tanh' = 1 - tanh^2, and the forward pass has already computed tanh
        Z1 = W1 x + b1     as for Z2

    Returns a dict with the keys, shapes and dtypes of `parameters`. A dict given as `intermediates` also
    receives dJ/dZ2, dJ/dA1 and dJ/dZ1 under the names Z2, A1 and Z1. Source: Rumelhart, Hinton and Williams,
    "Learning representations by back-propagating errors", Nature 323 (1986).
    """
    W2 = parameters["W2"]
    A1, A2 = cache.A1, cache.A2
    m = x.shape[1]

    dZ2 = (A2 - y) / m
    dW2 = dZ2 @ A1.T
    db2 = np.sum(dZ2, axis=1, keepdims=True)
    dA1 = W2.T @ dZ2
    dZ1 = dA1 * (1 - A1**2)
    dW1 = dZ1 @ x.T
    db1 = np.sum(dZ1, axis=1, keepdims=True)

    if intermediates is not None:
        intermediates |= {"Z2": dZ2, "A1": dA1, "Z1": dZ1}
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def loss_and_gradients(parameters: Parameters, x: Features, y: Labels) -> tuple[np.floating, Parameters]:
    """The loss and its gradient with respect to every parameter, in one forward and one backward pass."""
    layer_structure(x, y, parameters["W1"].shape[0])
    y = y.astype(x.dtype, copy=False)  # integer labels would promote float32 to float64
    _, cache = forward_propagation(x, parameters)
    return compute_loss(cache.Z2, y), backpropagation(parameters, cache, x, y)


# ------------------------------------------------------------------------------------ along a direction


def _forward_along(parameters: Parameters, vector: Parameters, x: Features, cache: Cache) -> Cache:
    """R of every line of `forward_propagation`, where the parameters move along the vector and x is constant.

    RQ = dQ(parameters + r vector)/dr at r = 0 obeys the rules of derivatives: R(P Q) = RP Q + P RQ for a product, and
    R f(Q) = f'(Q) RQ for a function. RW1, Rb1, RW2 and Rb2 are the entries of the vector.
    """
    W2, A1, A2 = parameters["W2"], cache.A1, cache.A2
    RW1, Rb1, RW2, Rb2 = (vector[name] for name in ("W1", "b1", "W2", "b2"))
    RZ1 = RW1 @ x + Rb1
    RA1 = (1 - A1**2) * RZ1
    RZ2 = RW2 @ A1 + W2 @ RA1 + Rb2
    RA2 = A2 * (1 - A2) * RZ2
    return Cache(RZ1, RA1, RZ2, RA2)


def jvp(parameters: Parameters, vector: Parameters, x: Features, y: Labels) -> tuple[np.floating, np.floating]:
    """The loss, and its derivative along a vector, <gradient, vector>, in one forward pass.

        RJ = sum of dJ/dZ2 RZ2 = (1/m) sum of (A2 - y) RZ2

    Args:
        parameters: the point at which the derivative is taken.
        vector: the direction, with the keys and shapes of `parameters`.
        x: (n_x, m).
        y: labels (n_y, m).

    Returns:
        (J, RJ). The name jvp is for Jacobian-vector product; the Jacobian of the loss has a single row.

    Raises:
        ValueError: as `loss_and_gradients` does, and unless the vector has the structure of the parameters.
    """
    y = _checked(parameters, vector, x, y)
    m = x.shape[1]
    A2, cache = forward_propagation(x, parameters)
    _, _, RZ2, _ = _forward_along(parameters, vector, x, cache)
    RJ = np.sum((A2 - y) / m * RZ2)
    return compute_loss(cache.Z2, y), RJ


def hessian_vector_product(
    parameters: Parameters, vector: Parameters, x: Features, y: Labels, *, intermediates: Intermediates = None
) -> Parameters:
    """The Hessian of the loss times a vector: R of every line of `backpropagation`, at the cost of two gradients.

        H v = R(gradient), the derivative of the gradient along v

    The Hessian itself, a matrix with a row and a column for every parameter, is never formed.

    Args:
        parameters: the point at which the Hessian is taken.
        vector: v, with the keys and shapes of `parameters`.
        x: (n_x, m).
        y: labels (n_y, m).
        intermediates: a dict that also receives R of the gradients dZ2, dA1 and dZ1, under the names Z2, A1 and Z1.

    Returns:
        H v, with the keys, shapes and dtypes of `parameters`.

    Raises:
        ValueError: as `loss_and_gradients` does, and unless the vector has the structure of the parameters.

    Source: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6(1) (1994), section 4.
    """
    y = _checked(parameters, vector, x, y)
    _, cache = forward_propagation(x, parameters)
    forward_along = _forward_along(parameters, vector, x, cache)
    product, backward_along = _backward_along(parameters, vector, x, y, cache, forward_along)
    if intermediates is not None:
        intermediates |= backward_along
    return product


def _backward_along(
    parameters: Parameters, vector: Parameters, x: Features, y: Outputs, cache: Cache, forward_along: Cache
) -> tuple[Parameters, dict[str, np.ndarray]]:
    """R of every line of `backpropagation`.

        dZ2 = (A2 - y) / m         RdZ2 = RA2 / m
        dW2 = dZ2 A1^T             RdW2 = RdZ2 A1^T + dZ2 RA1^T        two terms, as for every product
        dA1 = W2^T dZ2             RdA1 = W2^T RdZ2 + RW2^T dZ2
        dZ1 = dA1 (1 - A1^2)       RdZ1 = RdA1 (1 - A1^2) - 2 dA1 A1 RA1    by tanh'' = -2 tanh tanh'

    Returns R of the gradients of the parameters, and R of dZ2, dA1 and dZ1.
    """
    W2, RW2 = parameters["W2"], vector["W2"]
    (_, A1, _, A2), (_, RA1, _, RA2) = cache, forward_along
    m = x.shape[1]
    dZ2 = (A2 - y) / m
    dA1 = W2.T @ dZ2

    RdZ2 = RA2 / m
    RdW2 = RdZ2 @ A1.T + dZ2 @ RA1.T
    Rdb2 = np.sum(RdZ2, axis=1, keepdims=True)
    RdA1 = W2.T @ RdZ2 + RW2.T @ dZ2
    RdZ1 = RdA1 * (1 - A1**2) - 2 * dA1 * A1 * RA1
    RdW1 = RdZ1 @ x.T
    Rdb1 = np.sum(RdZ1, axis=1, keepdims=True)
    return {"W1": RdW1, "b1": Rdb1, "W2": RdW2, "b2": Rdb2}, {"Z2": RdZ2, "A1": RdA1, "Z1": RdZ1}


def _checked(parameters: Parameters, vector: Parameters, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The labels in the dtype of x. Raises ValueError unless x, y, the parameters and the vector fit."""
    layer_structure(x, y, parameters["W1"].shape[0])
    check_alike({"parameters": leaves_by_path(parameters), "vector": leaves_by_path(vector)})
    return y.astype(x.dtype, copy=False)


# -------------------------------------------------------------------------------------------- training


def update_parameters(parameters: Parameters, gradients: Parameters, learning_rate: float) -> Parameters:
    """One step of gradient descent: Q - learning_rate dQ for every parameter Q."""
    learning_rate = float(learning_rate)  # a NumPy scalar would promote float32 parameters to float64
    return {name: value - learning_rate * gradients[name] for name, value in parameters.items()}


def train(
    parameters: Parameters, x: Features, y: Labels, *, iterations: int, learning_rate: float
) -> tuple[Parameters, Float[np.ndarray, " iterations"]]:
    """Full-batch gradient descent. `losses[i]` is the loss before update i.

    Args:
        parameters: the initial ones.
        x: (n_x, m).
        y: labels (n_y, m).
        iterations: the number of updates.
        learning_rate: of gradient descent.

    Returns:
        The parameters after the last update, and the losses (iterations,).

    Raises:
        ValueError: unless `iterations` and `learning_rate` are positive, and if the shapes do not fit.
    """
    if iterations < 1 or not learning_rate > 0:
        raise ValueError(f"iterations and learning_rate must be positive, got {iterations} and {learning_rate}.")
    layer_structure(x, y, parameters["W1"].shape[0])
    losses = []
    for _ in range(iterations):
        loss, gradients = loss_and_gradients(parameters, x, y)
        parameters = update_parameters(parameters, gradients, learning_rate)
        losses.append(loss)
    return parameters, np.array(losses)


def neural_net(
    x: ArrayLike,
    y: ArrayLike,
    hidden_size: int,
    *,
    iterations: int = 1000,
    learning_rate: float = 1.0,
    seed: int = 0,
    ops: ModuleType = manual,
) -> tuple[Parameters, np.ndarray]:
    """Initialize and train: the last cell of the notebook.

    Args:
        x: features (n_x, m). The computation has the dtype of x if that is floating, else float64.
        y: labels (n_y, m), cast to that dtype.
        hidden_size: n_h.
        iterations: the number of updates.
        learning_rate: of gradient descent.
        seed: of the initial weights.
        ops: `manual` or `manual.fast`, whose `shallow.train` is used.

    Returns:
        The parameters, and the loss of each iteration.

    Raises:
        ValueError: if shapes do not fit, or if a number is not positive.
    """
    x_array: Any = np.asarray(x)
    if not np.issubdtype(x_array.dtype, np.floating):
        x_array = x_array.astype(np.float64)
    y_array = np.asarray(y, dtype=x_array.dtype)
    sizes = layer_structure(x_array, y_array, hidden_size)
    parameters = initialize_parameters(*sizes, seed=seed, dtype=x_array.dtype)
    return ops.shallow.train(parameters, x_array, y_array, iterations=iterations, learning_rate=learning_rate)


def predict(x: Features, parameters: Parameters) -> Int32[np.ndarray, "n_y m"]:
    """Labels: 1 where the predicted probability exceeds one half, else 0."""
    A2, _ = forward_propagation(x, parameters)
    return (A2 > 0.5).astype(np.int32)
