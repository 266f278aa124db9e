"""What a run of `backproof verify` will need of memory, told before it begins; and what there is.

    bytes = base + 8 * (copies of the parameters + copies of the activations + losses)

A check keeps all of these many times over: the gradients of both sides, intermediates and their cotangents, perturbed
points, copies by which changed inputs are noticed; most in float64, also where the network has another dtype. How many
times is measured and not derived, by "Maximum resident set size" of `/usr/bin/time -v backproof verify ...`: the runs
stand in `tests/compare/verify/test_memory.py`, and COPIES is what they led to. When the judge changes, measure again.
"""

import ctypes
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compare.errors import BadInput
from manual.transformer import PRESETS

GIB = 2**30
LARGE = 10_000_000  # parameters, from which on a model is checked at one point only

Note = Callable[[str], None]


class Size(NamedTuple):
    """Entries of all parameters, and of what a forward pass of one batch makes and the check looks at."""

    parameters: int
    activations: int


class Copies(NamedTuple):
    """How many times a run holds them at its peak, beside `base`, the MiB of Python, JAX and compiled programs."""

    base: int
    parameters: float
    activations: float


COPIES = {
    "shallow": Copies(400, 14, 14),
    "plain": Copies(480, 46, 10),
    "recurrent": Copies(550, 46, 10),
    "gpt": Copies(1000, 35, 10),
    # Any model of more than LARGE parameters. What is judged is in float64 anyway; what is kept is in the dtype.
    "large, float64": Copies(700, 14, 2),
    "large, float32": Copies(700, 9, 2),
}
LOSSES = 4  # copies of the loss of each step: recorded by both sides, gathered, and put together
DEVICE_COPIES = 3  # parameters, gradients, and what the optimizer keeps, on each further device


def nobody(text: str) -> None:
    """Takes notes that nobody is to read."""


# ------------------------------------------------------------------------------------ sizes of the models


def shallow_size(x: np.ndarray, y: np.ndarray, hidden: int) -> Size:
    """Of the notebook's network, on x (features, examples) and y (outputs, examples)."""
    (features, examples), outputs = x.shape, len(y)
    return Size(hidden * (features + 1) + outputs * (hidden + 1), 2 * examples * (hidden + outputs))


def model_size(name: str, options: dict[str, Any]) -> Size:
    """Of one of `compare.suite.models`, by its settled options."""
    return _SIZES[name](**{option: options[option] for option in _OPTIONS if option in options})


def _mlp(batch: int, hidden: int, layers: int) -> Size:
    parameters = (64 + 1) * hidden + (layers - 1) * (hidden + 1) * hidden + (hidden + 1) * 10
    return Size(parameters, batch * (64 + 2 * layers * hidden + 10))


def _convnet(batch: int, hidden: int) -> Size:
    """Images of 8x8; the second convolution, of twice the channels, sees 4x4."""
    parameters = 9 * hidden + 2 * hidden + (9 * hidden + 1) * 2 * hidden + (2 * hidden + 1) * 10
    return Size(parameters, batch * (64 * 3 * hidden + 16 * hidden + 16 * 2 * 2 * hidden + 2 * hidden + 10))


def _recurrent(gates: int, biases: int, batch: int, hidden: int, length: int) -> Size:
    parameters = 2 * VOCABULARY * hidden + VOCABULARY + gates * hidden * (2 * hidden + biases)
    return Size(parameters, batch * length * (VOCABULARY + (2 + gates) * hidden))


def _gpt(batch: int, length: int, hidden: int, layers: int, heads: int, preset: str | None) -> Size:
    sizes = {"vocabulary": VOCABULARY, "context": length, "layers": layers, "heads": heads, "width": hidden}
    sizes = sizes if preset is None else PRESETS[preset]
    layers, width = sizes["layers"], sizes["width"]
    parameters = (sizes["vocabulary"] + sizes["context"]) * width + layers * (12 * width + 13) * width + 2 * width
    scores = sizes["heads"] * length  # of each token with all tokens
    return Size(parameters, batch * length * (sizes["vocabulary"] + 2 * width + layers * (18 * width + scores)))


VOCABULARY = 103  # characters of the text, give or take a few from one Python to the next
_OPTIONS = ("batch", "length", "hidden", "layers", "heads", "preset")
_SIZES: dict[str, Callable[..., Size]] = {
    "mlp": _mlp,
    "convnet": _convnet,
    "rnn": partial(_recurrent, 1, 1),
    "lstm": partial(_recurrent, 4, 1),
    "gru": partial(_recurrent, 3, 2),
    "gpt": _gpt,
}
_KINDS = {"mlp": "plain", "convnet": "plain", "rnn": "recurrent", "lstm": "recurrent", "gru": "recurrent"}


def needed(name: str, size: Size, iterations: int, devices: int = 1, dtype: str = "float64") -> int:
    """Bytes that a run will have at its peak."""
    large = name != "shallow" and size.parameters > LARGE
    copies = COPIES[f"large, {dtype}" if large else _KINDS.get(name, name)]
    entries = (copies.parameters + DEVICE_COPIES * (devices - 1)) * size.parameters
    entries += copies.activations * size.activations + LOSSES * iterations
    return math.ceil(copies.base * 2**20 + 8 * entries)


# ---------------------------------------------------------------------------------------- what there is


def check_fits(name: str, size: Size, *, iterations: int, devices: int = 1, dtype: str = "float64", note: Note) -> None:
    """Say by `note` how much memory a run will have at most. Raises BadInput if it cannot fit at all."""
    wanted, most = needed(name, size, iterations, devices, dtype), capacity()
    if most is not None and wanted > most:
        smaller = "fewer --hidden units, less data" if name == "shallow" else "a smaller model or --batch"
        raise BadInput(
            f"this needs about {readable(wanted)} of memory, and there are {readable(most)} here. "
            f"Give {smaller}, or fewer --iterations."
        )
    free = available()
    seen = "" if free is None else f"; {readable(min(free, most or free))} are free now"
    note(f"this needs about {readable(wanted)} of memory at most{seen}")


def readable(amount: int) -> str:
    return f"{amount / GIB:,.1f} GiB" if amount < 2**50 else f"{amount / GIB:.1e} GiB"


def capacity() -> int | None:
    """Bytes that this process may have at most: the machine's, or its control groups' if they allow it less."""
    found = [value for value in (_meminfo("MemTotal"), _physical(), *_limits()) if value is not None]
    return min(found, default=None)


def available() -> int | None:
    """Bytes that are not in use just now, or could be made so. None where the system does not tell."""
    return _meminfo("MemAvailable")


def give_back() -> None:
    """Return to the system what is free already, where the C library can: malloc_trim(3), of glibc.

    It gives single freed blocks back by itself only from a size that grows to 32 MiB with what was freed before. Layers
    are smaller than that and the tables of a large model larger, so between two phases gigabytes would lie idle.
    """
    with suppress(AttributeError, OSError, TypeError):  # other C libraries, and other systems
        ctypes.CDLL(None).malloc_trim(0)


ROOT = Path("/")


def _meminfo(name: str) -> int | None:
    """Linux: proc(5), /proc/meminfo, whose kB are 1024 bytes."""
    try:
        lines = (ROOT / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next((1024 * int(value) for value in values), None)


def _physical() -> int | None:
    """Other systems, such as macOS."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _limits() -> Iterator[int]:
    """Of the control groups that this process is in, and of those around them: cgroups(7), versions 1 and 2.

    In a container, the group has a name outside that means nothing inside, where the limit stands at the root.
    """
    try:
        lines = (ROOT / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for version, folder, file in (("", "", "memory.max"), ("memory", "memory", "memory.limit_in_bytes")):
            if version in controllers.split(","):
                top = ROOT / "sys/fs/cgroup" / folder
                group = top / path.lstrip("/")
                for place in (group, *group.parents):
                    if place.is_relative_to(top):
                        with suppress(OSError, ValueError):  # there is none, or "max"
                            yield int((place / file).read_text(encoding="ascii"))
