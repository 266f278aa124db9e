"""Contestants that train the notebook's network on all examples at once: ours, and other libraries.

A size is FEATURESxHIDDENxEXAMPLES. The network has one output, the labels come from a random linear model with noise,
and the optimizer is plain gradient descent. Every contestant records the loss before each step, as training does.
"""

import re
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import manual
from compare.bench.torch_device import Device
from compare.bench.workloads import Contestant, Runner, Workload
from compare.errors import BadInput

SIZES = ("2x4x400", "30x32x569", "64x128x1797", "784x128x1024", "784x512x4096")
RATE = 0.1

Data = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def sizes_of(size: str) -> tuple[int, int, int]:
    """The numbers of features, hidden units and examples. Raises BadInput for an invalid size."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", size)
    sizes = tuple(int(number) for number in match.groups()) if match else ()
    if len(sizes) != 3 or not all(sizes):
        raise BadInput(f"a size is FEATURESxHIDDENxEXAMPLES, such as {SIZES[1]}; got {size!r}.")
    features, hidden, examples = sizes
    return features, hidden, examples


def data(workload: Workload) -> Data:
    """x, y and the initial parameters, in the shapes that `manual` takes."""
    features, hidden, examples = sizes_of(workload.size)
    random = np.random.default_rng(workload.seed)
    x = random.standard_normal((features, examples))
    y = random.standard_normal((1, features)) @ x + 0.5 * random.standard_normal((1, examples)) > 0
    scale = features**-0.5
    start = manual.initialize_parameters(features, hidden, 1, seed=workload.seed, scale=scale, dtype=workload.dtype)
    return x.astype(workload.dtype), y.astype(workload.dtype), start


def described(workload: Workload) -> str:
    features, hidden, examples = sizes_of(workload.size)
    return f"{features} features, {hidden} hidden units, {examples} examples"


def traced(workload: Workload) -> Any:
    import jax

    from autodiff import shallow

    x, y, start = data(workload)
    return jax.make_jaxpr(shallow.loss_and_gradients)(start, x, y)


def able(workload: Workload) -> list[str]:
    """All contestants. Raises BadInput for an invalid size."""
    sizes_of(workload.size)
    return list(CONTESTANTS)


# ---------------------------------------------------------------------------------------------- ours


def _trained(train: Callable[..., Any], start: Any, *data: Any, transfer: float | None = None) -> Runner:
    """A runner that calls a training loop, `train(parameters, *data, iterations=..., learning_rate=...)`."""
    parameters = start

    def run(steps: int) -> None:
        nonlocal parameters
        parameters, losses = train(parameters, *data, iterations=steps, learning_rate=RATE)
        for waits in (losses, *parameters.values()):
            getattr(waits, "block_until_ready", bool)()

    return Runner(run, lambda: _arrays(parameters), transfer)


def _arrays(parameters: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in parameters.items()}


def _manual(workload: Workload) -> Runner:
    x, y, start = data(workload)
    return _trained(manual.train, start, x, y)


def _manual_fast(workload: Workload) -> Runner:
    from manual.fast.shallow import train

    x, y, start = data(workload)
    return _trained(train, start, x, y)


def on_device(*trees: Any) -> tuple[Any, float | None]:
    """The pytrees as JAX arrays on the default device, and the seconds of the transfer; None for the CPU."""
    import jax

    (device,) = jax.block_until_ready(jax.device_put(0.0)).devices()  # initializes the device before the clock starts
    begin = time.perf_counter()
    placed = jax.block_until_ready(jax.device_put(trees))
    return placed, None if device.platform == "cpu" else time.perf_counter() - begin


def _autodiff(workload: Workload) -> Runner:
    import autodiff

    (x, y, start), transfer = on_device(*data(workload))
    return _trained(autodiff.train, start, x, y, transfer=transfer)


# --------------------------------------------------------------------------------------------- peers


def _jax_expert(workload: Workload) -> Runner:
    """A training loop for this network only, as an expert in JAX would write it: the whole loop runs on the device."""
    import jax
    import jax.numpy as jnp

    (x, y, start), transfer = on_device(*data(workload))

    def loss(p: Any, x: Any, y: Any) -> Any:
        z = p["W2"] @ jnp.tanh(p["W1"] @ x + p["b1"]) + p["b2"]
        return jnp.sum(jnp.maximum(z, 0) - y * z + jnp.log1p(jnp.exp(-jnp.abs(z)))) / x.shape[1]

    @partial(jax.jit, donate_argnums=0, static_argnums=4)
    def block(p: Any, x: Any, y: Any, steps: Any, room: int) -> Any:
        def step(i: Any, carry: Any) -> Any:
            p, losses = carry
            value, gradients = jax.value_and_grad(loss)(p, x, y)
            return jax.tree.map(lambda q, dq: q - RATE * dq, p, gradients), losses.at[i].set(value)

        return jax.lax.fori_loop(0, steps, step, (p, jnp.zeros(room, x.dtype)))

    def train(parameters: Any, x: Any, y: Any, *, iterations: int, learning_rate: float) -> Any:
        done, losses = 0, []
        while done < iterations:
            steps = min(1024, iterations - done)
            parameters, some = block(parameters, x, y, steps, 1024)
            losses.append(some)
            done += steps
        return parameters, losses[-1]

    return _trained(train, jax.tree.map(jnp.array, start), x, y, transfer=transfer)


def _optax(workload: Workload) -> Runner:
    """A compiled step of our gradient and Optax's update, which is called from a loop in Python."""
    import jax

    from autodiff import shallow

    optax: Any = import_module("optax")
    (x, y, parameters), transfer = on_device(*data(workload))
    optimizer = optax.sgd(RATE)
    state = optimizer.init(parameters)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = shallow.loss_and_gradients(parameters, x, y)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    def run(steps: int) -> None:
        nonlocal parameters, state
        losses = []
        for _ in range(steps):
            parameters, state, loss = step(parameters, state, x, y)
            losses.append(loss)
        jax.block_until_ready((parameters, losses))

    return Runner(run, lambda: _arrays(parameters), transfer)


def _torch(compiled: bool, workload: Workload) -> Runner:
    """PyTorch's own form of the network: rows are examples, and `linear` adds the bias."""
    torch: Any = import_module("torch")
    functional: Any = import_module("torch.nn.functional")
    device = Device(workload)
    columns_x, columns_y, start = data(workload)
    x, y = (device.put(torch.from_numpy(np.ascontiguousarray(array.T))) for array in (columns_x, columns_y))
    flat = {"W1": start["W1"], "b1": start["b1"][:, 0], "W2": start["W2"], "b2": start["b2"][:, 0]}
    parameters = {name: device.put(torch.tensor(value)).requires_grad_() for name, value in flat.items()}

    def loss_of(W1: Any, b1: Any, W2: Any, b2: Any) -> Any:
        z = functional.linear(torch.tanh(functional.linear(x, W1, b1)), W2, b2)
        return functional.binary_cross_entropy_with_logits(z, y)

    loss_function = torch.compile(loss_of) if compiled else loss_of

    def run(steps: int) -> None:
        losses = []
        for _ in range(steps):
            loss = loss_function(**parameters)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            with torch.no_grad():
                for value, gradient in zip(parameters.values(), gradients, strict=True):
                    value.sub_(gradient, alpha=RATE)
            losses.append(loss.detach())
        device.wait()

    def outcome() -> dict[str, np.ndarray]:
        return {name: value.detach().cpu().numpy().reshape(start[name].shape) for name, value in parameters.items()}

    return Runner(run, outcome, device.transfer)


def _sklearn(workload: Workload) -> Runner:
    """scikit-learn's MLPClassifier, with its other features, such as momentum and early stopping, switched off."""
    neural_network: Any = import_module("sklearn.neural_network")
    x, y, start = data(workload)
    rows, labels = np.ascontiguousarray(x.T), y[0].astype(int)
    model = neural_network.MLPClassifier(
        (start["W1"].shape[0],),
        activation="tanh",
        solver="sgd",
        alpha=0,
        batch_size=len(rows),
        learning_rate_init=RATE,
        momentum=0,
        nesterovs_momentum=False,
        shuffle=False,
        tol=0,
        n_iter_no_change=2**31,
        warm_start=True,
        max_iter=1,
        random_state=0,
    )

    def run(steps: int) -> None:
        model.max_iter = steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it has not converged
            model.fit(rows, labels)

    run(1)  # the first fit creates the parameters, which are then replaced
    model.coefs_ = [np.ascontiguousarray(start[name].T) for name in ("W1", "W2")]
    model.intercepts_ = [start[name][:, 0].copy() for name in ("b1", "b2")]

    def outcome() -> dict[str, np.ndarray]:
        found = dict(zip(("W1", "W2", "b1", "b2"), [*model.coefs_, *model.intercepts_], strict=True))
        return {name: value.T.reshape(start[name].shape) for name, value in found.items()}

    return Runner(run, outcome)


def _hips(workload: Workload) -> Runner:
    """HIPS autograd, which records every NumPy operation in each step and differentiates the record."""
    hips: Any = import_module("autograd")
    numpy: Any = import_module("autograd.numpy")
    x, y, parameters = data(workload)

    def loss(p: Any) -> Any:
        z = p["W2"] @ numpy.tanh(p["W1"] @ x + p["b1"]) + p["b2"]
        return numpy.sum(numpy.maximum(z, 0) - y * z + numpy.log1p(numpy.exp(-numpy.abs(z)))) / x.shape[1]

    value_and_grad = hips.value_and_grad(loss)

    def run(steps: int) -> None:
        nonlocal parameters
        losses = []
        for _ in range(steps):
            value, gradients = value_and_grad(parameters)
            parameters = {name: q - RATE * gradients[name] for name, q in parameters.items()}
            losses.append(value)

    return Runner(run, lambda: parameters)


CONTESTANTS: dict[str, Contestant] = {
    "manual": Contestant(_manual, "manual.train: the readable derivation in NumPy"),
    "manual-fast": Contestant(_manual_fast, "manual.fast.shallow.train: the same, with preallocated memory"),
    "autodiff": Contestant(_autodiff, "autodiff.train: JAX, with the loop on the device"),
    "autodiff-fast": Contestant(_autodiff, "the same in JAX's default precision of matrix products", on_cpu=False),
    "jax-expert": Contestant(_jax_expert, "a loop in JAX written for this network only"),
    "optax": Contestant(_optax, "our gradient with Optax's update, one call for each step", "optax"),
    "torch": Contestant(partial(_torch, False), "eager PyTorch", "torch"),
    "torch-compiled": Contestant(partial(_torch, True), "PyTorch with torch.compile", "torch"),
    "sklearn": Contestant(_sklearn, "scikit-learn's MLPClassifier"),
    "hips": Contestant(_hips, "HIPS autograd", "autograd"),
}
