"""Where JAX works and in which precision, for the length of a `with` and no longer."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

from compare.errors import BadInput, unknown

PLATFORMS = ("cpu", "gpu", "tpu")


@contextmanager
def on_platform(platform: str) -> Iterator[Any]:
    """JAX's default device is the first of `platform` inside. Raises BadInput if there is none."""
    if platform not in PLATFORMS:
        raise unknown("platform", platform, PLATFORMS)
    try:
        device = jax.local_devices(backend=platform)[0]  # of several processes, each has its own
    except RuntimeError as error:
        raise BadInput(
            f"this machine has no {platform} that JAX can use; it sees: {_present()}. "
            f"If there is one, install JAX's plugin for it."
        ) from error
    with jax.default_device(device):
        yield device


def _present() -> str:
    try:
        return ", ".join(sorted({device.platform for device in jax.devices()}))
    except RuntimeError as error:
        return f"nothing ({error})"


@contextmanager
def precise(*trees: Any) -> Iterator[None]:
    """Products in full precision, and 64-bit types switched on if the trees hold any 64-bit array.

    Accelerators round the factors of a float32 product to 10 bits or fewer unless told otherwise, which is
    a difference in settings and not in derivatives. 64-bit types stay off for narrower data, because they
    would turn the constants in somebody's float32 function into float64.
    """
    with ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        if any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(trees)):
            stack.enter_context(jax.enable_x64(True))
        yield
