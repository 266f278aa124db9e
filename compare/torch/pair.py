"""Both functions: how they are called and differentiated, with their inputs and outputs."""

# PyTorch is optional: where it is not installed, nothing is known of its names.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from compare.errors import BadInput
from compare.judge.evaluation.static_arguments import positional_names
from compare.pytrees import as_array


@dataclass
class Pair:
    """Both functions, and what is known about them before they are evaluated."""

    function: Callable[..., Any]
    reference: Callable[..., Any]
    tensors: tuple[Any, ...]
    seed: int
    names: tuple[str, ...] | None
    places: list[bool] = field(default_factory=list)
    dtype: Any = None

    def __post_init__(self) -> None:
        self.places = [isinstance(x, torch.Tensor) and x.is_floating_point() for x in self.tensors]
        moving = [x.dtype for x, place in zip(self.tensors, self.places, strict=True) if place]
        moving += [p.dtype for p in self.parameters_of(self.function).values()]
        if not moving:
            raise BadInput("none of the tensors is a floating-point one: there is nothing to differentiate.")
        self.dtype = max(
            moving, key=lambda dtype: torch.finfo(dtype).eps
        )  # the coarsest dtype, which determines the rounding error
        self.names = (
            self.names or _names_of(self.reference, len(self.tensors)) or _names_of(self.function, len(self.tensors))
        )
        if self.names is None or len(self.names) != len(self.tensors):
            self.names = tuple(f"input {i}" for i in range(len(self.tensors)))

    @staticmethod
    def parameters_of(function: Any) -> dict[str, torch.Tensor]:
        return dict(function.named_parameters()) if isinstance(function, torch.nn.Module) else {}

    def labels(self) -> list[str]:
        assert self.names is not None
        return [name for name, place in zip(self.names, self.places, strict=True) if place]

    def exact(self) -> tuple[Callable[..., Any], dict[str, torch.Tensor]]:
        """The reference in float64, and its parameters by name."""
        if not isinstance(self.reference, torch.nn.Module):
            return self.reference, {}
        module = copy.deepcopy(self.reference).double()
        own = self.parameters_of(self.function)
        if own:
            named = dict(module.named_parameters())
            if named.keys() != own.keys():
                lacking = sorted(own.keys() ^ named.keys())
                raise BadInput(
                    f"the reference must have the module's parameters, but they differ in {', '.join(lacking)}."
                )
            with torch.no_grad():
                for name, parameter in named.items():
                    parameter.copy_(own[name].double())
        return module, dict(module.named_parameters())


def _names_of(function: Callable[..., Any], count: int) -> tuple[str, ...] | None:
    if isinstance(function, torch.nn.Module):
        function = function.forward
    found = tuple(positional_names(function, count))
    return found if len(found) == count else None


def run(
    function: Callable[..., Any],
    parameters: dict[str, torch.Tensor],
    pair: Pair,
    tensors: tuple[Any, ...],
    cotangents: list[torch.Tensor] | None = None,
    needed: set[str] | None = None,
    who: str = "function",
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor | None]]:
    """(outputs, gradients by name) of a function at detached copies of the tensors."""
    given, leaves = [], {}
    labels = iter(pair.labels())
    for x, place in zip(tensors, pair.places, strict=True):
        if not place:
            given.append(x)
            continue
        name = next(labels)
        leaf = _same_layout(x.detach()).requires_grad_(needed is None or name in needed)
        given.append(leaf)
        if leaf.requires_grad:
            leaves[name] = leaf
    leaves |= {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    result = function(*given)
    outputs = tensors_of(result, who)
    cotangents = cotangents_of(pair, outputs) if cotangents is None else cotangents
    if len(outputs) != len(cotangents):
        raise BadInput(f"function returns {len(cotangents)} tensors, and the reference {len(outputs)}.")
    used = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not used:
        raise BadInput(
            f"autograd finds no dependence of the result of {who} on its inputs, so nothing can be "
            "differentiated. Look for detach(), .data, numpy() or torch.no_grad() in it."
        )
    for o, c in used:
        if o.shape != c.shape:
            raise BadInput(
                f"function returns a tensor of shape {tuple(c.shape)}, and the reference one of {tuple(o.shape)}."
            )
    gradients = torch.autograd.grad(
        [o for o, _ in used], list(leaves.values()), [c.to(o.dtype) for o, c in used], allow_unused=True
    )
    return [o.detach() for o in outputs], dict(zip(leaves, gradients, strict=True))


def tensors_of(result: Any, who: str) -> list[torch.Tensor]:
    """The floating-point tensors among a function's results. Raises BadInput, a ValueError, if there are none."""
    found = [result] if isinstance(result, torch.Tensor) else list(result) if isinstance(result, tuple | list) else []
    tensors = [x for x in found if isinstance(x, torch.Tensor) and x.is_floating_point()]
    if not tensors:
        raise BadInput(
            f"{who} must return a floating-point tensor, or a tuple of them, but it returns {type(result).__name__}."
        )
    return tensors


def _same_layout(x: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides, so that the caller's tensor is not modified."""
    if 0 in x.stride():
        return x.clone()
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)


def cotangents_of(pair: Pair, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1_000_003 + pair.seed)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype).to(o.device) for o in outputs]


def doubled(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in tensors)


def as_numpy(x: torch.Tensor | None, like: Any = None) -> np.ndarray:
    return np.zeros(like.shape, as_array(like.detach().cpu()).dtype) if x is None else as_array(x.detach().cpu())
