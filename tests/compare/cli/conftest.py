"""The commands in this room time nothing that is looked at."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def brief_rounds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compare.verify.timing.ROUND_SECONDS", 0.001)
        yield
