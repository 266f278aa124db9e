"""Contestants that train the networks of `verify --model`: steps of an optimizer, all on the same mini-batch.

The size of a workload is the name of a model, and its options are those of `compare.suite.models`.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from compare.bench.torch_device import Device
from compare.bench.workloads import Contestant, Runner, Workload, of_package

# The optimizers that PyTorch has as well, by our names, with the arguments that give them our defaults.
TORCH_OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {"weight_decay": 0.01}),
}


def _built(workload: Workload, package: str = "manual") -> tuple[Any, dict[str, Any], tuple[np.ndarray, ...]]:
    """The model, all its options with their defaults, and the mini-batch."""
    from compare.suite.models import build

    ops = import_module(package)
    model, options = build(workload.size, workload.options, seed=workload.seed, dtype=workload.dtype, ops=ops)
    return model, options, next(model.batches())


def described(workload: Workload) -> str:
    from compare.suite.models import settled

    options = settled(workload.size, workload.options)
    told = {name: value for name, value in options.items() if value is not None and name != "iterations"}
    return ", ".join(f"{name} {value}" for name, value in told.items())


def traced(workload: Workload) -> Any:
    import jax

    model, _, batch = _built(workload)
    return jax.make_jaxpr(jax.value_and_grad(model.loss))(model.parameters, *batch)


def able(workload: Workload) -> list[str]:
    from compare.suite.models import settled

    optimizer = settled(workload.size, workload.options)["optimizer"]
    torch = workload.size == "gpt" and optimizer in TORCH_OPTIMIZERS
    return [name for name in CONTESTANTS if name != "torch" or torch]


def _parameters(tree: Any) -> dict[str, np.ndarray]:
    from compare.pytrees import leaves_by_path

    return {path: np.asarray(leaf) for path, leaf in leaves_by_path(tree).items()}


def _manual(package: str, workload: Workload) -> Runner:
    model, options, batch = _built(workload, package)
    optimizer = import_module(f"{package}.optimizers").OPTIMIZERS[options["optimizer"]](options["learning_rate"])
    parameters, state = model.parameters, optimizer.initialize(model.parameters)

    def run(steps: int) -> None:
        nonlocal parameters, state
        losses = []
        for _ in range(steps):
            loss, gradients = model.loss_and_gradients(parameters, *batch)
            parameters, state = optimizer.update(parameters, gradients, state, donate=True)
            losses.append(loss)

    return of_package(package, Runner(run, lambda: _parameters(parameters)))


def _autodiff(workload: Workload) -> Runner:
    """A compiled step that is called from a loop in Python, as in `autodiff.training`."""
    import jax

    from autodiff.optimizers import OPTIMIZERS
    from compare.bench.shallow import on_device

    model, options, batch = _built(workload)
    optimizer = OPTIMIZERS[options["optimizer"]](options["learning_rate"])
    (parameters, batch), transfer = on_device(model.parameters, batch)
    state = optimizer.initialize(parameters)
    value_and_grad = jax.value_and_grad(model.loss)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters: Any, state: Any, *batch: Any) -> Any:
        loss, gradients = value_and_grad(parameters, *batch)
        return *optimizer.update(parameters, gradients, state), loss

    def run(steps: int) -> None:
        nonlocal parameters, state
        losses = []
        for _ in range(steps):
            parameters, state, loss = step(parameters, state, *batch)
            losses.append(loss)
        jax.block_until_ready((parameters, losses))

    return Runner(run, lambda: _parameters(parameters), transfer)


def _torch(workload: Workload) -> Runner:
    """The GPT in eager PyTorch, with PyTorch's fused attention and fused optimizer."""
    torch: Any = import_module("torch")
    device = Device(workload)
    model, options, batch = _built(workload)
    leaves: list[Any] = []

    def tensors(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: tensors(child) for name, child in tree.items()}
        if isinstance(tree, list):
            return [tensors(child) for child in tree]
        leaves.append(device.put(torch.from_numpy(tree)).requires_grad_())
        return leaves[-1]

    def arrays(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: arrays(child) for name, child in tree.items()}
        return [arrays(child) for child in tree] if isinstance(tree, list) else tree.detach().cpu().numpy()

    parameters = tensors(model.parameters)
    kind, keywords = TORCH_OPTIMIZERS[options["optimizer"]]
    optimizer = getattr(torch.optim, kind)(leaves, lr=options["learning_rate"], fused=True, **keywords)
    ids, targets = (device.put(torch.from_numpy(array)) for array in batch)
    loss = _torch_gpt(torch, parameters, ids, targets, heads=_heads(options))

    def run(steps: int) -> None:
        losses = []
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            optimizer.step()
            losses.append(value.detach())
        device.wait()

    return Runner(run, lambda: _parameters(arrays(parameters)), device.transfer)


def _heads(options: dict[str, Any]) -> int:
    from manual.transformer import PRESETS

    return PRESETS[options["preset"]]["heads"] if options["preset"] else options["heads"]


def _torch_gpt(torch: Any, p: Any, ids: Any, targets: Any, *, heads: int) -> Callable[[], Any]:
    """A function that computes the loss of `manual.transformer` with PyTorch's functions."""
    functional = torch.nn.functional
    (batch, time), width = ids.shape, p["token_embedding"].shape[1]

    def norm(x: Any, p: Any) -> Any:
        return functional.layer_norm(x, (width,), **p)

    def dense(x: Any, p: Any) -> Any:
        return torch.addmm(p["bias"], x.reshape(batch * time, -1), p["weight"]).view(batch, time, -1)

    def loss() -> Any:
        x = functional.embedding(ids, p["token_embedding"]) + p["position_embedding"][:time]
        for block in p["blocks"]:
            packed = dense(norm(x, block["norm1"]), block["qkv"])
            q, k, v = packed.view(batch, time, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + dense(attended.transpose(1, 2), block["projection"])
            active = functional.gelu(dense(norm(x, block["norm2"]), block["up"]), approximate="tanh")
            x = x + dense(active, block["down"])
        logits = functional.linear(norm(x, p["norm"]), p["token_embedding"])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return loss


CONTESTANTS: dict[str, Contestant] = {
    "manual": Contestant(partial(_manual, "manual"), "the readable derivation in NumPy"),
    "manual-fast": Contestant(
        partial(_manual, "manual.fast"), "the same, optimized for speed; parameters are updated in place"
    ),
    "autodiff": Contestant(_autodiff, "JAX, with the gradient and the update in one compiled step"),
    "autodiff-fast": Contestant(_autodiff, "the same in JAX's default precision of matrix products", on_cpu=False),
    "torch": Contestant(_torch, "PyTorch, eager, with its fused attention and optimizer", "torch"),
}
