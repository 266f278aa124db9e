"""PyTorch is optional: tests that need it are skipped without it, unless BACKPROOF_REQUIRE_TORCH is set."""

import importlib.util
import os

import pytest


def is_there_if_required() -> None:
    """Ends the run before the first test if BACKPROOF_REQUIRE_TORCH is set and PyTorch is not installed."""
    if os.environ.get("BACKPROOF_REQUIRE_TORCH") and importlib.util.find_spec("torch") is None:
        raise pytest.UsageError(
            "BACKPROOF_REQUIRE_TORCH is set, and PyTorch is not installed: .venv/bin/pip install -e '.[torch]'."
        )
