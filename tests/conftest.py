"""Shapes and types in the signatures of both sides are checked at every call while the tests run."""

import os

import pytest
from jaxtyping import install_import_hook

from compare.judge.program.compiling import make_room
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
def room_for_programs():
    """Tests compile some programs of their own, which the judge does not see."""
    yield
    make_room()
