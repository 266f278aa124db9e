"""The ops of the catalog, forward and backward, each at one realistic size: by hand, by JAX and by PyTorch.

The size of a workload is the name of an op; `SIZES` says how large it is.
"""

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from compare.bench.torch_device import Device
from compare.bench.workloads import Contestant, Runner, Workload
from compare.errors import unknown
from compare.suite.cases import Case


class Draw:
    """Random arrays in float32."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def x(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape, np.float32)

    def weight(self, *shape: int) -> np.ndarray:
        """Scaled to keep the variance of what goes through; the last axis is that of outputs."""
        return self.x(*shape) / np.float32(math.sqrt(math.prod(shape[:-1])))

    def distribution(self, *shape: int) -> np.ndarray:
        p = np.exp(self.x(*shape))
        return p / p.sum(axis=-1, keepdims=True)

    def labels(self) -> np.ndarray:
        return self.random.integers(0, 2, (1024, 1024))


def _elementwise(d: Draw) -> Case:
    return Case((d.x(1024, 1024),))


def _error(d: Draw) -> Case:
    return Case((d.x(1024, 1024),), {"targets": d.x(1024, 1024)})


def _recurrent(d: Draw, *, columns: int, states: int, biases: int) -> Case:
    initial = (d.x(32, 128) for _ in range(states))
    weights = (d.weight(128, columns), d.weight(128, columns))
    return Case((d.x(32, 64, 128), *initial, *weights, *(d.x(columns) for _ in range(biases))))


SIZES: dict[str, Callable[[Draw], Case]] = {
    "tanh": _elementwise,
    "sigmoid": _elementwise,
    "relu": _elementwise,
    "leaky_relu": _elementwise,
    "elu": _elementwise,
    "selu": _elementwise,
    "softplus": _elementwise,
    "gelu": _elementwise,
    "silu": _elementwise,
    "softmax": _elementwise,
    "log_softmax": _elementwise,
    "swiglu": lambda d: Case((d.x(1024, 1024), d.x(1024, 1024))),
    "attention": lambda d: Case(tuple(d.x(2, 512, 12, 64) for _ in range(3)), {"causal": True}),
    "rotary_embedding": lambda d: Case((d.x(2, 512, 12, 64), np.arange(512))),
    "multi_head_attention": lambda d: Case(
        (d.x(2, 512, 768), None, *(d.weight(768, 768) for _ in range(4)), *(d.x(768) for _ in range(4))),
        {"heads": 12, "causal": True},
    ),
    "dense": lambda d: Case((d.x(2048, 768), d.weight(768, 3072), d.x(3072))),
    "embedding": lambda d: Case((d.x(50257, 768), d.random.integers(0, 50257, 2048))),
    "dropout": lambda d: Case((d.x(1024, 1024), d.random.random((1024, 1024)) < 0.9), {"rate": 0.1}),
    "flatten": lambda d: Case((d.x(32, 28, 28, 64),)),
    "binary_cross_entropy": lambda d: Case((d.x(1024, 1024),), {"targets": d.labels()}),
    "cross_entropy": lambda d: Case((d.x(256, 50257),), {"targets": d.random.integers(0, 50257, 256)}),
    "mean_squared_error": _error,
    "mean_absolute_error": _error,
    "huber": _error,
    "hinge": lambda d: Case((d.x(1024, 1024),), {"targets": 2 * d.labels() - 1}),
    "kl_divergence": lambda d: Case((np.log(d.distribution(1024, 1024)),), {"targets": d.distribution(1024, 1024)}),
    "layer_norm": lambda d: Case((d.x(4096, 768), d.x(768), d.x(768))),
    "rms_norm": lambda d: Case((d.x(4096, 768), d.x(768))),
    "batch_norm": lambda d: Case((d.x(32, 28, 28, 64), d.x(64), d.x(64))),
    "batch_norm_inference": lambda d: Case(
        (d.x(32, 28, 28, 64), d.x(64), d.x(64)), {"mean": d.x(64), "variance": d.x(64) ** 2 + 1}
    ),
    "group_norm": lambda d: Case((d.x(32, 28, 28, 64), d.x(64), d.x(64)), {"groups": 8}),
    "rnn": lambda d: _recurrent(d, columns=128, states=1, biases=1),
    "lstm": lambda d: _recurrent(d, columns=512, states=2, biases=1),
    "gru": lambda d: _recurrent(d, columns=384, states=1, biases=2),
    "conv1d": lambda d: Case((d.x(16, 512, 64), d.weight(5, 64, 64), d.x(64)), {"padding": 2}),
    "conv2d": lambda d: Case((d.x(16, 28, 28, 64), d.weight(3, 3, 64, 64), d.x(64)), {"padding": 1}),
    "conv_transpose2d": lambda d: Case((d.x(16, 14, 14, 64), d.weight(3, 3, 64, 64), d.x(64)), {"stride": 2}),
    "max_pool2d": lambda d: Case((d.x(32, 56, 56, 64),), {"window": 2}),
    "average_pool2d": lambda d: Case((d.x(32, 56, 56, 64),), {"window": 2}),
    "global_average_pool": lambda d: Case((d.x(32, 56, 56, 64),)),
}

# PyTorch is faster with channels last in memory, as ours are, but for these.
CHANNELS_FIRST = ("group_norm", "conv1d", "global_average_pool")


def case_of(workload: Workload) -> Case:
    return SIZES[workload.size](Draw(workload.seed)).astype(workload.dtype)


def described(workload: Workload) -> str:
    """The shapes of the inputs, and the options."""
    case = case_of(workload)
    shapes = ["x".join(map(str, x.shape)) for x in case.inputs if isinstance(x, np.ndarray)]
    options = [f"{name}={value}" for name, value in case.options.items() if not isinstance(value, np.ndarray)]
    return ", ".join([*dict.fromkeys(shapes), *options])


def _cotangent(workload: Workload, case: Case) -> Any:
    """Random, of the shape of the value: from a stream of its own, so that it is no input again."""
    import jax

    from compare.suite.ops import catalog

    op = catalog()[workload.size]
    shapes = jax.eval_shape(partial(op.function, **case.options), *case.inputs)
    random = np.random.default_rng([workload.seed, 1])
    return jax.tree.map(lambda v: np.asarray(random.standard_normal(v.shape), v.dtype), shapes)


def _pull_back(workload: Workload) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """`(floating inputs, other arrays, cotangent) -> value, gradients` by JAX, and these three.

    Every array is an argument: of what stands in a program as a constant, XLA computes a part when it compiles.
    """
    import jax

    from compare.suite.ops import catalog

    op, case = catalog()[workload.size], case_of(workload)
    given: dict[int | str, Any] = {**dict(enumerate(case.inputs)), **case.options}
    arrays = {place: value for place, value in given.items() if isinstance(value, np.ndarray)}
    floating = {place: value for place, value in arrays.items() if isinstance(place, int) and value.dtype.kind == "f"}
    others = {place: value for place, value in arrays.items() if place not in floating}

    def forward_and_backward(values: Any, rest: Any, cotangent: Any) -> Any:
        def function(*values: Any) -> Any:
            call = given | dict(zip(others, rest, strict=True)) | dict(zip(floating, values, strict=True))
            options = {place: value for place, value in call.items() if isinstance(place, str)}
            return op.function(*(call[place] for place in range(len(case.inputs))), **options)

        value, backward = jax.vjp(function, *values)
        return value, backward(cotangent)

    return forward_and_backward, (list(floating.values()), list(others.values()), _cotangent(workload, case))


def traced(workload: Workload) -> Any:
    import jax

    function, arguments = _pull_back(workload)
    return jax.make_jaxpr(function)(*arguments)


def able(workload: Workload) -> list[str]:
    """Raises BadInput for an op that there is not."""
    from compare.bench.torch_ops import TORCH_OPS

    if workload.size not in SIZES:
        raise unknown("op", workload.size, SIZES)
    return [name for name in CONTESTANTS if name != "torch" or workload.size in TORCH_OPS]


def _repeated(step: Callable[[], tuple[Any, Any]], transfer: float | None = None) -> Runner:
    """By a step that returns when the value and the gradients are there."""
    last: list[Any] = []

    def run(steps: int) -> None:
        for _ in range(steps):
            last[:] = step()

    def outcome() -> dict[str, np.ndarray]:
        import jax

        leaves = [leaf.detach().cpu() if hasattr(leaf, "detach") else leaf for leaf in jax.tree.leaves(last)]
        return {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}

    return Runner(run, outcome, transfer)


def _manual(package: str, workload: Workload) -> Runner:
    from compare.suite.ops import catalog

    op, case = catalog(importlib.import_module(package))[workload.size], case_of(workload)
    cotangent = _cotangent(workload, case)

    def step() -> tuple[Any, Any]:
        value, cache = op.forward(*case.inputs, **case.options)
        return value, op.backward(cotangent, cache)

    return _repeated(step)


def _autodiff(workload: Workload) -> Runner:
    import jax

    from compare.bench.shallow import on_device

    function, arguments = _pull_back(workload)
    placed, transfer = on_device(*arguments)
    compiled = jax.jit(function)
    return _repeated(lambda: jax.block_until_ready(compiled(*placed)), transfer)


def _torch(workload: Workload) -> Runner:
    """Eager, in the memory layout that it prefers."""
    import jax

    from compare.bench.torch_ops import TORCH_OPS, as_tensors, torch

    device, case = Device(workload), case_of(workload)

    def placed(value: Any) -> Any:
        return device.put(as_tensors(value)) if isinstance(value, np.ndarray) else value

    inputs = [placed(x) for x in case.inputs]
    options = {option: placed(value) for option, value in case.options.items()}
    output_gradient = [placed(c) for c in jax.tree.leaves(_cotangent(workload, case))]
    if workload.size in CHANNELS_FIRST:
        inputs[0], *output_gradient = map(_channels_first, (inputs[0], *output_gradient))
    leaves = [x.requires_grad_() for x in inputs if torch.is_tensor(x) and x.is_floating_point()]

    def step() -> tuple[Any, Any]:
        value = TORCH_OPS[workload.size](*inputs, **options)
        gradients = torch.autograd.grad(jax.tree.leaves(value), leaves, output_gradient)
        device.wait()
        return value, gradients

    return _repeated(step, device.transfer)


def _channels_first(x: Any) -> Any:
    """The same numbers in another order of memory."""
    return x.movedim(-1, 1).contiguous().movedim(1, -1)


CONTESTANTS: dict[str, Contestant] = {
    "manual": Contestant(partial(_manual, "manual"), "forward and backward by hand, as on the page"),
    "manual-fast": Contestant(partial(_manual, "manual.fast"), "the same, made fast"),
    "autodiff": Contestant(_autodiff, "the forward and JAX's derivative of it, compiled as one"),
    "autodiff-fast": Contestant(
        _autodiff, "the same, in the precision of products that JAX has by default", on_cpu=False
    ),
    "torch": Contestant(_torch, "PyTorch, eager", "torch"),
}
