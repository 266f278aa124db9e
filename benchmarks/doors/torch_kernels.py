"""Cases of compare.torch.check_function: custom functions that call PyTorch's own forward and backward kernels.

Each is a `torch.autograd.Function` whose backward pass calls PyTorch's kernel for it, such as `aten::gelu_backward`. It
is compared with the same formula in plain operations.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.doors.case import Case

ATEN = "PyTorch, aten"


def kernels() -> Iterator[Case]:
    try:
        import torch
        from torch.nn import functional
    except ImportError:
        return
    from compare.torch import check_function

    aten = torch.ops.aten

    class Kernel(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, rule: Any, change: Any, *inputs: Any) -> Any:
            ctx.rule, ctx.change = rule, change
            value, *saved = rule[0](*inputs)
            ctx.save_for_backward(*inputs, *saved)
            return value

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            found = ctx.rule[1](dy[0], *ctx.saved_tensors)
            first, *rest = found if isinstance(found, tuple) else (found,)
            return None, None, ctx.change(first), *rest

    def drawn(*shape: int, seed: int = 0) -> Any:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    x, w, b = drawn(6, 16), drawn(16, seed=1), drawn(16, seed=2)
    image, filters = drawn(2, 3, 6, 6), drawn(4, 3, 3, 3, seed=1)
    convolution = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)

    # By name: forward pass, backward pass, reference, inputs.
    rules: dict[str, tuple[Any, Any, Callable[..., Any], tuple[Any, ...]]] = {
        "gelu": (lambda x: (aten.gelu(x),), lambda dy, x: aten.gelu_backward(dy, x),
                 lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2, (x,)),
        "silu": (lambda x: (aten.silu(x),), lambda dy, x: aten.silu_backward(dy, x),
                 lambda x: x * torch.sigmoid(x), (x,)),
        "softplus": (lambda x: (aten.softplus(x),), lambda dy, x: aten.softplus_backward(dy, x, 1, 20),
                     lambda x: torch.logaddexp(x, 0 * x), (x,)),
        "hardtanh": (lambda x: (aten.hardtanh(x),), lambda dy, x: aten.hardtanh_backward(dy, x, -1, 1),
                     lambda x: torch.clamp(x, -1, 1), (x,)),
        "softmax": (lambda x: ((p := aten._softmax(x, -1, False)), p),
                    lambda dy, x, p: aten._softmax_backward_data(dy, p, -1, x.dtype),
                    lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True)), (x,)),
        "log softmax": (lambda x: ((p := aten._log_softmax(x, -1, False)), p),
                        lambda dy, x, p: aten._log_softmax_backward_data(dy, p, -1, x.dtype),
                        lambda x: x - torch.logsumexp(x, -1, keepdim=True), (x,)),
        "layer norm": (lambda x, w, b: aten.native_layer_norm(x, [16], w, b, 1e-5),
                       lambda dy, x, w, b, mean, r: aten.native_layer_norm_backward(
                           dy, x, [16], mean, r, w, b, [True] * 3),
                       lambda x, w, b: (x - x.mean(-1, keepdim=True))
                       / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * w + b, (x, w, b)),
        "group norm": (lambda x: aten.native_group_norm(x, None, None, 2, 4, 36, 2, 1e-5),
                       lambda dy, x, mean, r: aten.native_group_norm_backward(
                           dy.contiguous(), x, mean, r, None, 2, 4, 36, 2, [True, False, False])[0],
                       lambda x: ((g := x.reshape(2, 2, -1)) - g.mean(-1, keepdim=True)).div(
                           (g.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()).reshape(x.shape),
                       (drawn(2, 4, 6, 6),)),
        "convolution": (lambda x, f: (aten.convolution(x, f, None, *convolution),),
                        lambda dy, x, f: aten.convolution_backward(
                            dy, x, f, [0], *convolution, [True, True, False])[:2],
                        lambda x, f: torch.einsum("nchwij,kcij->nkhw", functional.pad(x, (1, 1, 1, 1)).unfold(
                            2, 3, 1).unfold(3, 3, 1), f), (image, filters)),
        "max pooling": (lambda x: aten.max_pool2d_with_indices(x, [2, 2], [2, 2]),
                        lambda dy, x, i: aten.max_pool2d_with_indices_backward(
                            dy, x, [2, 2], [2, 2], [0, 0], [1, 1], False, i),
                        lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)), (image,)),
        "average pooling": (lambda x: (aten.avg_pool2d(x, [2, 2], [2, 2]),),
                            lambda dy, x: aten.avg_pool2d_backward(dy, x, [2, 2], [2, 2], [0, 0], False, True, None),
                            lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)), (image,)),
        "cumulative sum": (lambda x: (aten.cumsum(x, 1),), lambda dy, x: dy.flip(1).cumsum(1).flip(1),
                           lambda x: x @ torch.ones(16, 16, dtype=x.dtype).triu(), (x,)),
    }  # fmt: skip
    changes: dict[str, Callable[[Any], Any]] = {
        "negated": lambda g: -g,
        "2% too large": lambda g: 1.02 * g,
        "its last row zero": lambda g: torch.cat([g[:-1], 0 * g[-1:]]),
        "shifted by one": lambda g: g.roll(1, -1),
    }

    def check(name: str, change: Any, dtype: Any, **options: Any) -> Any:
        forward, backward, reference, inputs = rules[name]

        def function(*inputs: Any) -> Any:
            return Kernel.apply((forward, backward), change, *inputs)

        return check_function(function, reference, *(t.to(dtype) for t in inputs), **options)

    for number, name in enumerate(rules):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            words = f"{name}, {str(dtype).removeprefix('torch.')}"
            yield Case(words, ATEN, False, lambda n=name, d=dtype: check(n, lambda g: g, d))
        for what, change in list(changes.items())[number % 2 :: 2]:
            yield Case(f"{name}, {what}", "planted", True, lambda n=name, c=change: check(n, c, torch.float32))

    class Intermediate(torch.autograd.Function):
        """It saves a tensor that is neither an input nor an output, so that double backward is silently wrong."""

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.saved, ctx.x = x.exp(), x
            return x * ctx.saved

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * (ctx.saved + ctx.x * ctx.saved)

    def as_it_lies(dy: Any, x: Any, mean: Any, r: Any) -> Any:
        """The kernel requires a contiguous output gradient, and autograd makes it contiguous before."""
        return aten.native_group_norm_backward(dy, x, mean, r, None, 2, 4, 36, 2, [True, False, False])[0]

    forward, _, reference, (groups,) = rules["group norm"]
    yield Case("group norm of what is not contiguous", ATEN, True, lambda: check_function(
        lambda x: Kernel.apply((forward, as_it_lies), lambda g: g, x), reference, groups))  # fmt: skip

    def twice(x: Any) -> Any:
        return check_function(Intermediate.apply, lambda x: x * x.exp(), x, order=2)

    yield Case("a double backward through what was saved", "torch #76185, #104040", True, lambda: twice(x))
    yield Case("silu in forward mode", ATEN, False, lambda: check_function(
        aten.silu, lambda x: x * torch.sigmoid(x), x, forward_mode=True))  # fmt: skip
    yield Case("a double backward of a formula", ATEN, False, lambda: check_function(
        torch.nn.functional.mish, lambda x: x * torch.tanh(functional.softplus(x)), x, order=2))  # fmt: skip
