"""Lessons in this room are brief."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def brief_here(brief_lessons):
    """Also those that a test makes for itself."""
