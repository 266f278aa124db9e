"""Shapes and types in the signatures of both sides are checked at every call while the tests run."""

import os

import jax
import pytest
from jaxtyping import install_import_hook

from tests import workers

install_import_hook(["manual", "autodiff"], "beartype.beartype")
# Their assertions show what they compared, as those in a test do.
pytest.register_assert_rewrite(
    "tests.browser", "tests.command", "tests.compare.museum.exhibits", "tests.compare.suite.cases.sides"
)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, for `--numprocesses auto`
def pytest_xdist_auto_num_workers():
    return None if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else workers.workers()


@pytest.fixture(autouse=True, scope="module")
def without_programs_of_other_modules():
    """What the tests of a module compile is theirs: thousands of programs would fill a worker's memory."""
    yield
    jax.clear_caches()
