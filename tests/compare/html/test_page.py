"""The shell of the pages: text from outside is text, nothing is loaded, and the script is the one that was meant."""

import base64
import hashlib
import json
import re

import pytest

from compare.html.page import Html, asset, badge, code_pair, embedded, facts, html, page, table, tag
from tests.compare.html.markup import HOSTILE, Outline


def test_text_is_never_markup():
    for made in (tag("p", HOSTILE), html(HOSTILE), badge("agree"), facts({HOSTILE: HOSTILE}), code_pair(HOSTILE, "x")):
        assert "<script" not in made
        assert "<img" not in made
        Outline(made)
    assert Outline(tag("p", HOSTILE, title=HOSTILE)).elements == [("p", {"title": HOSTILE})]
    assert Outline(tag("p", HOSTILE)).text == {"p": HOSTILE}


def test_what_is_markup_already_stays_so():
    assert tag("p", tag("b", "x"), " < y") == "<p><b>x</b> &lt; y</p>"
    assert isinstance(tag("p"), Html)
    assert tag("input", type="range", disabled=True, class_="a", aria_label="b", title=None, hidden=False) == (
        '<input type="range" disabled class="a" aria-label="b">'
    )


def test_markup_that_is_put_together_by_hand_is_text_again():
    assert html(tag("b", "x") + "<i>") == "&lt;b&gt;x&lt;/b&gt;&lt;i&gt;"


def test_a_page_holds_its_title_body_and_data():
    outline = Outline(page(HOSTILE, tag("h1", HOSTILE), data={"name": HOSTILE}))
    assert outline.text["title"] == outline.text["h1"] == HOSTILE
    assert json.loads(outline.text["script"]) == {"name": HOSTILE}
    assert [name for name, _ in outline.elements].count("script") == 1
    assert not [name for name, _ in outline.elements if name == "img"]


def test_data_never_ends_its_element():
    assert not re.search(r"[<>&]", re.sub(r"^<[^>]*>|</script>$", "", embedded([HOSTILE, "<!--", "]]>"])))
    with pytest.raises(ValueError, match="JSON"):
        embedded(float("nan"))


def test_the_policy_allows_no_connection_and_no_script_but_its_own():
    script = "document.title = '<';"
    outline = Outline(page("t", html(), script=script))
    assert outline.text["script"] == script
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert outline.policy() == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{expected}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert Outline(page("t", html())).policy()["script-src"] == "'none'"


def test_a_page_names_nothing_outside_itself_to_load():
    text = page("t", html(), script="0")
    for _, attributes in Outline(text).elements:
        assert not {"src", "srcset", "action", "background"} & attributes.keys()
        assert attributes.get("href", "data:").startswith(("data:", "#"))
    assert "@import" not in text
    assert "url(" not in text


def test_a_table_says_what_it_is_and_aligns_numbers():
    outline = Outline(table(["gradient", "norm", "verdict"], [["<W1>", "0.5", "agree"]], caption="Gradients"))
    assert (
        "div",
        {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Gradients"},
    ) in outline.elements
    assert ("td", {"class": "number verdict agree"}) in outline.elements
    assert outline.text["th"] == "gradientnormverdict<W1>"
    assert outline.text["td"] == "0.5✓ agree"


def marked(line):
    return re.findall(r"<mark>(.*?)</mark>", line)


def test_a_pair_of_lines_marks_what_differs():
    pair = code_pair("db1 = dZ1.mean(axis=0)", "db1 = dZ1.sum(axis=0)  # 1/m is in dZ")
    wrong, right = re.search(r"<del>.*</del>", pair), re.search(r"<ins>.*</ins>", pair)
    assert wrong is not None
    assert right is not None
    assert marked(wrong[0]) == ["mean"]
    assert marked(right[0]) == ["sum"]
    assert re.sub("<[^>]*>", "", wrong[0]) == "− Wrong: db1 = dZ1.mean(axis=0)"
    assert re.sub("<[^>]*>", "", right[0]) == "+ Right: db1 = dZ1.sum(axis=0)  # 1/m is in dZ"
    assert marked(code_pair("a", "a")) == []


# ------------------------------------------------------------------------------------------- contrast


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, another):
    brighter, darker = sorted((luminance(one), luminance(another)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "grounds"),
    [
        ("ink", ["paper", "panel", "good-tint", "bad-tint", "good-mark", "bad-mark"]),
        ("soft", ["paper", "panel"]),
        ("link", ["paper", "panel"]),
        ("good", ["paper", "good-tint"]),
        ("bad", ["paper", "bad-tint"]),
        ("doubt", ["paper", "doubt-tint"]),
        ("manual", ["paper"]),
        ("autodiff", ["paper"]),
    ],
)
def test_text_can_be_read_on_its_ground(theme, text, grounds):
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", asset("style.css").split("@media")[theme]))
    for ground in grounds:
        assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the known limit on white
