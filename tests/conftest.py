"""Shapes and types in the signatures of both sides are checked at every call while the tests run."""

import gc
import os

import jax
import pytest
from jaxtyping import install_import_hook

from tests import pytorch, workers, xla

xla.compile_quickly()
install_import_hook(["manual", "autodiff"], "beartype.beartype")
# Their assertions show what they compared, as those in a test do.
pytest.register_assert_rewrite(
    "tests.browser", "tests.command", "tests.compare.museum.exhibits", "tests.compare.suite.cases.sides"
)


def pytest_configure():
    pytorch.is_there_if_required()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for `--numprocesses auto`
def pytest_xdist_auto_num_workers():
    return None if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else workers.workers()


def pytest_collection_finish():
    """Python looks for cycles among what tests make, and not each time among all modules and all tests too."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def without_programs_of_other_modules():
    """What the tests of a module compile is theirs: thousands of programs would fill a worker's memory."""
    yield
    jax.clear_caches()
    from compare.verify.memory import give_back  # now, because the import hook must come first

    give_back()


@pytest.fixture
def quickly(monkeypatch):
    """Processes that the test starts compile as this one does."""
    monkeypatch.setenv("XLA_FLAGS", xla.quick_environment()["XLA_FLAGS"])
