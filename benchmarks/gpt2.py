"""Seconds of a training step of GPT-2: by hand, by JAX, by PyTorch, and by its matrix products alone.

    python -m benchmarks.gpt2 [--steps N] [--batch 4] [--tokens 64] [--preset gpt2-124m] [--contestants manual ...]

A step is forward, backward and AdamW, in float32 on the CPU, from the same weights on the same random tokens; so all
contestants should print the same losses. Each has a process of its own, where its peak memory is taken, and all take
turns, step by step, so that a busy machine is busy for all. PyTorch (eager, fused AdamW) runs if it can be imported.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from manual import transformer

RATE = 3e-4


@dataclass(frozen=True)
class Settings:
    preset: str
    batch: int
    tokens: int

    @property
    def sizes(self) -> dict[str, Any]:
        return transformer.PRESETS[self.preset]

    @property
    def heads(self) -> int:
        return self.sizes["heads"]

    def parameters(self) -> dict[str, Any]:
        return transformer.initialize_parameters(**self.sizes, dtype=np.float32)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids, and the same moved on by one as targets."""
        random = np.random.default_rng(0)
        tokens = random.integers(0, self.sizes["vocabulary"], (self.batch, self.tokens + 1))
        return tokens[:, :-1], tokens[:, 1:]


# What a step returns: the loss, and the seconds until there were gradients and until they were used.
Step = Callable[[], tuple[float, float, float]]


def timed(gradients: Callable[[], tuple[Any, Any]], update: Callable[[Any], None]) -> Step:
    """`gradients() -> (loss, gradients)` and `update(gradients)`, each returning when it is done."""

    def step() -> tuple[float, float, float]:
        start = time.perf_counter()
        loss, found = gradients()
        middle = time.perf_counter()
        update(found)
        del found  # the time to give its memory back belongs to the step
        return float(loss), middle - start, time.perf_counter() - middle

    return step


def by_hand(settings: Settings) -> Step:
    from manual.optimizers import adamw

    parameters, (ids, targets) = settings.parameters(), settings.data()
    optimizer = adamw(RATE)
    state = optimizer.initialize(parameters)

    def gradients() -> tuple[Any, Any]:
        return transformer.loss_and_gradients(parameters, ids, targets, heads=settings.heads)

    def update(gradients: Any) -> None:
        nonlocal parameters, state
        parameters, state = optimizer.update(parameters, gradients, state, donate=True)

    return timed(gradients, update)


def by_jax(settings: Settings) -> Step:
    import jax

    from autodiff import transformer
    from autodiff.optimizers import adamw

    parameters = transformer.initialize_parameters(**settings.sizes, dtype=np.float32)
    ids, targets = settings.data()
    optimizer = adamw(RATE)
    state = optimizer.initialize(parameters)
    compiled_update = jax.jit(optimizer.update, donate_argnums=(0, 2))

    def gradients() -> tuple[Any, Any]:
        return jax.block_until_ready(transformer.loss_and_gradients(parameters, ids, targets, heads=settings.heads))

    def update(gradients: Any) -> None:
        nonlocal parameters, state
        parameters, state = jax.block_until_ready(compiled_update(parameters, gradients, state))

    return timed(gradients, update)


def by_torch(settings: Settings) -> Step:
    torch: Any = import_module("torch")
    functional: Any = import_module("torch.nn.functional")
    leaves: list[Any] = []

    def tensors(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: tensors(child) for name, child in tree.items()}
        if isinstance(tree, list):
            return [tensors(child) for child in tree]
        leaves.append(torch.from_numpy(tree).requires_grad_())
        return leaves[-1]

    p = tensors(settings.parameters())
    ids, targets = map(torch.from_numpy, settings.data())
    optimizer = torch.optim.AdamW(leaves, lr=RATE, weight_decay=0.01, fused=True)
    batch, time_, width, heads = *ids.shape, settings.sizes["width"], settings.heads

    def norm(x: Any, p: Any) -> Any:
        return functional.layer_norm(x, (width,), **p)

    def dense(x: Any, p: Any) -> Any:
        return torch.addmm(p["bias"], x.reshape(batch * time_, -1), p["weight"]).view(batch, time_, -1)

    def loss() -> Any:
        x = functional.embedding(ids, p["token_embedding"]) + p["position_embedding"][:time_]
        for block in p["blocks"]:
            packed = dense(norm(x, block["norm1"]), block["qkv"])
            q, k, v = packed.view(batch, time_, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + dense(attended.transpose(1, 2), block["projection"])
            active = functional.gelu(dense(norm(x, block["norm2"]), block["up"]), approximate="tanh")
            x = x + dense(active, block["down"])
        logits = functional.linear(norm(x, p["norm"]), p["token_embedding"])
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def gradients() -> tuple[Any, Any]:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value.item(), None

    return timed(gradients, lambda _: optimizer.step())


def matrix_products(settings: Settings) -> Step:
    """The floor: every matrix product of a step by hand, into memory that is there already."""
    parameters, random = settings.parameters(), np.random.default_rng(0)
    rows, width, heads = settings.batch * settings.tokens, settings.sizes["width"], settings.heads

    def some(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32)

    products: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def dense(weight: np.ndarray) -> None:
        inputs, outputs = weight.shape
        x, dy = some(rows, inputs), some(rows, outputs)
        dweight = np.empty_like(weight)  # in the memory layout of the weight
        products.append((x, weight, np.empty_like(dy)))
        products.append((dy, weight.T, np.empty_like(x)))
        products.append((x.T, dy, dweight) if dweight.flags.c_contiguous else (dy.T, x, dweight.T))

    dense(parameters["token_embedding"].T)
    for block in parameters["blocks"]:
        for name in ("qkv", "projection", "up", "down"):
            dense(block[name]["weight"])
    q, s = (some(settings.batch, heads, settings.tokens, n) for n in (width // heads, settings.tokens))
    products += [(q, q.swapaxes(2, 3), np.empty_like(s))] * 2 * settings.sizes["layers"]  # scores, and their gradient
    products += [(s, q, np.empty_like(q))] * 4 * settings.sizes["layers"]  # the value, and gradients of q, k and v

    def gradients() -> tuple[Any, Any]:
        for a, b, out in products:
            np.matmul(a, b, out=out)
        return np.nan, None

    return timed(gradients, lambda _: None)


CONTESTANTS: dict[str, Callable[[Settings], Step]] = {
    "manual": by_hand,
    "autodiff": by_jax,
    "torch": by_torch,
    "products": matrix_products,
}


def serve(name: str, settings: Settings, connection: Any) -> None:
    """In a process of its own: prepare, then do a step for each message that is true, and answer with its result."""
    step = CONTESTANTS[name](settings)
    connection.send(step())  # the first compiles and finds memory
    while connection.recv():
        connection.send((*step(), peak_gib()))
    connection.close()


def peak_gib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


@dataclass
class Result:
    first_loss: float
    last_loss: float = np.nan
    gradients: list[float] = field(default_factory=list)
    update: list[float] = field(default_factory=list)
    peak: float = 0.0

    @property
    def step(self) -> list[float]:
        return [a + b for a, b in zip(self.gradients, self.update, strict=True)]


def measure(settings: Settings, names: Sequence[str], steps: int) -> dict[str, Result]:
    processes = multiprocessing.get_context("spawn")
    results: dict[str, Result] = {}
    connections: dict[str, Any] = {}
    with ExitStack() as stack:
        for name in names:
            ours, theirs = processes.Pipe()
            process = processes.Process(target=serve, args=(name, settings, theirs), daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.join)
            stack.callback(ours.send, False)
            connections[name] = ours
            results[name] = Result(ours.recv()[0])
            print(f"{name} is ready", file=sys.stderr)
        for _ in range(steps):
            for name, connection in connections.items():
                connection.send(True)
                result = results[name]
                result.last_loss, gradients, update, result.peak = connection.recv()
                result.gradients.append(gradients)
                result.update.append(update)
    return results


def show(settings: Settings, results: dict[str, Result]) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    steps = len(next(iter(results.values())).gradients)
    print(
        f"{settings.preset}, batch {settings.batch} of {settings.tokens} tokens, float32, {steps} steps after the "
        f"first; {os.cpu_count()} cores, load {load}; seconds, median (minimum)"
    )
    titles = ("", "forward + backward", "AdamW", "step", "peak GiB", "first loss", "last loss")
    print("{:10}{:>20}{:>18}{:>18}{:>10}{:>12}{:>12}".format(*titles))
    for name, result in results.items():
        parts = [f"{np.median(t):.3f} ({min(t):.3f})" for t in (result.gradients, result.update, result.step)]
        losses = [f"{loss:.6f}" if np.isfinite(loss) else "" for loss in (result.first_loss, result.last_loss)]
        print("{:10}{:>20}{:>18}{:>18}{:>10.2f}{:>12}{:>12}".format(name, *parts, result.peak, *losses))
    for name, result in results.items():
        if name != "manual" and "manual" in results:
            ratio = np.median(np.divide(results["manual"].step, result.step))
            print(f"a step of manual takes {ratio:.2f} times one of {name} (median over turns)")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after one that is not (5)")
    parser.add_argument("--batch", type=int, default=4, help="sequences (4)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each (64)")
    parser.add_argument("--preset", choices=list(transformer.PRESETS), default="gpt2-124m")
    parser.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS), metavar="NAME", help="some of them only")
    options = parser.parse_args(arguments)
    if min(options.steps, options.batch, options.tokens) < 1:
        parser.error("--steps, --batch and --tokens must be at least 1")
    names = options.contestants or [name for name in CONTESTANTS if name != "torch" or find_spec("torch")]
    settings = Settings(options.preset, options.batch, options.tokens)
    if options.tokens > settings.sizes["context"]:
        parser.error(f"--tokens must be at most {settings.sizes['context']}, the context of {options.preset}")
    show(settings, measure(settings, names, options.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
