"""Shapes and types in the signatures of both sides are checked at every call while the tests run."""

import pytest
from jaxtyping import install_import_hook

from compare.judge.program.compiling import make_room

install_import_hook(["manual", "autodiff"], "beartype.beartype")
# Their assertions show what they compared, as those in a test do.
pytest.register_assert_rewrite("tests.browser", "tests.command", "tests.compare.suite.cases.sides")


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Tests compile some programs of their own, which the judge does not see."""
    yield
    make_room()
