"""One hidden layer, no derivative by hand.

    Z1 = W1 x + b1      A1 = tanh(Z1)
    Z2 = W2 A1 + b2     A2 = sigmoid(Z2)
    J  = (1/m) sum over outputs and examples of  -y log A2 - (1 - y) log(1 - A2)

Names and arguments are those of `manual.shallow`, and columns are examples. There is no backward pass, because
`jax.value_and_grad` derives it from the loss. Whole steps are compiled, and the training loop runs on the device.
Arrays keep their dtype: float64 input gives float64 output, for any configuration of JAX. (If 64-bit types are
disabled, JAX converts the result of further operations on float64 output to float32. To avoid this, use `np.asarray` of
the output, or work under `jax.enable_x64(True)`.)
"""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int32

from autodiff._dtype import keeps_dtype

Parameters = Mapping[str, Array]  # W1 (n_h, n_x), b1 (n_h, 1), W2 (n_y, n_h), b2 (n_y, 1)

# The number of steps per call of the compiled loop. The number of iterations is an argument of the loop, so that one
# program serves all numbers; only the buffer for the losses needs a fixed length, which is this one.
BLOCK = 1024
# On an accelerator, this number of steps is an inner loop of fixed length. After every turn of a loop whose length the
# compiler does not know, the device asks the host whether to continue, which takes as long as a small step. On a CPU
# this costs nothing, and a single loop compiles faster.
RUN = 32


class Cache(NamedTuple):
    """The intermediate values of the forward pass. JAX does not need them to differentiate."""

    Z1: Float[Array, "n_h m"]
    A1: Float[Array, "n_h m"]
    Z2: Float[Array, "n_y m"]
    A2: Float[Array, "n_y m"]


def layer_structure(x: ArrayLike, y: ArrayLike, hidden_size: int) -> tuple[int, int, int]:
    """Sizes (n_x, n_h, n_y) of the network that maps the columns of x to the columns of y.

    Raises ValueError if x or y is not a matrix, if they differ in examples or have none, or if
    `hidden_size` is not positive.
    """
    x_shape, y_shape = jnp.shape(x), jnp.shape(y)
    if len(x_shape) != 2 or len(y_shape) != 2:
        raise ValueError(
            f"x and y must be matrices whose columns are examples; got shapes {x_shape} and {y_shape}. "
            "A single row of labels is y.reshape(1, -1)."
        )
    (input_size, examples), (output_size, labels) = x_shape, y_shape
    if examples != labels:
        raise ValueError(
            f"x has {examples} examples (columns) and y has {labels}; they must be equal. "
            "Transpose data that keeps its examples in rows."
        )
    if examples == 0:
        raise ValueError(f"x has shape {x_shape}: there are no examples (columns). Give at least one.")
    if hidden_size < 1:
        raise ValueError(f"hidden_size must be at least 1, got {hidden_size}.")
    return input_size, hidden_size, output_size


def initialize_parameters(
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    seed: int = 0,
    scale: float = 0.1,
    dtype: DTypeLike = np.float64,
) -> Parameters:
    """Weights drawn from a normal distribution of standard deviation `scale`; biases zero.

    NumPy's generator draws them instead of JAX's, so that they are equal to those of `manual` to the last bit.
    """
    random = np.random.default_rng(seed)
    shapes = {"W1": (hidden_size, input_size), "W2": (output_size, hidden_size)}
    weights = {name: scale * random.standard_normal(shape) for name, shape in shapes.items()}
    biases = {"b1": np.zeros((hidden_size, 1)), "b2": np.zeros((output_size, 1))}
    return {name: _on_device(value.astype(dtype)) for name, value in (weights | biases).items()}


@keeps_dtype
def _on_device(value: np.ndarray) -> Array:
    return jnp.asarray(value)


def sigmoid(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """1 / (1 + exp(-z))."""
    return jax.nn.sigmoid(z)


@keeps_dtype
def forward_propagation(x: ArrayLike, parameters: Parameters) -> tuple[Float[Array, "n_y m"], Cache]:
    """The prediction A2, and the intermediate values.

    `checkpoint_name` is the identity. It leaves the names of the intermediates in the traced program, where the judge
    finds them to compute their gradients.
    """
    W1, b1, W2, b2 = (jnp.asarray(parameters[name]) for name in ("W1", "b1", "W2", "b2"))
    Z1 = checkpoint_name(W1 @ jnp.asarray(x) + b1, "Z1")
    A1 = checkpoint_name(jnp.tanh(Z1), "A1")
    Z2 = checkpoint_name(W2 @ A1 + b2, "Z2")
    A2 = sigmoid(Z2)
    return A2, Cache(Z1, A1, Z2, A2)


@keeps_dtype
def compute_loss(Z2: ArrayLike, y: ArrayLike) -> Float[Array, ""]:
    """Binary cross-entropy, summed over outputs and averaged over examples, from logits.

    Each term is c = log(1 + exp(-|Z2|)), plus (1 - y) Z2 where Z2 is positive and -y Z2 elsewhere. It is finite for
    every finite logit. Its derivative can be as small as 1e-18, where that of the equal log(1 + exp(Z2)) - y Z2 cancels
    to 0.
    """
    z = jnp.asarray(Z2)
    y = jnp.asarray(y).astype(z.dtype)  # because -y would wrap around for unsigned labels
    positive = z > 0  # not jnp.abs, whose derivative at 0 is 1 in JAX; both branches here have the correct one
    c = jnp.log1p(jnp.exp(jnp.where(positive, -z, z)))
    terms = jnp.where(positive, (1 - y) * z, -y * z) + c
    return jnp.sum(terms / z.shape[1])


def _loss(parameters: Parameters, x: Array, y: Array) -> Float[Array, ""]:
    _, cache = forward_propagation(x, parameters)
    return compute_loss(cache.Z2, y)


_compiled_value_and_grad = jax.jit(jax.value_and_grad(_loss))


@keeps_dtype
def loss_and_gradients(parameters: Parameters, x: ArrayLike, y: ArrayLike) -> tuple[Float[Array, ""], Parameters]:
    """The loss and its gradient with respect to every parameter, in one compiled program."""
    layer_structure(x, y, jnp.shape(parameters["W1"])[0])
    return _compiled_value_and_grad(parameters, x, y)


_compiled_jvp = jax.jit(lambda parameters, vector, x, y: jax.jvp(lambda p: _loss(p, x, y), (parameters,), (vector,)))


@keeps_dtype
def jvp(
    parameters: Parameters, vector: Parameters, x: ArrayLike, y: ArrayLike
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The loss, and its derivative along a vector, by forward mode.

    Raises ValueError if x, y and parameters do not fit, or if the vector does not have the structure of the parameters.
    """
    _check(parameters, vector, x, y)
    return _compiled_jvp(parameters, vector, x, y)


@jax.jit
def _compiled_hvp(parameters: Parameters, vector: Parameters, x: Array, y: Array) -> Parameters:
    gradient = jax.grad(lambda p: _loss(p, x, y))
    return jax.jvp(gradient, (parameters,), (vector,))[1]


@keeps_dtype
def hessian_vector_product(parameters: Parameters, vector: Parameters, x: ArrayLike, y: ArrayLike) -> Parameters:
    """The Hessian of the loss times a vector, by forward mode over reverse mode, so that no Hessian is formed.

    Raises ValueError as `jvp` does.
    """
    _check(parameters, vector, x, y)
    return _compiled_hvp(parameters, vector, x, y)


def _check(parameters: Parameters, vector: Parameters, x: ArrayLike, y: ArrayLike) -> None:
    layer_structure(x, y, jnp.shape(parameters["W1"])[0])
    ours, theirs = ({name: (v.shape, v.dtype) for name, v in tree.items()} for tree in (parameters, vector))
    if ours != theirs:
        raise ValueError(f"vector must be like parameters, {ours}; got {theirs}.")


@keeps_dtype
def update_parameters(parameters: Parameters, gradients: Parameters, learning_rate: ArrayLike) -> Parameters:
    """One step of gradient descent: Q - learning_rate dQ for every parameter Q."""
    return {name: value - learning_rate * gradients[name] for name, value in parameters.items()}


Carry = tuple[Parameters, Array]


@partial(jax.jit, donate_argnames="parameters", static_argnames="run")
def _train_block(parameters: Parameters, x: Array, y: Array, learning_rate: Array, steps: Array, *, run: int) -> Carry:
    """At most BLOCK steps of gradient descent, with the loss before each; inner loops have `run` steps."""

    def step(i: Array, carry: Carry) -> Carry:
        parameters, losses = carry
        loss, gradients = jax.value_and_grad(_loss)(parameters, x, y)
        return update_parameters(parameters, gradients, learning_rate), losses.at[i].set(loss)

    def some_steps(i: Array, carry: Carry) -> Carry:
        return lax.fori_loop(0, run, lambda j, carry: step(i * run + j, carry), carry)

    done, carry = 0, (parameters, jnp.zeros(BLOCK, parameters["W1"].dtype))
    if run > 1:
        done = steps - steps % run
        carry = lax.fori_loop(0, steps // run, some_steps, carry)
    return lax.fori_loop(done, steps, step, carry)


@keeps_dtype
def train(
    parameters: Parameters, x: ArrayLike, y: ArrayLike, *, iterations: int, learning_rate: float
) -> tuple[Parameters, Float[Array, " iterations"]]:
    """Full-batch gradient descent in a loop on the device. `losses[i]` is the loss before update i.

    Raises ValueError unless `iterations` and `learning_rate` are positive.
    """
    if iterations < 1 or not learning_rate > 0:
        raise ValueError(f"iterations and learning_rate must be positive, got {iterations} and {learning_rate}.")
    parameters = jax.tree.map(partial(jnp.array, copy=True), parameters)  # a copy, because the block donates it
    x, y = jnp.asarray(x), jnp.asarray(y)
    run = 1 if next(iter(x.devices())).platform == "cpu" else RUN
    blocks = []
    for start in range(0, iterations, BLOCK):
        steps = min(BLOCK, iterations - start)
        parameters, losses = _train_block(parameters, x, y, float(learning_rate), steps, run=run)
        blocks.append(losses)
    # Cut to length on the host, because on the device every new length would be a new program to compile.
    return parameters, jnp.asarray(np.concatenate(blocks)[:iterations])


def neural_net(
    x: ArrayLike,
    y: ArrayLike,
    hidden_size: int,
    *,
    iterations: int = 1000,
    learning_rate: float = 1.0,
    seed: int = 0,
) -> tuple[Parameters, Array]:
    """Initialize and train. Returns the parameters and the loss of each iteration.

    The computation has the dtype of x if that is floating, else float64. Labels are cast to that dtype.
    """
    x = np.asarray(x)
    dtype = x.dtype if np.issubdtype(x.dtype, np.floating) else np.dtype(np.float64)
    sizes = layer_structure(x, y, hidden_size)
    parameters = initialize_parameters(*sizes, seed=seed, dtype=dtype)
    x, y = x.astype(dtype), np.asarray(y, dtype)
    return train(parameters, x, y, iterations=iterations, learning_rate=learning_rate)


@keeps_dtype
@jax.jit
def predict(x: ArrayLike, parameters: Parameters) -> Int32[Array, "n_y m"]:
    """Labels: 1 where the predicted probability exceeds one half, else 0."""
    A2, _ = forward_propagation(x, parameters)
    return (A2 > 0.5).astype(jnp.int32)
