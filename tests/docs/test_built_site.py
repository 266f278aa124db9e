"""The site that `make docs` has made, in a browser. CI makes it before the tests run; elsewhere it may be missing."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.browser import Visitor, chromium, serious_faults

SITE = Path(__file__).parents[2] / "build" / "site"
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="make docs")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize(
    ("page", "size", "scheme"),
    [
        ("index.html", DESKTOP, "dark"),
        ("index.html", PHONE, "light"),
        ("notebooks/sixteen_bits.html", PHONE, "dark"),
        ("docs/how-it-works.html", PHONE, "light"),
        ("docs/api/layers.html", DESKTOP, "light"),
        ("source/manual/shallow.py.html", DESKTOP, "dark"),
    ],
)
def test_a_page_loads_from_disk_alone_and_keeps_nobody_out(browser, page, size, scheme):
    visitor = Visitor(browser, SITE / page, viewport=size, color_scheme=scheme, offline=True)
    assert visitor.complaints == []
    assert [url for url in visitor.requests if not url.startswith((SITE.as_uri(), "data:"))] == []
    assert visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert serious_faults(visitor.page) == []
    visitor.context.close()


def test_a_search_finds_pages_without_a_server(browser):
    visitor = Visitor(browser, SITE / "search.html", "?q=tolerance", offline=True)
    visitor.page.wait_for_selector("#search-results li a")
    assert "docs/judge.html" in visitor.page.inner_html("#search-results")
    visitor.context.close()


def test_every_link_within_the_site_leads_somewhere():
    for page in SITE.rglob("*.html"):
        for link in set(re.findall(r'href="(?!\w+:)([^"#?]+)', page.read_text(encoding="utf-8"))):
            target = page.parent / unquote(unescape(link))
            assert target.exists(), f"{page.relative_to(SITE)}: {link}"
