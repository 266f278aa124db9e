"""Estimates the memory that `backproof verify` needs before it starts, and finds how much there is.

    bytes = base + 8 * (copies of the parameters + copies of the activations + losses)

A check holds many copies: the gradients of both sides, intermediate values and their gradients, perturbed points, and
the copies by which modified arguments are detected. Most are in float64, whatever the dtype of the network. The numbers
of copies in COPIES were measured, as the "Maximum resident set size" that `/usr/bin/time -v backproof verify ...`
reports. The measurements are in `tests/compare/verify/test_memory.py`, and must be repeated when the judge changes.
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
LARGE = 10_000_000  # the gradients of a model with more parameters are checked at one point only

Note = Callable[[str], None]


class Size(NamedTuple):
    """The total number of entries of the parameters, and of the activations of one batch that are compared."""

    parameters: int
    activations: int


class Copies(NamedTuple):
    """The number of copies at the peak of a run, and `base`, the MiB of Python, JAX and compiled programs."""

    base: int
    parameters: float
    activations: float


COPIES = {
    "shallow": Copies(400, 14, 14),
    "plain": Copies(480, 46, 10),
    "recurrent": Copies(550, 46, 10),
    "gpt": Copies(1000, 35, 10),
    # Any model of more than LARGE parameters. The reference is in float64, and stored copies are in the dtype.
    "large, float64": Copies(700, 14, 2),
    "large, float32": Copies(700, 9, 2),
}
LOSSES = 4  # copies of the losses of all steps: two on each side
DEVICE_COPIES = 3  # on each device after the first: parameters, gradients and the optimizer's state


def nobody(text: str) -> None:
    """Ignore a note: the default of `note`."""


# ------------------------------------------------------------------------------------ sizes of the models


def shallow_size(x: np.ndarray, y: np.ndarray, hidden: int) -> Size:
    """The size of the notebook's network, on x (features, examples) and y (outputs, examples)."""
    (features, examples), outputs = x.shape, len(y)
    return Size(hidden * (features + 1) + outputs * (hidden + 1), 2 * examples * (hidden + outputs))


def model_size(name: str, options: dict[str, Any]) -> Size:
    """The size of a model of `compare.suite.models`.

    Args:
        name: the name of the model.
        options: all its options, including the defaults.
    """
    return _SIZES[name](**{option: options[option] for option in _OPTIONS if option in options})


def _mlp(batch: int, hidden: int, layers: int) -> Size:
    parameters = (64 + 1) * hidden + (layers - 1) * (hidden + 1) * hidden + (hidden + 1) * 10
    return Size(parameters, batch * (64 + 2 * layers * hidden + 10))


def _convnet(batch: int, hidden: int) -> Size:
    """For images of 8x8; the second convolution has twice the channels and images of 4x4."""
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
    scores = sizes["heads"] * length  # for each token with all tokens
    return Size(parameters, batch * length * (sizes["vocabulary"] + 2 * width + layers * (18 * width + scores)))


VOCABULARY = 103  # characters in the text; the number differs slightly between versions of Python
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
    """The bytes that a run needs at its peak."""
    large = name != "shallow" and size.parameters > LARGE
    copies = COPIES[f"large, {dtype}" if large else _KINDS.get(name, name)]
    entries = (copies.parameters + DEVICE_COPIES * (devices - 1)) * size.parameters
    entries += copies.activations * size.activations + LOSSES * iterations
    return math.ceil(copies.base * 2**20 + 8 * entries)


# ------------------------------------------------------------------------------------- available memory


def check_fits(name: str, size: Size, *, iterations: int, devices: int = 1, dtype: str = "float64", note: Note) -> None:
    """Check whether a run fits into memory, and pass a sentence on the memory that it needs to `note`.

    Args:
        name: the name of the model.
        size: its size.
        iterations: the number of training steps.
        devices: the number of devices in this process.
        dtype: the dtype of the parameters.
        note: is called with the sentence.

    Raises:
        BadInput: if it needs more memory than there is.
    """
    wanted, most = needed(name, size, iterations, devices, dtype), capacity()
    if most is not None and wanted > most:
        smaller = "fewer --hidden units, less data" if name == "shallow" else "a smaller model or --batch"
        raise BadInput(
            f"this needs about {readable(wanted)} of memory, and this machine has {readable(most)}. "
            f"Give {smaller}, or fewer --iterations."
        )
    free = available()
    seen = "" if free is None else f"; {readable(min(free, most or free))} are free now"
    note(f"this needs about {readable(wanted)} of memory at most{seen}")


def readable(amount: int) -> str:
    """A number of bytes in GiB."""
    return f"{amount / GIB:,.1f} GiB" if amount < 2**50 else f"{amount / GIB:.1e} GiB"


def capacity() -> int | None:
    """The bytes that this process can use: those of the machine, or the limit of its control groups if lower."""
    found = [value for value in (_meminfo("MemTotal"), _physical(), *_limits()) if value is not None]
    return min(found, default=None)


def available() -> int | None:
    """The bytes that are free or can be freed now; None if the system does not report them."""
    return _meminfo("MemAvailable")


def give_back() -> None:
    """Return freed memory to the system, by malloc_trim(3) of glibc.

    By itself, glibc returns a freed block at once only if it is larger than a threshold, which grows with the blocks
    that are freed, up to 32 MiB. The layers of a large model are smaller than that, so gigabytes of freed memory would
    stay with the process between the phases of a run.
    """
    with suppress(AttributeError, OSError, TypeError):  # other C libraries, and other systems
        ctypes.CDLL(None).malloc_trim(0)


ROOT = Path("/")


def _meminfo(name: str) -> int | None:
    """A value of /proc/meminfo on Linux in bytes; None if there is none. Its unit, "kB", is 1024 bytes (proc(5))."""
    try:
        lines = (ROOT / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return next((1024 * int(value) for value in values), None)


def _physical() -> int | None:
    """The memory of the machine on other systems, such as macOS."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _limits() -> Iterator[int]:
    """The memory limits of this process's control groups and their parents (cgroups(7), versions 1 and 2).

    In a container, the path of the group is the path outside the container, and the limit is found at the root.
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
                        with suppress(OSError, ValueError):  # there is no limit, or it is "max"
                            yield int((place / file).read_text(encoding="ascii"))
