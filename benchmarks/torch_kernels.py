"""Checks kernels in PyTorch in three dtypes, and counts the backward passes of a check.

    python -m benchmarks.torch_kernels [--seeds N]

Each kernel is a custom function that is compared with an eager reference, both in its correct version and with a first
gradient that is 2% too large. The command exits with 1 if a correct kernel disagrees, a wrong one does not, or a check
takes more than thirty backward passes.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from compare.torch import check_function

MOST = 30  # the largest number of backward passes of a check

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def drawn(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Kernel(torch.autograd.Function):
    """A custom function by a rule, (forward, backward). `change` is applied to its gradients, to plant a fault."""

    @staticmethod
    def forward(ctx, rule, change, *inputs):
        value, saved = rule[0](*inputs)
        ctx.rule, ctx.change, ctx.count = rule, change, len(inputs)
        ctx.save_for_backward(*saved)
        return value

    @staticmethod
    def backward(ctx, dy):
        return None, None, *ctx.change(ctx.rule[1](dy, *ctx.saved_tensors))


def unchanged(gradients):
    return gradients


def wide(*tensors):
    """The tensors, with 16-bit ones converted to float32, in which kernels compute."""
    return [x.float() if x.dtype in (torch.bfloat16, torch.float16) else x for x in tensors]


def rms_norm(x, w):
    a, b = wide(x, w)
    s = torch.rsqrt((a * a).mean(-1, keepdim=True) + 1e-6)
    return (a * s * b).to(x.dtype), (x, w)


def rms_norm_backward(dy, x, w):
    g, a, b = wide(dy, x, w)
    s = torch.rsqrt((a * a).mean(-1, keepdim=True) + 1e-6)
    n = a * s
    d = g * b
    dx = s * (d - n * (d * n).mean(-1, keepdim=True))
    return dx.to(x.dtype), (g * n).sum(0).to(w.dtype)


def swiglu(x, y):
    a, b = wide(x, y)
    return (a * torch.sigmoid(a) * b).to(x.dtype), (x, y)


def swiglu_backward(dy, x, y):
    g, a, b = wide(dy, x, y)
    s = torch.sigmoid(a)
    return (g * b * (s + a * s * (1 - s))).to(x.dtype), (g * a * s).to(y.dtype)


def softmax(x):
    (a,) = wide(x)
    p = torch.softmax(a, -1).to(x.dtype)
    return p, (p,)


def softmax_backward(dy, p):
    g, q = wide(dy, p)
    return ((q * (g - (g * q).sum(-1, keepdim=True))).to(p.dtype),)


def linear(x, w, b):
    return x @ w + b, (x, w)


def linear_backward(dy, x, w):
    return dy @ w.T, x.T @ dy, dy.sum(0)


def attention(q, k, v):
    p = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
    return p @ v, (q, k, v, p)


def attention_backward(do, q, k, v, p):
    dp = do @ v.transpose(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdim=True)) * q.shape[-1] ** -0.5
    return ds @ k, ds.transpose(-1, -2) @ q, p.transpose(-1, -2) @ do


def embedding(table, ids):
    return table[ids], (ids, table)


def embedding_backward(dy, ids, table):
    d = torch.zeros_like(table, dtype=torch.promote_types(table.dtype, torch.float32))
    return d.index_add(0, ids, dy.to(d.dtype)).to(table.dtype), None


RULES = {
    "rms_norm": (rms_norm, rms_norm_backward, lambda x, w: functional.rms_norm(x, x.shape[-1:], w, 1e-6)),
    "swiglu": (swiglu, swiglu_backward, lambda x, y: functional.silu(x) * y),
    "softmax": (softmax, softmax_backward, lambda x: torch.softmax(x, -1)),
    "linear": (linear, linear_backward, lambda x, w, b: x @ w + b),
    "attention": (attention, attention_backward, lambda q, k, v: functional.scaled_dot_product_attention(q, k, v)),
    "embedding": (embedding, embedding_backward, lambda table, ids: functional.embedding(ids, table)),
}
SHAPES = {
    "rms_norm": [(32, 64), (64,)], "swiglu": [(32, 64), (32, 64)], "softmax": [(64, 128)],
    "linear": [(32, 64), (64, 48), (48,)], "attention": [(2, 32, 16)] * 3, "embedding": [(20, 64)],
}  # fmt: skip


def inputs(name, dtype, seed=0):
    tensors = [drawn(10 * seed + i, *shape, dtype=dtype) for i, shape in enumerate(SHAPES[name])]
    ids = torch.randint(20, (64,), generator=torch.Generator().manual_seed(seed))
    return [*tensors, ids] if name == "embedding" else tensors


def judged(name, dtype, change=unchanged, seed=0, **options):
    def kernel(*tensors):
        return Kernel.apply(RULES[name][:2], change, *tensors)

    return check_function(kernel, RULES[name][2], *inputs(name, dtype, seed), seed=seed, **options)


def backward_passes(check):
    """The result of a check, and the number of its backward passes."""
    passes, grad = [], torch.autograd.grad
    torch.autograd.grad = lambda *args, **options: (passes.append(1), grad(*args, **options))[1]
    try:
        return check(), len(passes)
    finally:
        torch.autograd.grad = grad


def measure(seeds):
    """For each dtype: the verdicts on correct and on wrong kernels, and the largest number of backward passes."""
    found = {}
    for dtype in DTYPES:
        right, wrong, most = Counter(), Counter(), 0
        for name in RULES:
            for seed in range(seeds):
                report, passes = backward_passes(lambda n=name, s=seed, d=dtype: judged(n, d, seed=s))
                right[report.verdict.name] += 1
                most = max(most, passes)
            report, passes = backward_passes(
                lambda n=name, d=dtype: judged(n, d, lambda gradients: (1.02 * gradients[0], *gradients[1:]))
            )
            wrong[report.verdict.name] += 1
            most = max(most, passes)
        found[str(dtype)] = right, wrong, most
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="checks of each kernel and dtype (20)")
    found = measure(parser.parse_args(arguments).seeds)
    table = Table("dtype", "correct", "AGREE", "DISAGREE", "2% wrong", "caught", "backward passes, at most")
    for dtype, (right, wrong, most) in found.items():
        counts = right.total(), right["AGREE"], right["DISAGREE"], wrong.total(), wrong["DISAGREE"], most
        table.add_row(dtype, *map(str, counts))
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    print(f"PyTorch {torch.__version__}")
    good = all(
        not right["DISAGREE"] and wrong["DISAGREE"] == wrong.total() and most <= MOST
        for right, wrong, most in found.values()
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
