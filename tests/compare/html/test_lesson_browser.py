"""The page of a lesson in a real browser: nothing is loaded, the slider works, the numbers are those of the JSON."""

import json
import re

import pytest

from compare.html.lesson import lesson_page
from tests.browser import Visitor, serious_faults

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHORT = {"width": 1280, "height": 600}


@pytest.fixture(scope="module")
def made(found, tmp_path_factory):
    """The page, and what the JSON of the same run says."""
    path = tmp_path_factory.mktemp("lesson") / "lesson.html"
    path.write_text(lesson_page(found), encoding="utf-8")
    return path, json.loads(json.dumps(found.to_dict()))


@pytest.fixture
def opened(browser, made):
    """Opens the page as asked; at the end of the test nothing must have been said or asked for."""
    visitors = []

    def start(viewport=DESKTOP, **options):
        visitors.append(Visitor(browser, made[0], viewport=viewport, offline=True, **options))
        return visitors[-1].page

    yield start
    for visitor in visitors:
        assert visitor.asked_for_nothing_and_did_not_complain()
        visitor.context.close()


def number(text):
    return float(text.replace("−", "-"))


def assert_shows(page, moment, steps):
    """Every number on the page is that of the moment, to the digits that are shown."""
    for label, numbers in moment["numbers"].items():
        block = page.locator(f'[data-quantity="{label}"]')
        rows = block.locator("tbody tr").all_inner_texts()
        assert len(rows) == len(numbers["entries"])
        for row, entry in zip(rows, numbers["entries"], strict=True):
            values = [entry["value"]] if entry["value"] is not None else []
            values += [entry["by_hand"], entry["by_jax"]]
            *cells, difference = map(number, re.split(r"\s+", row)[-len(values) - 1 :])
            assert cells == [pytest.approx(value, rel=5.1e-4) for value in values]
            assert difference == pytest.approx(entry["difference"], rel=0.051)
        judged = block.locator(".judged").inner_text()
        largest, *tolerance = map(number, re.findall(r"(?::|tolerance) (\d+(?:\.\d+)?(?:e−\d+)?)", judged))
        assert largest == pytest.approx(numbers["largest_difference"], rel=0.051)
        if numbers["verdict"] is not None:
            assert tolerance == [pytest.approx(numbers["tolerance"], rel=0.051)]
            assert judged.endswith(f"✓ {numbers['verdict']}")
    assert page.locator("output").inner_text() == f"step {moment['step']} of {steps}, loss {moment['loss']:.4g}"


@pytest.mark.campaign
def test_the_numbers_at_every_place_of_the_slider_are_those_of_the_json(opened, made):
    page, (_, run) = opened(), made
    slider = page.get_by_label("Training", exact=True).and_(page.locator("input"))
    slider.focus()
    pictures = set()
    for moment in run["moments"]:
        assert_shows(page, moment, len(run["losses"]) - 1)
        pictures.add(page.locator("[data-contour]").last.get_attribute("d"))
        page.keyboard.press("ArrowRight")
    assert len(pictures) == len(run["moments"])
    page.keyboard.press("Home")
    assert_shows(page, run["moments"][0], len(run["losses"]) - 1)


def test_the_slider_works_by_mouse(opened, made):
    page, (_, run) = opened(), made
    box = page.locator("#moment").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert_shows(page, run["moments"][-1], len(run["losses"]) - 1)
    assert page.locator("#moment").get_attribute("aria-valuetext") == page.locator("output").inner_text()
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 3, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert_shows(page, run["moments"][0], len(run["losses"]) - 1)


def test_without_a_script_the_first_moment_is_shown(opened, made):
    page, (_, run) = opened(java_script_enabled=False), made
    assert_shows(page, run["moments"][0], len(run["losses"]) - 1)
    assert not page.locator("#moment").is_visible()  # it could do nothing
    assert "the slider needs JavaScript" in page.locator(".slider").inner_text()


def test_on_a_short_window_the_slider_and_all_pictures_are_in_view(opened):
    page = opened(SHORT)
    for part in ("#moment", ".stage svg >> nth=0", ".stage svg >> nth=1"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert 0 <= box["y"] <= SHORT["height"] - box["height"]


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_slider_stays_in_view_and_nothing_is_wider_than_the_screen(opened, viewport):
    page = opened(viewport)
    for place in ("#step-Z1", "#step-dZ1", "#step-db1", "#why"):
        page.locator(place).evaluate("element => element.scrollIntoView({behavior: 'instant'})")
        box = page.locator("#moment").bounding_box()
        assert box is not None
        assert 0 <= box["y"] <= viewport["height"] - box["height"]
        heading = page.locator(f"{place} :is(h2, h3)").first.bounding_box()
        assert heading is not None
        covered = (
            heading["y"] < box["y"] + box["height"] and heading["x"] < box["x"] + box["width"] < heading["x"] + 500
        )
        assert not covered
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


@pytest.mark.sweep
@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_nothing_bars_anybody(opened, viewport, scheme):
    page = opened(viewport, color_scheme=scheme)
    assert serious_faults(page) == []


@pytest.mark.campaign
def test_what_is_barred_would_be_found(opened):
    """The planted fault of the check above: a slider without a name, and pale text."""
    page = opened()
    page.evaluate("document.querySelector('label').remove()")
    page.evaluate("document.querySelector('.judged').style.color = '#ddd'")
    assert {fault.partition(":")[0] for fault in serious_faults(page)} >= {"label", "color-contrast"}


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_picture_has_its_caption_below_it_and_in_view(opened, viewport):
    page = opened(viewport)
    page.locator("#step-dZ1").evaluate("element => element.scrollIntoView({behavior: 'instant'})")
    captions = page.locator(".stage figcaption")
    assert captions.count() == page.locator(".stage svg").count() == 2
    for index in range(2):
        box, picture = captions.nth(index).bounding_box(), page.locator(".stage svg").nth(index).bounding_box()
        assert box is not None
        assert picture is not None
        assert picture["y"] + picture["height"] <= box["y"] <= viewport["height"] - box["height"]
        assert box["width"] > 100
        assert captions.nth(index).inner_text()


def test_a_phone_held_sideways_keeps_its_room_for_the_text(opened):
    page = opened({"width": 844, "height": 390})
    page.locator("#step-dZ1").evaluate("element => element.scrollIntoView({behavior: 'instant'})")
    box = page.locator("#moment").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 0  # the pictures and their slider scroll away


def test_on_a_phone_the_pictures_stay_with_the_slider_and_code_shows_that_it_scrolls(opened):
    page = opened(PHONE)
    for place in ("#step-Z1", "#step-db1", "#why"):
        page.locator(place).evaluate("element => element.scrollIntoView({behavior: 'instant'})")
        for part in ("#moment", ".stage svg >> nth=0", ".stage svg >> nth=1"):
            box = page.locator(part).bounding_box()
            assert box is not None
            assert 0 <= box["y"] <= PHONE["height"] / 3
    wide = page.locator(".lines pre").evaluate_all(
        "all => all.filter(pre => pre.scrollWidth > pre.clientWidth)[0].id || 1"
    )
    assert wide  # there is a line to which it applies
    shadow = page.locator(".lines pre").first.evaluate("pre => getComputedStyle(pre).backgroundAttachment")
    assert "scroll" in shadow.split(", ")
    assert page.locator(".lines pre code").first.evaluate("code => getComputedStyle(code).whiteSpace") == "pre"


def test_the_frame_of_a_notebook_has_the_slider_and_the_links(browser, found, tmp_path):
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>a notebook</title>{found._repr_html_()}", encoding="utf-8")
    visitor = Visitor(browser, path, viewport=DESKTOP, offline=True)
    page = visitor.page.frame_locator("iframe")
    page.get_by_role("slider").press("End")
    last = len(found.losses) - 1
    assert page.locator("output").inner_text() == f"step {last} of {last}, loss {found.moments[-1].loss:.4g}"
    page.get_by_role("link", name="Second order").click()
    assert page.locator("h2#second").evaluate("e => Math.abs(e.getBoundingClientRect().top) < 200")
    assert page.get_by_role("slider").count() == 1  # the frame still shows the lesson
    assert visitor.asked_for_nothing_and_did_not_complain()
    visitor.context.close()
