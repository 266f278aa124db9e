"""No speed is asserted in this room, so its rounds are short."""

import pytest

from compare.bench import turns


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Nor does anybody wait for threads to sleep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "ROUND_SECONDS", 0.02)
        patch.setattr(turns, "PAUSE", 0.0)
        yield
