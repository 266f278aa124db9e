"""Shapes and types in the signatures of both sides are checked at every call while the tests run."""

import pytest
from jaxtyping import install_import_hook

install_import_hook(["manual", "autodiff"], "beartype.beartype")
pytest.register_assert_rewrite("tests.command")  # its assertions show what they compared, as those in a test do
