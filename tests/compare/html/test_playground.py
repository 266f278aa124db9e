"""The part of the page that may be changed: its script computes what `manual` does, and shows what it computes."""

from dataclasses import replace

import numpy as np
import pytest

from compare.html.lesson import lesson_page
from compare.html.playground import playground_part
from compare.lesson.playground import ACTIVATIONS, Judged, Playground, by_hand, lines
from tests.browser import Visitor, serious_faults
from tests.compare.html.markup import Outline

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
NAMES = ["", *(line.name for line in lines("tanh"))]


@pytest.fixture(scope="module")
def play(found):
    """What the judge would say is made up here; tests/compare/lesson/test_playground.py asks it."""
    verdicts = {
        name: {line: Judged("disagree" if line else "agree", f"what is said of {line or 'nothing'}") for line in NAMES}
        for name in ACTIVATIONS
    }
    plane = found.plane
    return Playground({"moons": (plane.x, plane.y), "other": (plane.x[::-1], plane.y)}, verdicts, 4)


@pytest.fixture(scope="module")
def path(found, play, tmp_path_factory):
    path = tmp_path_factory.mktemp("lesson") / "lesson.html"
    path.write_text(lesson_page(found, play), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser, path):
    visitors = []

    def start(viewport=DESKTOP, **options):
        visitors.append(Visitor(browser, path, viewport=viewport, offline=True, **options))
        return visitors[-1].page

    yield start
    for visitor in visitors:
        assert visitor.asked_for_nothing_and_did_not_complain()
        visitor.context.close()


def test_the_scripts_mathematics_is_that_of_the_lines_which_are_manuals(opened):
    """Losses, gradients of right and broken lines, and a training of 20 steps, at every activation."""
    page, random = opened(), np.random.default_rng(0)
    x, y = random.standard_normal((2, 9)), random.integers(0, 2, 9).astype(float)
    p = {"W1": random.standard_normal((3, 2)), "b1": random.standard_normal(3)}
    p |= {"W2": random.standard_normal((1, 3)), "b2": random.standard_normal(1)}
    sent = {"W1": p["W1"].tolist(), "b1": p["b1"].tolist(), "W2": p["W2"][0].tolist(), "b2": float(p["b2"][0])}
    asked = [(activation, line) for activation in ACTIVATIONS for line in NAMES]
    computed = page.evaluate(
        """([p, x, y, asked]) => asked.map(([activation, line]) => [
          lossOf(p, x, y, activation), gradients(p, x, y, activation, line), train(p, x, y, activation, line, 0.5, 20),
        ])""",
        [sent, x.tolist(), y.tolist(), asked],
    )
    for (activation, line), (loss, gradients, trained) in zip(asked, computed, strict=True):
        step = by_hand(activation, line)
        expected_loss, expected, _ = step(p, x, y[np.newaxis])
        assert loss == pytest.approx(expected_loss, rel=1e-13)
        for name, value in expected.items():
            np.testing.assert_allclose(np.ravel(gradients[name]), np.ravel(value), rtol=1e-12, atol=1e-15)
        q = p
        for _ in range(20):
            _, d, _ = step(q, x, y[np.newaxis])
            q = {name: q[name] - 0.5 * d[name] for name in q}
        for name in q:
            np.testing.assert_allclose(np.ravel(trained["p"][name]), np.ravel(q[name]), rtol=1e-9, atol=1e-12)
        assert trained["losses"][-1] == pytest.approx(step(q, x, y[np.newaxis])[0], rel=1e-9)


@pytest.mark.sweep
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_differences_convict_the_lines_that_are_broken_and_no_others(opened, activation):
    page = opened()
    page.select_option("#play-activation", activation)
    wrong_by_line = {"": set(), "dW2": {"W2"}, "db2": {"b2"}, "dA1": {"W1", "b1"}, "dZ1": {"W1", "b1"}}
    wrong_by_line |= {"dW1": {"W1"}, "db1": {"b1"}, "dZ2": {"W1", "b1", "W2", "b2"}}
    for line in NAMES:
        page.select_option("#play-line", line)
        shown = {name: page.locator(f"#play-verdict-{name}").inner_text() for name in ("W1", "b1", "W2", "b2")}
        assert {name for name, verdict in shown.items() if verdict == "✗ disagree"} == wrong_by_line[line]
        assert page.locator("#play-judge").inner_text() == f"what is said of {line or 'nothing'}"
        right, wrong = next(((one.right, one.wrong) for one in lines(activation) if one.name == line), ("", ""))
        assert page.locator("#play-all pre .broken").all_inner_texts() == ([wrong] if line else [])
        assert page.locator("#play-instead").inner_text() == right


def test_every_choice_changes_what_training_does(opened):
    page = opened()
    said = [page.locator("#play-said").inner_text()]
    for name, value in (("data", "other"), ("activation", "relu"), ("rate", "0.01"), ("line", "db1")):
        page.select_option(f"#play-{name}", value)
        said.append(page.locator("#play-said").inner_text())
    page.locator("#play-hidden").fill("9")
    assert page.locator("#play-units").inner_text() == "9"
    said.append(page.locator("#play-said").inner_text())
    assert len(set(said)) == len(said)
    assert "with the wrong line" in said[-1]


@pytest.mark.sweep
@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_nothing_bars_anybody_and_nothing_is_wider_than_the_screen(opened, viewport, scheme):
    page = opened(viewport, color_scheme=scheme)
    page.select_option("#play-line", "dZ1")
    assert serious_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


def test_without_a_script_it_is_said_and_the_contents_lead_to_every_part(opened, path):
    page = opened(java_script_enabled=False)
    assert "This part needs JavaScript." in page.locator("#play").inner_text()
    outline = Outline(path.read_text(encoding="utf-8"))
    ids = {a["id"] for _, a in outline.elements if "id" in a}
    links = [a["href"].removeprefix("#") for name, a in outline.elements if name == "a" and a["href"].startswith("#")]
    assert set(links) <= ids
    assert {"forward", "backward", "second", "why", "play", "step-dZ1"} <= set(links)


def test_it_begins_with_what_the_lesson_has(play):
    begun = replace(play, chosen="other", hidden=20, activation="relu", rate=0.5)
    for made, expected in ((play, ["tanh", "1", ""]), (begun, ["other", "relu", "0.5", ""])):
        elements = Outline(playground_part(made)).elements
        assert [a["value"] for name, a in elements if name == "option" and "selected" in a] == expected
    assert [(a["value"], a["max"]) for name, a in elements if name == "input"] == [("20", "20")]
    assert "dZ1 = dA1 * (Z1 &gt; 0)" in playground_part(begun)


def test_a_name_of_data_is_text(play):
    hostile = "<script>alert(1)</script>"
    part = playground_part(Playground({hostile: play.data["moons"]}, play.verdicts, 4))
    assert "<script>" not in part
    assert "&lt;script&gt;" in part
