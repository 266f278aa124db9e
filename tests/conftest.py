"""Shapes and types in the signatures of both sides are checked at every call while the tests run."""

from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook(["manual", "autodiff"], "beartype.beartype")

MAPS = Path("/proc/self/maps")
MOST_MAPS = 20_000  # of the 65,530 that Linux allows a process; JAX crashes when it gets no more


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Thousands of compiled programs take several maps of memory each."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
