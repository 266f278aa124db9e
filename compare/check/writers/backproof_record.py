"""Records the inputs and results of training steps, so that `backproof check` can check them.

Copy this file into your project. It needs NumPy only, and records tensors of PyTorch as well. It writes a .safetensors
file:

    with Recording("run.safetensors") as record:
        for step in (1, 2):
            record.step(step)
            record.tree("parameters", {"W1": W1, "b1": b1})
            record.tensor("inputs/x", x)
            record.tensor("loss", loss)
            record.tree("gradients", {"W1": dW1, "b1": db1})
            record.tree("next", {"W1": W1, "b1": b1})

For a module of PyTorch:

    with ModuleRecording("run.safetensors", model, ["blocks.0"]) as record:
        for x, y in batches:
            record.start(x=x, y=y)  # the parameters, and the inputs by the names of the loss's arguments
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            record.gradients(loss)  # the loss, the gradients, and the output of "blocks.0" with its gradient
            optimizer.step()
            record.updated()  # the next parameters

The names in a recording:

    step.1/...                       in front of each name below if there are several steps, counted from 1
    parameters/W1   inputs/x         the first argument of the loss, and its other arguments by their names
    loss            gradients/W1     the loss and its gradients, as the step computed them
    values/h        intermediates/h  values that the loss marks with tap, and the gradients with respect to them
    next/W1                          the parameters after the update

Arrays are written when a method is called, and may change afterwards. The file appears at the end of the `with` block.
If an exception ends the block, there is no file, not even that of an earlier run. Names are printable ASCII without
quotes and backslashes. Invalid arguments raise a ValueError.

SPDX-License-Identifier: MIT
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
PARTS = ("parameters", "inputs", "gradients", "values", "intermediates", "next")


class Recording:
    """Writes a .safetensors file."""

    def __init__(self, path: Any) -> None:
        """Begin a recording. An older file at `path` is removed, so that it is not mistaken for the new one."""
        self._path = os.fspath(path)
        if os.path.exists(self._path):
            os.remove(self._path)
        self._numbers = open(self._path + ".part", "wb+")  # noqa: SIM115  # copied when the header is complete
        self._header: dict[str, Any] = {}
        self._at = 0
        self._step = 0

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self._end(whole=kind is None)

    def step(self, number: int) -> None:
        """Begin step `number`: 1, 2, 3 and so on. The arrays that are recorded next belong to it."""
        if number <= self._step:
            raise ValueError(
                f"step {number} cannot follow step {self._step}: the numbers of steps must increase from 1."
            )
        if self._step == 0 and self._header:
            raise ValueError("a tensor was recorded before the first step.")
        self._step = number

    def tensor(self, name: str, value: Any) -> None:
        """Record an array of NumPy, JAX or PyTorch, or a number, by one of the names above."""
        part, _, leaf = name.partition("/")
        plain = all(" " <= letter <= "~" and letter not in '"\\' for letter in name) and len(name) <= 1000
        if not plain or (name != "loss" and (part not in PARTS or not leaf)):
            raise ValueError(
                f"{name!r} is no name of a recording: a name is loss, or begins with {'/, '.join(PARTS)}/; it is "
                "printable ASCII without quotes and backslashes."
            )
        key = f"step.{self._step}/{name}" if self._step else name
        if key in self._header:
            raise ValueError(f"{name!r} is recorded twice in one step.")
        shape, dtype, numbers = _contents(value)
        if dtype not in DTYPES:
            raise ValueError(f"{name!r} has the dtype {dtype}; a recording takes {', '.join(DTYPES)}.")
        self._numbers.write(numbers)
        end = self._at + len(numbers)
        self._header[key] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [self._at, end]}
        self._at = end

    def tree(self, part: str, values: Any) -> None:
        """Record the arrays of nested dicts, lists and tuples, by their keys with slashes between them."""
        for name, value in _leaves(part, values):
            self.tensor(name, value)

    def _end(self, whole: bool) -> None:
        try:
            if whole:
                if not self._header:
                    raise ValueError(f"nothing was recorded in {self._path}.")
                text = json.dumps(self._header, separators=(",", ":")).encode()
                text += b" " * (-len(text) % 8)  # the data begin at a multiple of eight bytes
                self._numbers.seek(0)
                try:
                    with open(self._path, "wb") as file:
                        file.write(len(text).to_bytes(8, "little") + text)
                        shutil.copyfileobj(self._numbers, file)
                except OSError:
                    os.remove(self._path)
                    raise
        finally:
            self._numbers.close()
            os.remove(self._numbers.name)


class ModuleRecording(Recording):
    """Records the steps of a module of PyTorch.

    Parameters without requires_grad, and buffers, are recorded as another argument of the loss, `frozen`, a dict by
    their names. A parameter that the backward pass did not reach is recorded with a gradient of zeros. Its value after
    the update is not recorded, because PyTorch's optimizers skip it.
    """

    def __init__(self, path: Any, module: Any, intermediates: Iterable[str] = ()) -> None:
        """
        Args:
            path: the file.
            module: the model.
            intermediates: names of its submodules, as in `named_modules`, whose outputs are recorded with the gradients
                with respect to them.
        """
        self._module = module
        self._values: dict[str, Any] = {}  # outputs of this step, in the order of the forward pass
        self._arrived: dict[str, Any] = {}  # their gradients, in the order of the backward pass
        known = dict(module.named_modules())
        chosen = list(intermediates)
        for name in chosen:
            if name not in known or not name:
                raise ValueError(f"the model has no module {name!r}; it has {', '.join(filter(None, known))}.")
        super().__init__(path)
        self._hooks = [known[name].register_forward_hook(self._hook(name)) for name in chosen]

    def __exit__(self, kind: Any, *rest: Any) -> None:
        for hook in self._hooks:
            hook.remove()
        super().__exit__(kind, *rest)

    def _hook(self, name: str) -> Any:
        def seen(module: Any, given: Any, output: Any) -> None:
            if not hasattr(output, "detach"):
                raise ValueError(
                    f"the module {name!r} returns a {type(output).__name__}; choose one that returns a tensor."
                )
            if name in self._values:
                raise ValueError(f"the module {name!r} is called twice in one step; choose one that is called once.")
            self._values[name] = output.detach().clone()
            if output.requires_grad:
                output.register_hook(lambda gradient: self._arrived.__setitem__(name, gradient.detach().clone()))

        return seen

    def start(self, **inputs: Any) -> None:
        """Begin the next step, before the forward pass.

        Args:
            **inputs: the arguments of the loss after the parameters, by their names.
        """
        self.step(self._step + 1)
        self._values.clear()
        self._arrived.clear()
        frozen = {name: p for name, p in self._module.named_parameters() if not p.requires_grad}
        frozen.update(self._module.named_buffers())
        self.tree("parameters", self._trained())
        self.tree("inputs", inputs)
        self.tree("inputs/frozen", frozen)

    def gradients(self, loss: Any) -> None:
        """Record the loss and the gradients, after the backward pass and before the gradients are modified."""
        self.tree("values", self._values)
        self.tensor("loss", loss)
        self.tree("intermediates", self._arrived)
        for name, p in self._trained().items():
            self.tensor(f"gradients/{name}", p.new_zeros(p.shape) if p.grad is None else p.grad)

    def updated(self) -> None:
        """Record the parameters after the update, before their gradients are cleared."""
        self.tree("next", {name: p for name, p in self._trained().items() if p.grad is not None})

    def _trained(self) -> dict[str, Any]:
        return {name: p for name, p in self._module.named_parameters() if p.requires_grad}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        parts = value._asdict().items()  # type: ignore[attr-defined]  # a NamedTuple
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        yield name, value
        return
    for key, part in parts:
        yield from _leaves(f"{name}/{key}", part)


def _contents(value: Any) -> tuple[list[int], str, bytes]:
    """The shape, the name of the dtype, and the data row by row, little-endian."""
    if hasattr(value, "detach"):  # a tensor of PyTorch, whose dtype NumPy may not have
        dense = value.detach().to_dense() if value.is_sparse else value.detach()
        flat = dense.cpu().contiguous().reshape(-1).view(sys.modules["torch"].uint8)
        return list(value.shape), str(value.dtype).removeprefix("torch."), flat.numpy().tobytes()
    array = np.asarray(value)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return list(array.shape), array.dtype.name, little.tobytes()
