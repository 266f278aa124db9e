"""Perturbed evaluation in PyTorch: a dispatch mode changes the result of every operation by its rounding error."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import math
from contextlib import suppress
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compare.judge.roundoff.perturbation import unit_roundoff, working_dtype
from compare.pytrees import as_array

# Operations without rounding errors: they only move or select entries, or create constants.
EXACT = frozenset(
    """
    _conj _conj_physical _neg_view _reshape_alias _to_copy _unsafe_view abs alias amax amin arange as_strided
    bitwise_and bitwise_not bitwise_or cat clamp clamp_max clamp_min clone complex conj_physical constant_pad_nd
    contiguous copy_ cummax cummin detach diagonal embedding empty empty_like eq expand fill_ flip full full_like
    gather ge gt hardtanh index index_put index_select kthvalue le lift_fresh lt masked_fill max
    max_pool2d_with_indices maximum median min minimum ne neg new_empty new_empty_strided new_zeros ones ones_like
    permute relu repeat reshape resolve_conj resolve_neg roll rot90 scalar_tensor select select_backward sgn sign
    slice slice_backward sort split squeeze stack t threshold_backward topk transpose tril triu unbind unfold
    unsqueeze view view_as_complex view_as_real where zeros zeros_like
    """.split()  # noqa: SIM905  # one name a line would fill two pages
)


# Operations whose accumulated rounding errors `_terms` knows.
SUMS = ("mm", "bmm", "addmm", "sum", "mean", "convolution", "convolution_backward")


class Rounding(TorchDispatchMode):
    """Perturbs the result of every operation by a random amount of the size of its rounding error.

    Results are rounded to `dtype`. Sums accumulate rounding errors in the dtype in which kernels form them, which is
    float32 if `dtype` has 16 bits.
    """

    def __init__(self, dtype: Any, seed: int) -> None:
        super().__init__()
        numpy_dtype = as_array(torch.zeros((), dtype=dtype)).dtype
        self.stored = unit_roundoff(numpy_dtype)
        self.work = unit_roundoff(working_dtype(numpy_dtype))
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        exact = name.rstrip("_") in EXACT or name in EXACT
        if not exact and name not in SUMS and function in decomposition_table:
            # A fused operation, such as the backward pass of softmax, has the rounding errors of all its steps. Some
            # decompositions do not accept all that the operation accepts; then it counts as a single step.
            with suppress(RuntimeError, TypeError), self:
                return decomposition_table[function](*args, **(kwargs or {}))
        result = function(*args, **(kwargs or {}))
        if exact or not any(map(_is_rounded, tree_leaves(result))):
            return result
        terms = _terms(function, args, result)

        def moved(x: Any, terms: Any) -> Any:
            if not _is_rounded(x):
                return x
            scale = self.stored * x.abs()
            if terms is not None and terms.shape == x.shape:
                # A uniform draw from [-s, s] has the standard deviation s / sqrt(3).
                scale = scale + 3**0.5 * self.work * terms
            change = scale * self._draw(x)
            if x.is_complex():  # the real and the imaginary part each have a rounding error
                change = torch.complex(change, scale * self._draw(x))
            return torch.where(torch.isfinite(change), x + change, x)

        if isinstance(result, tuple | list):
            terms = terms or (None,) * len(result)
            return type(result)(map(moved, result, terms)) if type(result) in (tuple, list) else result
        return moved(result, terms)

    def _draw(self, x: torch.Tensor) -> torch.Tensor:
        """Uniform random numbers between -1 and 1, in the shape of x."""
        return 2 * torch.rand(x.shape, generator=self.generator, dtype=torch.float64).to(x.device) - 1


def _is_rounded(x: Any) -> bool:
    """Whether x has rounding errors. A zero tensor, such as the tangent of a constant, has none and no memory."""
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex()) and not x._is_zerotensor()


def _terms(function: Any, args: Any, result: Any) -> Any:
    """The size to which the error of accumulation is proportional: sqrt(number of terms) * norm of the terms.

    None if the operation does not accumulate. For an operation with several results, it is a tuple.
    """
    name = function.overloadpacket.__name__
    if name in ("mm", "bmm", "addmm"):
        a, b = args[1:3] if name == "addmm" else args[:2]
        return a.shape[-1] ** 0.5 * (a.abs().square() @ b.abs().square()).sqrt()
    if name.startswith("_fft_"):  # log2(n) stages, each of which has errors of the size of a typical entry
        axes = args[1]
        stages = max(math.log2(math.prod(result.shape[axis] for axis in axes)), 1.0)
        return stages * result.abs().square().mean(axes, keepdim=True).sqrt().expand(result.shape)
    if name == "convolution":
        x, w = (a.abs().square() for a in args[:2])
        return w[0].numel() ** 0.5 * function(x, w, None, *args[3:]).sqrt()
    if name == "convolution_backward":
        squares = function(*(a.abs().square() for a in args[:3]), *args[3:])
        counts = args[2][:, :1].numel(), args[0][:, 0].numel(), args[0][:, 0].numel()
        return tuple(None if s is None else n**0.5 * s.sqrt() for s, n in zip(squares, counts, strict=True))
    if name in ("sum", "mean") and isinstance(args[0], torch.Tensor):
        x = args[0]
        axes = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else None
        keep = bool(args[2]) if len(args) > 2 and isinstance(args[2], bool) else False
        squares = x.abs().square()
        total = squares.sum() if axes is None else squares.sum(axes, keepdim=keep)
        count = x.numel() / max(total.numel(), 1)
        return count**0.5 * total.sqrt() / (count if name == "mean" else 1)
    return None
