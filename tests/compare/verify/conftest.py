"""What the tests of whole runs have in common."""

import pytest


@pytest.fixture(scope="module")
def brief_rounds():
    """How fast the sides are is not the question here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.verify.timing.ROUND_SECONDS", 0.001)
        yield
