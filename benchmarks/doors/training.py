"""Cases of check_trajectory: optimizers of PyTorch and scikit-learn, compared with optax, and faults of training."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.doors.case import Case
from benchmarks.measure import run_trajectory
from benchmarks.reported_faults import FAULTS
from benchmarks.trajectory_faults import TRAJECTORY_FAULTS
from compare import check_trajectory

W = np.random.default_rng(0).standard_normal((4, 3))
BATCHES = [(x,) for x in np.random.default_rng(1).standard_normal((6, 8, 4))]


def loss(w: Any, x: Any) -> Any:
    return jnp.mean((jnp.tanh(x @ w) - 0.3) ** 2)


def gradient(w: Any, x: Any) -> Any:
    t = np.tanh(x @ w)
    return x.T @ (2 * (t - 0.3) * (1 - t**2)) / t.size


def trajectories() -> Iterator[Case]:
    yield from _of_libraries()
    for fault in TRAJECTORY_FAULTS[:16]:
        yield Case(fault.name, "planted", True, lambda fault=fault: run_trajectory(fault))
    for fault in FAULTS:
        if fault.door == "trajectory":
            yield Case(fault.name, fault.source, True, lambda fault=fault: fault.report(broken=True))
            yield Case(f"{fault.name}, mended", fault.source, False, lambda fault=fault: fault.report(broken=False))


def _of_libraries() -> Iterator[Case]:
    try:
        import optax
        import torch
    except ImportError:
        return
    pairs: dict[str, tuple[Any, dict[str, Any], Any]] = {
        "SGD": (torch.optim.SGD, {"lr": 0.1}, optax.sgd(0.1)),
        "SGD with momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, optax.sgd(0.1, 0.9)),
        "SGD, Nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, optax.sgd(0.1, 0.9, True)),
        "SGD, weight decay": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.01}, optax.chain(
            optax.add_decayed_weights(0.01), optax.sgd(0.1))),
        "Adam": (torch.optim.Adam, {"lr": 0.01}, optax.adam(0.01)),
        "AdamW": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}, optax.adamw(0.01, weight_decay=0.1)),
        "RMSprop": (torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9}, optax.rmsprop(0.01, 0.9, 1e-8, eps_in_sqrt=False)),
        "RMSprop, centered": (torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "centered": True}, optax.rmsprop(
            0.01, 0.9, 1e-8, centered=True, eps_in_sqrt=False)),
    }  # fmt: skip
    for name, (kind, options, transformation) in pairs.items():
        yield Case(
            f"torch.optim, {name}", "PyTorch, optax", False, lambda k=kind, o=options, t=transformation: _pair(k, o, t)
        )
    wrong = {
        "the rate": optax.adam(0.011),
        "beta2": optax.adam(0.01, b2=0.99),
        "epsilon": optax.adam(0.01, eps=1e-4),
    }
    for name, transformation in wrong.items():
        yield Case(f"torch.optim, Adam, {name}", "planted", True, lambda t=transformation: _pair(
            torch.optim.Adam, {"lr": 0.01}, t))  # fmt: skip


# The names in PyTorch of the parts of an optimizer's state, by their names in optax.
NAMES = {
    "trace": ("momentum_buffer",),
    "mu": ("exp_avg", "grad_avg"),
    "nu": ("exp_avg_sq", "square_avg"),
    "count": ("step",),
}


def _pair(kind: Any, options: dict[str, Any], transformation: Any) -> Any:
    """A step by PyTorch, whose state is converted from and to that of optax, and the step by optax."""
    import optax
    import torch

    def by_hand(w: Any, state: Any, x: Any) -> Any:
        leaves, tree = jax.tree_util.tree_flatten_with_path(state)
        parameter = torch.nn.Parameter(torch.tensor(w))
        optimizer = kind([parameter], **options)
        for path, leaf in leaves:
            for name in NAMES[path[-1].name]:
                dtype = torch.float32 if name == "step" else parameter.dtype
                optimizer.state[parameter][name] = torch.tensor(leaf, dtype=dtype)
        if leaves:  # the state of RMSprop in optax has no count
            optimizer.state[parameter].setdefault("step", torch.tensor(0.0))
        parameter.grad = torch.tensor(gradient(w, x))
        optimizer.step()
        kept = optimizer.state[parameter]
        last = {path[-1].name: NAMES[path[-1].name] for path, _ in leaves}
        known = {name: words[("centered" in options) * (len(words) - 1)] for name, words in last.items()}
        if kind is torch.optim.RMSprop:
            known |= {"nu": "square_avg"}
        new = [np.asarray(kept[known[path[-1].name]]).astype(leaf.dtype) for path, leaf in leaves]
        return parameter.detach().numpy(), jax.tree.unflatten(tree, new)

    def reference(w: Any, state: Any, x: Any) -> Any:
        updates, state = transformation.update(jax.grad(loss)(w, x), state, w)
        return optax.apply_updates(w, updates), state

    with jax.enable_x64(True):
        state = jax.tree.map(np.asarray, transformation.init(jnp.asarray(W)))
    return check_trajectory(by_hand, reference, W, BATCHES, state=state)
