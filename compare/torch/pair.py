"""Both functions with their inputs: how they are called and differentiated."""

# PyTorch is optional, and pyright cannot resolve its names where it is not installed.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from compare.errors import BadInput
from compare.judge.evaluation.static_arguments import positional_names
from compare.pytrees import as_array


@dataclass
class Pair:
    """Both functions and their inputs.

    Attributes:
        function: the function under test.
        reference: the same function in PyTorch operations.
        tensors: the inputs of both.
        seed: the seed of everything random in the check.
        names: the names of the inputs in the report; if None, they are found from the signatures.
        places: for each input, whether it is differentiated.
        dtype: the coarsest dtype of the differentiated inputs and parameters, which determines the rounding error.
        modified: the inputs and output gradients that the function under test modified in place so far.
    """

    function: Callable[..., Any]
    reference: Callable[..., Any]
    tensors: tuple[Any, ...]
    seed: int
    names: tuple[str, ...] | None
    places: list[bool] = field(default_factory=list)
    dtype: Any = None
    modified: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _refuse_what_cannot_be_called(self.function, "function")
        _refuse_what_cannot_be_called(self.reference, "the reference")
        self.names = (
            self.names or _names_of(self.reference, len(self.tensors)) or _names_of(self.function, len(self.tensors))
        )
        if self.names is None or len(self.names) != len(self.tensors):
            self.names = tuple(f"input {i}" for i in range(len(self.tensors)))
        parameters = self.parameters_of(self.function)
        for name, x in [*zip(self.names, self.tensors, strict=True), *parameters.items()]:
            _refuse_complex(x, name)
        self.places = [isinstance(x, torch.Tensor) and x.is_floating_point() for x in self.tensors]
        moving = [x.dtype for x, place in zip(self.tensors, self.places, strict=True) if place]
        moving += [p.dtype for p in parameters.values()]
        if not moving:
            raise BadInput("none of the inputs is a floating-point tensor: there is nothing to differentiate.")
        self.dtype = max(moving, key=lambda dtype: torch.finfo(dtype).eps)

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


def _refuse_what_cannot_be_called(function: Any, who: str) -> None:
    kind = function if isinstance(function, type) else type(function)
    if issubclass(kind, torch.autograd.Function):
        raise BadInput(f"{who} is {kind.__name__}, a torch.autograd.Function: pass {kind.__name__}.apply.")
    if kind is function:
        raise BadInput(f"{who} is the class {kind.__name__}: pass an instance of it, or a function.")
    if not callable(function):
        raise BadInput(f"{who} must be a function, got {kind.__name__}.")


def _refuse_complex(x: Any, name: str) -> None:
    if isinstance(x, torch.Tensor) and x.is_complex():
        raise BadInput(
            f"{name} is a complex tensor ({x.dtype}), and complex tensors are not supported. Let both functions take "
            "and return real ones: torch.view_as_real and torch.view_as_complex convert between the two."
        )


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
    """Evaluate a function at copies of the tensors, and differentiate it by autograd.

    Args:
        function: the function.
        parameters: its parameters by name, if it is a module.
        pair: both functions.
        tensors: the inputs.
        cotangents: the output gradients; by default, random ones.
        needed: the names of the inputs that require a gradient; by default, all that are differentiated.
        who: what the function is called in errors.

    Returns:
        (outputs, gradients by name).

    Raises:
        BadInput: a ValueError, if the function cannot be differentiated, modifies an input in place, or returns tensors
            whose number or shapes differ from those of the cotangents.
    """
    given, leaves, originals = [], {}, {}
    labels = iter(pair.labels())
    for x, place in zip(tensors, pair.places, strict=True):
        if not place:
            given.append(x)
            continue
        name = next(labels)
        leaf = _same_layout(x.detach()).requires_grad_(needed is None or name in needed)
        given.append(leaf)
        originals[name] = leaf, x
        if leaf.requires_grad:
            leaves[name] = leaf
    leaves |= {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    with unchanged(function):  # each call begins with the same buffers, such as running means
        return _differentiated(function, given, leaves, originals, pair, cotangents, who)


def _differentiated(
    function: Callable[..., Any],
    given: list[Any],
    leaves: dict[str, torch.Tensor],
    originals: dict[str, tuple[torch.Tensor, torch.Tensor]],
    pair: Pair,
    cotangents: list[torch.Tensor] | None,
    who: str,
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor | None]]:
    try:
        result = function(*given)
    except RuntimeError as error:
        if "leaf Variable that requires grad" not in str(error):
            raise
        raise BadInput(
            f"{who} modifies one of its inputs in place. PyTorch does not allow that for a leaf tensor that requires a "
            "gradient, so it cannot be differentiated. Let it modify a copy, as in lambda x: f(x.clone()). In a "
            "module, set inplace=False."
        ) from None
    outputs = tensors_of(result, who)
    cotangents = cotangents_of(pair, outputs) if cotangents is None else cotangents
    if len(outputs) != len(cotangents):
        raise BadInput(f"function returns {len(cotangents)} tensors, and the reference {len(outputs)}.")
    used = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not used:
        raise BadInput(
            f"autograd finds no dependence of the result of {who} on its inputs, so there is nothing to differentiate. "
            "Look for detach(), .data, numpy() or torch.no_grad() in it."
        )
    for o, c in used:
        if o.shape != c.shape:
            raise BadInput(
                f"function returns a tensor of shape {tuple(c.shape)}, and the reference one of {tuple(o.shape)}."
            )
    upstream = [c.to(o.dtype) for o, c in used]
    # PyTorch itself refuses to write to an expanded tensor, and a copy of one would not be expanded.
    copied = [c if 0 in c.stride() else _same_layout(c) for c in upstream]
    gradients = torch.autograd.grad([o for o, _ in used], list(leaves.values()), copied, allow_unused=True)
    if function is pair.function:
        changed = [name for name, (leaf, x) in originals.items() if not _equal(leaf.detach(), x.detach())]
        if not all(map(_equal, copied, upstream)):
            changed.append("the output gradient")
        pair.modified += [name for name in changed if name not in pair.modified]
    return [o.detach() for o in outputs], dict(zip(leaves, gradients, strict=True))


@contextmanager
def unchanged(*functions: Any) -> Iterator[None]:
    """Restores the buffers of modules, such as running means, which a call in training mode modifies."""
    modules = [m for f in functions if isinstance(f, torch.nn.Module) for m in f.modules()]
    kept = [
        (m, name, x, x.detach().clone())
        for m in modules
        for name, x in m.named_buffers(recurse=False)
        if not is_lazy(x)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in kept:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)


def tensors_of(result: Any, who: str) -> list[torch.Tensor]:
    """The floating-point tensors among a function's results.

    Raises:
        BadInput: a ValueError, if there are none, or one is complex.
    """
    found = [result] if isinstance(result, torch.Tensor) else list(result) if isinstance(result, tuple | list) else []
    for x in found:
        _refuse_complex(x, f"the result of {who}")
    tensors = [x for x in found if isinstance(x, torch.Tensor) and x.is_floating_point()]
    if not tensors:
        dtypes = ", ".join(dict.fromkeys(str(x.dtype) for x in found if isinstance(x, torch.Tensor)))
        returned = f"a tensor of {dtypes}" if dtypes else type(result).__name__
        raise BadInput(f"{who} must return a floating-point tensor, or a tuple of them, but it returns {returned}.")
    return tensors


def _same_layout(x: torch.Tensor) -> torch.Tensor:
    """A copy with the same strides. The function gets copies, so that the caller's tensors cannot be modified."""
    if 0 in x.stride():
        return x.clone()
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal, where NaN equals itself."""
    return bool(((one == other) | ((one != one) & (other != other))).all())


def cotangents_of(pair: Pair, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Random output gradients, in the dtypes of the outputs and on their devices."""
    generator = torch.Generator().manual_seed(1_000_003 + pair.seed)
    return [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype).to(o.device) for o in outputs]


def doubled(tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs with floating-point tensors in float64."""
    return tuple(x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in tensors)


def as_numpy(x: torch.Tensor | None, like: Any = None) -> np.ndarray:
    """A tensor as an array; for None, which autograd returns for a gradient of zero, zeros in the shape of `like`."""
    return np.zeros(like.shape, as_array(like.detach().cpu()).dtype) if x is None else as_array(x.detach().cpu())
