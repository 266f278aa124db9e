"""Tests of `tests.pytorch`: whether PyTorch may be missing while the tests run."""

import importlib.util

import pytest

from tests.pytorch import is_there_if_required


@pytest.mark.parametrize("required", ["", "1"])
@pytest.mark.parametrize("there", [False, True])
def test_the_run_ends_only_where_pytorch_is_required_and_missing(required, there, monkeypatch):
    monkeypatch.setenv("BACKPROOF_REQUIRE_TORCH", required)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if there else None)
    if required and not there:
        with pytest.raises(pytest.UsageError, match=r"\.venv/bin/pip install -e '\.\[torch\]'"):
            is_there_if_required()
    else:
        is_there_if_required()
