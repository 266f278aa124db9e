"""One browser for the tests of all pages: each has a context of its own in it."""

import pytest

from tests.browser import chromium


@pytest.fixture(scope="package")
def browser():
    with chromium() as started:
        yield started
