"""What holds for all tests: signatures are checked at every call, and programs compiled once for all processes."""

import os
import shutil

import pytest
from jaxtyping import install_import_hook

install_import_hook(["manual", "autodiff"], "beartype.beartype")
pytest.register_assert_rewrite("tests.command")  # its assertions show what they compared, as those in a test do


def pytest_configure(config):
    """Compiled programs are kept beside pytest's own cache, for the processes of a run and for the next run.

    By the environment, which reaches all of them; JAX reads it when it is imported, so nothing here does that before.
    """
    if not hasattr(config, "cache"):  # with `-p no:cacheprovider`
        return
    kept = config.cache.mkdir("compiled")
    if sum(file.stat().st_size for file in kept.iterdir()) > 2**29:  # JAX's own limit makes every look-up slow
        shutil.rmtree(kept)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(kept))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Tests compile some programs of their own, which the judge does not see."""
    from compare.compiling import make_room

    yield
    make_room()
