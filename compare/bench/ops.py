"""Contestants that evaluate one op of the catalog, forward and backward: by hand, by JAX and by PyTorch.

The size of a workload is the name of an op, such as "dense", or the name with the lengths of its axes, such as
"dense:2048x768x3072". `SIZES` says for each op which axes these are, and its default lengths, which are realistic.
"""

import importlib
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from compare.bench.torch_device import Device
from compare.bench.workloads import Contestant, Runner, Workload, of_package
from compare.errors import BadInput, unknown
from compare.suite.cases import Case


class Draw:
    """Draws random arrays, in float32 where they are floating-point."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def x(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape, np.float32)

    def weight(self, *shape: int) -> np.ndarray:
        """A weight whose last axis is that of the outputs, scaled so that the outputs have the inputs' variance."""
        return self.x(*shape) / np.float32(math.sqrt(math.prod(shape[:-1])))

    def distribution(self, *shape: int) -> np.ndarray:
        p = np.exp(self.x(*shape))
        return p / p.sum(axis=-1, keepdims=True)

    def labels(self, *shape: int) -> np.ndarray:
        return self.random.integers(0, 2, shape)


class Size(NamedTuple):
    """How the inputs of an op depend on the size.

    Attributes:
        axes: the names of the lengths that make up a size.
        usual: the default lengths.
        case: `case(draw, *lengths)` returns the inputs and options of the op.
    """

    axes: str
    usual: tuple[int, ...]
    case: Callable[..., Case]

    def __str__(self) -> str:
        return f"{self.axes.upper().replace(' ', 'x')}, such as {'x'.join(map(str, self.usual))}"


def _table(case: Callable[..., Case], rows: int = 1024, columns: int = 1024) -> Size:
    return Size("rows columns", (rows, columns), case)


def _images(case: Callable[..., Case], side: int, batch: int = 32) -> Size:
    return Size("batch height width channels", (batch, side, side, 64), case)


def _elementwise(d: Draw, *shape: int) -> Case:
    return Case((d.x(*shape),))


def _two(d: Draw, *shape: int) -> Case:
    return Case((d.x(*shape), d.x(*shape)))


def _error(d: Draw, *shape: int) -> Case:
    return Case((d.x(*shape),), {"targets": d.x(*shape)})


def _recurrent(columns: int, states: int, biases: int) -> Size:
    """A recurrent op whose weights have `columns` columns for each hidden unit: one for each gate and candidate."""

    def case(d: Draw, batch: int, length: int, width: int) -> Case:
        initial = (d.x(batch, width) for _ in range(states))
        weights = (d.weight(width, columns * width), d.weight(width, columns * width))
        return Case((d.x(batch, length, width), *initial, *weights, *(d.x(columns * width) for _ in range(biases))))

    return Size("batch length features", (32, 64, 128), case)


def _of_tokens(case: Callable[..., Case]) -> Size:
    return Size("batch length heads features", (2, 512, 12, 64), case)


def _attention(d: Draw, *shape: int) -> Case:
    return Case(tuple(d.x(*shape) for _ in range(3)), {"causal": True})


def _multi_head(d: Draw, batch: int, length: int, heads: int, features: int) -> Case:
    width = heads * features
    weights, biases = (d.weight(width, width) for _ in range(4)), (d.x(width) for _ in range(4))
    return Case((d.x(batch, length, width), None, *weights, *biases), {"heads": heads, "causal": True})


def _normalized(d: Draw, *shape: int, **options: Any) -> Case:
    return Case((d.x(*shape), d.x(shape[-1]), d.x(shape[-1])), options)


SIZES: dict[str, Size] = {
    "tanh": _table(_elementwise),
    "sigmoid": _table(_elementwise),
    "relu": _table(_elementwise),
    "leaky_relu": _table(_elementwise),
    "elu": _table(_elementwise),
    "selu": _table(_elementwise),
    "softplus": _table(_elementwise),
    "gelu": _table(_elementwise),
    "silu": _table(_elementwise),
    "softmax": _table(_elementwise),
    "log_softmax": _table(_elementwise),
    "swiglu": _table(_two),
    "attention": _of_tokens(_attention),
    "rotary_embedding": _of_tokens(lambda d, *shape: Case((d.x(*shape), np.arange(shape[1])))),
    "multi_head_attention": _of_tokens(_multi_head),
    "dense": Size(
        "rows inputs outputs", (2048, 768, 3072), lambda d, m, n, k: Case((d.x(m, n), d.weight(n, k), d.x(k)))
    ),
    "embedding": Size(
        "tokens vocabulary features",
        (2048, 50257, 768),
        lambda d, tokens, vocabulary, n: Case((d.x(vocabulary, n), d.random.integers(0, vocabulary, tokens))),
    ),
    "dropout": _table(lambda d, *shape: Case((d.x(*shape), d.random.random(shape) < 0.9), {"rate": 0.1})),
    "flatten": _images(_elementwise, 28),
    "binary_cross_entropy": _table(lambda d, *shape: Case((d.x(*shape),), {"targets": d.labels(*shape)})),
    "cross_entropy": _table(
        lambda d, rows, classes: Case((d.x(rows, classes),), {"targets": d.random.integers(0, classes, rows)}),
        256,
        50257,
    ),
    "mean_squared_error": _table(_error),
    "mean_absolute_error": _table(_error),
    "huber": _table(_error),
    "hinge": _table(lambda d, *shape: Case((d.x(*shape),), {"targets": 2 * d.labels(*shape) - 1})),
    "kl_divergence": _table(
        lambda d, *shape: Case((np.log(d.distribution(*shape)),), {"targets": d.distribution(*shape)})
    ),
    "layer_norm": _table(_normalized, 4096, 768),
    "rms_norm": _table(lambda d, *shape: Case((d.x(*shape), d.x(shape[-1]))), 4096, 768),
    "batch_norm": _images(_normalized, 28),
    "batch_norm_inference": _images(
        lambda d, *shape: _normalized(d, *shape, mean=d.x(shape[-1]), variance=d.x(shape[-1]) ** 2 + 1), 28
    ),
    "group_norm": _images(lambda d, *shape: _normalized(d, *shape, groups=8), 28),
    "rnn": _recurrent(1, states=1, biases=1),
    "lstm": _recurrent(4, states=2, biases=1),
    "gru": _recurrent(3, states=1, biases=2),
    "conv1d": Size(
        "batch length channels",
        (16, 512, 64),
        lambda d, *shape: Case((d.x(*shape), d.weight(5, shape[-1], shape[-1]), d.x(shape[-1])), {"padding": 2}),
    ),
    "conv2d": _images(
        lambda d, *shape: Case((d.x(*shape), d.weight(3, 3, shape[-1], shape[-1]), d.x(shape[-1])), {"padding": 1}),
        28,
        batch=16,
    ),
    "conv_transpose2d": _images(
        lambda d, *shape: Case((d.x(*shape), d.weight(3, 3, shape[-1], shape[-1]), d.x(shape[-1])), {"stride": 2}),
        14,
        batch=16,
    ),
    "max_pool2d": _images(lambda d, *shape: Case((d.x(*shape),), {"window": 2}), 56),
    "average_pool2d": _images(lambda d, *shape: Case((d.x(*shape),), {"window": 2}), 56),
    "global_average_pool": _images(_elementwise, 56),
}

# Our arrays have the channels last in memory. PyTorch is faster with that layout, too, except for these ops.
CHANNELS_FIRST = ("group_norm", "conv1d", "global_average_pool")


def op_of(workload: Workload) -> str:
    return workload.size.partition(":")[0]


def numbers_of(workload: Workload) -> tuple[int, ...]:
    """The lengths that the size of the workload gives, or the default ones. Raises BadInput for an invalid size."""
    (name, _, given), size = workload.size.partition(":"), SIZES[op_of(workload)]
    if not given:
        return size.usual
    found = re.fullmatch(r"\d+(x\d+)*", given)
    numbers = tuple(map(int, given.split("x"))) if found else ()
    if len(numbers) != len(size.usual) or not all(numbers):
        raise BadInput(f"a size of {name} is {size}; got {given!r}.")
    return numbers


def case_of(workload: Workload) -> Case:
    return SIZES[op_of(workload)].case(Draw(workload.seed), *numbers_of(workload)).astype(workload.dtype)


def described(workload: Workload) -> str:
    """The shapes of the inputs and the options of the op."""
    case = case_of(workload)
    shapes = ["x".join(map(str, x.shape)) for x in case.inputs if isinstance(x, np.ndarray)]
    options = [f"{name}={value}" for name, value in case.options.items() if not isinstance(value, np.ndarray)]
    return ", ".join([*dict.fromkeys(shapes), *options])


def _cotangent(workload: Workload, case: Case) -> Any:
    """A random cotangent of the op's value. It has its own random stream, so that it does not repeat an input."""
    import jax

    from compare.suite.ops import catalog

    op = catalog()[op_of(workload)]
    shapes = jax.eval_shape(partial(op.function, **case.options), *case.inputs)
    random = np.random.default_rng([workload.seed, 1])
    return jax.tree.map(lambda v: np.asarray(random.standard_normal(v.shape), v.dtype), shapes)


def _pull_back(workload: Workload) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The op and its vector-Jacobian product in JAX, with the arguments of that function.

    Every array is an argument, because XLA may evaluate operations on constants during compilation.

    Returns:
        A function `(floating-point inputs, other arrays, cotangent) -> (value, gradients)`, and its three arguments.
    """
    import jax

    from compare.suite.ops import catalog

    op, case = catalog()[op_of(workload)], case_of(workload)
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
    """The contestants that have the op. Raises BadInput for an unknown op or an invalid size."""
    from compare.bench.torch_ops import TORCH_OPS

    if op_of(workload) not in SIZES:
        raise unknown("op", op_of(workload), SIZES)
    numbers_of(workload)
    return [name for name in CONTESTANTS if name != "torch" or op_of(workload) in TORCH_OPS]


def _repeated(step: Callable[[], tuple[Any, Any]], transfer: float | None = None) -> Runner:
    """A runner that repeats a step. The step returns (value, gradients) when both are computed."""
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

    op, case = catalog(importlib.import_module(package))[op_of(workload)], case_of(workload)
    cotangent = _cotangent(workload, case)

    def step() -> tuple[Any, Any]:
        value, cache = op.forward(*case.inputs, **case.options)
        return value, op.backward(cotangent, cache)

    return of_package(package, _repeated(step))


def _autodiff(workload: Workload) -> Runner:
    import jax

    from compare.bench.shallow import on_device

    function, arguments = _pull_back(workload)
    placed, transfer = on_device(*arguments)
    compiled = jax.jit(function)
    return _repeated(lambda: jax.block_until_ready(compiled(*placed)), transfer)


def _torch(workload: Workload) -> Runner:
    """Eager PyTorch, with inputs in the memory layout in which it is fastest."""
    import jax

    from compare.bench.torch_ops import TORCH_OPS, as_tensors, torch

    device, case = Device(workload), case_of(workload)

    def placed(value: Any) -> Any:
        return device.put(as_tensors(value)) if isinstance(value, np.ndarray) else value

    inputs = [placed(x) for x in case.inputs]
    options = {option: placed(value) for option, value in case.options.items()}
    output_gradient = [placed(c) for c in jax.tree.leaves(_cotangent(workload, case))]
    if op_of(workload) in CHANNELS_FIRST:
        inputs[0], *output_gradient = map(_channels_first, (inputs[0], *output_gradient))
    leaves = [x.requires_grad_() for x in inputs if torch.is_tensor(x) and x.is_floating_point()]

    def step() -> tuple[Any, Any]:
        value = TORCH_OPS[op_of(workload)](*inputs, **options)
        gradients = torch.autograd.grad(jax.tree.leaves(value), leaves, output_gradient)
        device.wait()
        return value, gradients

    return _repeated(step, device.transfer)


def _channels_first(x: Any) -> Any:
    """The same array of the same shape, stored in memory with the channels before the spatial axes."""
    return x.movedim(-1, 1).contiguous().movedim(1, -1)


CONTESTANTS: dict[str, Contestant] = {
    "manual": Contestant(partial(_manual, "manual"), "the readable forward and backward pass in NumPy"),
    "manual-fast": Contestant(partial(_manual, "manual.fast"), "the same, optimized for speed"),
    "autodiff": Contestant(_autodiff, "the forward pass and JAX's derivative of it, compiled as one program"),
    "autodiff-fast": Contestant(_autodiff, "the same in JAX's default precision of matrix products", on_cpu=False),
    "torch": Contestant(_torch, "eager PyTorch", "torch"),
}
