"""Tables show what they are given, and never read it as markup."""

from compare.judge.reports.tables import html_table, plain_text, table


def test_plain_text_has_no_color_and_no_markup():
    text = plain_text("[bold]head[/bold]", table(["name", "verdict"], [["[red]x[/red]", "agree"]]))
    assert "[bold]head[/bold]" in text
    assert "[red]x[/red]" in text
    assert "\x1b" not in text


def test_html_is_escaped():
    html = html_table("<script>", ["<b>"], [["a & b", "<i>"]])
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<td>a &amp; b</td><td>&lt;i&gt;</td>" in html
