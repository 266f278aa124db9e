"""Tables show what they are given, and never read it as markup."""

import re

from compare.judge.reports.tables import html_report, plain_text, table


def test_plain_text_has_no_color_and_no_markup():
    text = plain_text("[bold]head[/bold]", table(["name", "verdict"], [["[red]x[/red]", "agree"]]))
    assert "[bold]head[/bold]" in text
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_plain_text_is_returned_in_a_notebook_as_well(monkeypatch):
    """Where Rich, left alone, displays it and returns nothing."""
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert plain_text("head", table(["name"], [["x"]])).split() == ["head", "name", "────", "x"]


def test_html_is_escaped():
    html = html_report(["<script>", "&1"], ["<b>", "c"], [["a & b", "<i>"]], "<u>")
    assert "<script>" not in html
    assert "<p>&lt;script&gt;</p><p>&amp;1</p>" in html
    assert re.sub(' style="[^"]*"', "", html).count("<td>a &amp; b</td><td>&lt;i&gt;</td>") == 1
    assert html.endswith("<p>&lt;u&gt;</p>")


def test_html_says_each_verdict_with_its_sign():
    html = html_report(["DISAGREE: the loss."], ["of", "verdict"], [["W", "agree"], ["b", "inconclusive"]])
    assert html.startswith("<p><strong>✗ DISAGREE</strong>: the loss.</p>")
    assert "<strong>✓ agree</strong>" in html
    assert "<strong>? inconclusive</strong>" in html
