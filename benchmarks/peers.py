"""Other gradient checkers, each with its own defaults, applied to a hand-written loss and gradient.

All of them check at one point, in float64. Those that use finite differences compare the gradient with the hand-written
loss, so they cannot detect an error in both. The others compare with JAX. A checker that raises any exception counts as
having noticed the fault.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads
from scipy.optimize import check_grad

import autodiff


@dataclass(frozen=True)
class HandWritten:
    """`loss(parameters)` and `gradients(parameters)`. Both parameters and gradients are dicts of arrays by name.

    They are separate functions, so that a checker that only needs the loss does not compute gradients.
    """

    loss: Callable[[Any], Any]
    gradients: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Peer:
    """A checker. `accepts(hand_written, parameters, x, y)` returns whether it finds no fault."""

    name: str
    distribution: str
    accepts: Callable[[HandWritten, dict[str, np.ndarray], np.ndarray, np.ndarray], bool]

    @property
    def version(self) -> str | None:
        """The version of the installed distribution; None if it is not installed."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None

    def notices(self, hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
        np.random.seed(0)  # noqa: NPY002  (autograd and SciPy draw directions from the global generator)
        try:
            with np.errstate(all="ignore"):
                return not self.accepts(hand_written, parameters, x, y)
        except Exception:
            return True


def _flat(tree: dict[str, Any], names: Iterable[str]) -> np.ndarray:
    return np.concatenate([np.ravel(tree[name]) for name in names])


def _unflat(vector: np.ndarray, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts = np.split(vector, np.cumsum([leaf.size for leaf in like.values()])[:-1])
    return {name: part.reshape(leaf.shape) for (name, leaf), part in zip(like.items(), parts, strict=True)}


def _torch(hand_written: HandWritten, parameters: Any, fast_mode: bool) -> bool:
    torch: Any = import_module("torch")
    names = tuple(parameters)

    def arrays(leaves: Any) -> dict[str, np.ndarray]:
        return {name: leaf.detach().numpy() for name, leaf in zip(names, leaves, strict=True)}

    class Network(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *leaves: Any) -> Any:
            ctx.save_for_backward(*leaves)
            return torch.tensor(float(hand_written.loss(arrays(leaves))), dtype=torch.float64)

        @staticmethod
        def backward(ctx: Any, *output_gradients: Any) -> Any:
            gradients = hand_written.gradients(arrays(ctx.saved_tensors))
            # PyTorch cannot convert arrays with negative strides.
            tensors = {name: torch.as_tensor(np.ascontiguousarray(g)) for name, g in gradients.items()}
            return tuple(output_gradients[0] * tensors[name] if name in tensors else None for name in names)

    torch.manual_seed(0)
    leaves = [torch.tensor(parameters[name], requires_grad=True) for name in names]
    return torch.autograd.gradcheck(Network.apply, leaves, fast_mode=fast_mode)


def torch_slow(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    return _torch(hand_written, parameters, fast_mode=False)


def torch_fast(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    return _torch(hand_written, parameters, fast_mode=True)


def jax_check_grads(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), parameters)
    scalar = jax.ShapeDtypeStruct((), np.float64)

    @jax.custom_vjp
    def network(parameters: Any) -> Any:
        return jax.pure_callback(
            lambda p: np.asarray(hand_written.loss(jax.tree.map(np.asarray, p))), scalar, parameters
        )

    def backward(parameters: Any, output_gradient: Any) -> Any:
        found = jax.pure_callback(lambda p: hand_written.gradients(jax.tree.map(np.asarray, p)), shapes, parameters)
        return (jax.tree.map(lambda g: output_gradient * g, found),)

    network.defvjp(lambda parameters: (network(parameters), parameters), backward)
    with _x64_in_every_thread():  # JAX runs callbacks in threads of its own
        check_grads(network, (jax.tree.map(jnp.asarray, parameters),), order=1, modes=("rev",))
    return True


@contextmanager
def _x64_in_every_thread() -> Iterator[None]:
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def hips_autograd(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    extend: Any = import_module("autograd.extend")
    test_util: Any = import_module("autograd.test_util")
    names = tuple(parameters)

    @extend.primitive
    def network(*leaves: Any) -> Any:
        return float(hand_written.loss(dict(zip(names, leaves, strict=True))))

    def derivative(name: str) -> Callable[..., Any]:
        def with_respect_to(answer: Any, *leaves: Any) -> Any:
            return lambda g: g * hand_written.gradients(dict(zip(names, leaves, strict=True)))[name]

        return with_respect_to

    extend.defvjp(network, *map(derivative, names))
    everything = tuple(range(len(names)))
    test_util.check_grads(network, everything, modes=["rev"], order=1)(*parameters.values())
    return True


def scipy_check_grad(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    """SciPy returns the norm of the difference and has no threshold. It is 1e-6 here."""

    def loss(vector: np.ndarray) -> float:
        return float(hand_written.loss(_unflat(vector, parameters)))

    def gradient(vector: np.ndarray) -> np.ndarray:
        return _flat(hand_written.gradients(_unflat(vector, parameters)), parameters)

    return bool(check_grad(loss, gradient, _flat(parameters, parameters)) <= 1e-6)


def numdifftools_gradient(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    """numdifftools returns derivatives and has no threshold. It is 1e-6 for the norm of the difference here."""
    numdifftools: Any = import_module("numdifftools")

    def loss(vector: np.ndarray) -> float:
        return float(hand_written.loss(_unflat(vector, parameters)))

    found = numdifftools.Gradient(loss)(_flat(parameters, parameters))
    return bool(np.linalg.norm(found - _flat(hand_written.gradients(parameters), parameters)) <= 1e-6)


def numpy_testing(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    """`assert_allclose` of the loss and all gradients with those of JAX, at the defaults rtol=1e-7 and atol=0."""
    loss, gradients = autodiff.loss_and_gradients(parameters, x, y)
    np.testing.assert_allclose(hand_written.loss(parameters), loss)
    found = hand_written.gradients(parameters)
    for name in parameters:
        np.testing.assert_allclose(found[name], np.asarray(gradients[name]))
    return True


def cs231n(hand_written: HandWritten, parameters: Any, x: Any, y: Any) -> bool:
    """The course's `eval_numerical_gradient` (centered, h = 1e-5) and `rel_error`, "1e-7 or less is happy".

    Stanford CS231n, notes "Gradient checks" and the code of its assignments.
    """
    h = 1e-5
    vector = _flat(parameters, parameters)
    numeric = np.empty_like(vector)
    for i, value in enumerate(vector):
        vector[i] = value + h
        above = hand_written.loss(_unflat(vector, parameters))
        vector[i] = value - h
        below = hand_written.loss(_unflat(vector, parameters))
        vector[i] = value
        numeric[i] = (above - below) / (2 * h)
    analytic = _flat(hand_written.gradients(parameters), parameters)
    error = np.abs(analytic - numeric) / np.maximum(1e-8, np.abs(analytic) + np.abs(numeric))
    return bool(np.max(error) <= 1e-7)


PEERS = (
    Peer("torch gradcheck", "torch", torch_slow),
    Peer("torch gradcheck, fast mode", "torch", torch_fast),
    Peer("jax check_grads", "jax", jax_check_grads),
    Peer("HIPS autograd check_grads", "autograd", hips_autograd),
    Peer("scipy check_grad < 1e-6", "scipy", scipy_check_grad),
    Peer("numdifftools < 1e-6", "numdifftools", numdifftools_gradient),
    Peer("numpy assert_allclose to JAX", "numpy", numpy_testing),
    Peer("CS231n rel_error < 1e-7", "numpy", cs231n),
)
