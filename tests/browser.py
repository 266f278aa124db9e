"""Chromium, for tests of HTML pages in a browser."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
HOW = (
    "no Chromium was found. Install it (on Debian: apt-get install chromium), or set BACKPROOF_CHROMIUM to the path of "
    "one; playwright and axe-playwright-python come with the group `test`."
)


def executable() -> str | None:
    chosen = os.environ.get("BACKPROOF_CHROMIUM")
    if chosen:
        assert Path(chosen).is_file(), f"BACKPROOF_CHROMIUM is {chosen!r}, and there is no such file."
        return chosen
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser. If none is installed, the test is skipped, or fails if BACKPROOF_REQUIRE_BROWSER is set."""
    path = executable()
    if path is None:
        if os.environ.get("BACKPROOF_REQUIRE_BROWSER"):
            pytest.fail(HOW)
        pytest.skip(HOW)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", *QUIET])
        yield browser
        browser.close()


class Visitor:
    """One browser tab, with the requests that it made and the messages and errors of its console."""

    def __init__(self, browser: Any, path: Path, fragment: str = "", **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        self.address = path.as_uri()
        self.page.goto(self.address + fragment)

    def asked_for_nothing_and_did_not_complain(self) -> bool:
        assert self.complaints == []
        # The page's own icon is a data URL, and no network request.
        assert [url for url in self.requests if not url.startswith((self.address, "data:"))] == []
        return True


def serious_faults(page: Any) -> list[str]:
    """The violations that axe-core finds and rates as serious or critical for accessibility."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
        for fault in violations
        if fault["impact"] in ("serious", "critical")
    ]
