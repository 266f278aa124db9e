"""Shapes and types in the signatures of both sides are checked at every call while the tests run."""

from jaxtyping import install_import_hook

install_import_hook(["manual", "autodiff"], "beartype.beartype")
