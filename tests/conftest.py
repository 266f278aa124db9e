"""Configuration of pytest. While tests run, shapes and types in signatures of both sides are checked at each call."""

import gc
import os

import jax
import pytest
from jaxtyping import install_import_hook

from tests import pytorch, selection, workers, xla

xla.compile_quickly()
install_import_hook(["manual", "autodiff"], "beartype.beartype")
# pytest shows the compared values of assertions in these modules, as in tests.
pytest.register_assert_rewrite(
    "tests.browser", "tests.command", "tests.compare.museum.exhibits", "tests.compare.suite.cases.sides"
)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the campaigns and every row of the sweeps, too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all") or any("::" in argument for argument in config.args):
        return
    if left_out := selection.left_out(items):
        config.hook.pytest_deselected(items=left_out)
        kept = set(items) - set(left_out)
        items[:] = [item for item in items if item in kept]


def pytest_configure():
    pytorch.is_there_if_required()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for `--numprocesses auto`
def pytest_xdist_auto_num_workers():
    return None if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else workers.workers()


def pytest_collection_finish():
    """Excludes the modules and tests that exist now from later garbage collections, which are faster without them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def without_programs_of_other_modules():
    """Drops what the tests of a module compiled: thousands of programs would fill the memory of a worker."""
    yield
    jax.clear_caches()
    from compare.verify.memory import give_back  # imported here, because the import hook must be installed first

    give_back()


@pytest.fixture
def quickly(monkeypatch):
    """Processes that the test starts compile with the XLA flags of this process."""
    monkeypatch.setenv("XLA_FLAGS", xla.quick_environment()["XLA_FLAGS"])
