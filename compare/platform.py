"""Context managers for JAX's default device and precision, which are restored at the end of the `with` block."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

from compare.errors import BadInput, unknown

PLATFORMS = ("cpu", "gpu", "tpu")


@contextmanager
def on_platform(platform: str) -> Iterator[Any]:
    """Makes the first device of a platform JAX's default device.

    Args:
        platform: one of PLATFORMS.

    Yields:
        The device.

    Raises:
        BadInput: if the platform is unknown or has no device.
    """
    if platform not in PLATFORMS:
        raise unknown("platform", platform, PLATFORMS)
    try:
        device = jax.local_devices(backend=platform)[0]  # of this process, if JAX runs in several
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
    """Makes JAX compute matrix products in full precision, and enables 64-bit dtypes if the trees contain float64.

    By default, accelerators round the factors of a float32 product to 10 bits or fewer. This would appear as a
    difference of the derivatives, although it is only a setting. 64-bit dtypes stay disabled for narrower data, because
    they would turn the constants of a float32 function into float64.

    Args:
        *trees: the arguments of the functions that are called in the `with` block.
    """
    with ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        if any(getattr(leaf, "dtype", None) == np.float64 for leaf in jax.tree.leaves(trees)):
            stack.enter_context(jax.enable_x64(True))
        yield
