"""The page of a lesson as text: what is on it, that none of it is markup by accident, that it is all in one file."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest

from compare.html.lesson import lesson_page
from tests.compare.html.markup import HOSTILE, Outline


@pytest.fixture(scope="module")
def outline(found):
    return Outline(lesson_page(found))


def test_it_is_one_small_file_that_loads_nothing(found, outline):
    assert len(lesson_page(found).encode()) < 1_000_000
    policy = outline.policy()
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    links = [a[key] for name, a in outline.elements for key in ("href", "src") if key in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    ids = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {link for link in links if link.startswith("#")} <= {f"#{name}" for name in ids}


def test_second_order_is_the_next_part_and_its_steps_are_counted_on(found, outline):
    parts = [a["id"] for name, a in outline.elements if name == "h2" and "id" in a]
    assert [part for part in parts if part != "why"][:3] == ["forward", "backward", "second"]
    ids = [a["id"] for name, a in outline.elements if name == "article"]
    assert ids == [f"step-{step.name}" for step in found.steps]
    page = lesson_page(found)
    assert '<span class="ordinal">13 </span>' in page[page.index('id="step-RZ1"') :].partition("</h3>")[0]


def test_what_moves_is_there_for_every_moment(found, outline):
    data = json.loads(outline.text["script"].partition('"use strict"')[0])
    places = sum("data-live" in a for _, a in outline.elements)
    assert [len(texts) for texts in data["live"]] == [places] * len(found.moments)
    contours = [a["d"] for _, a in outline.elements if "data-contour" in a]
    assert contours == data["contours"][0]
    assert len({json.dumps(paths) for paths in data["contours"]}) == len(found.moments)
    (marker,) = (a for _, a in outline.elements if "data-marker" in a)
    assert [float(marker["cx"]), float(marker["cy"])] == data["markers"][0]
    heights = [y for _, y in data["markers"]]
    assert heights == sorted(heights)  # the loss falls: y grows downward in a drawing
    assert data["said"][-1] == f"step 12 of 12, loss {found.moments[-1].loss:.4g}"


def test_the_verdict_is_a_badge_before_a_whole_sentence(found, outline):
    said = "".join(outline.data)
    assert f"✓ AGREE {found.sentence.removeprefix('AGREE: ').capitalize()[:20]}" in said


def test_text_from_outside_stays_text(found):
    steps = [replace(step, title=HOSTILE, words=HOSTILE, derivation=HOSTILE) for step in found.steps]
    page = lesson_page(replace(found, title=HOSTILE, about=[HOSTILE, HOSTILE], steps=steps))
    outline = Outline(page)
    assert [name for name, _ in outline.elements].count("script") == 2
    assert "img" not in {name for name, _ in outline.elements}
    assert HOSTILE in outline.data


def test_the_same_lesson_gives_the_same_page(found):
    assert lesson_page(found) == lesson_page(deepcopy(found))


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(found):
    shown = Outline(found._repr_html_())
    ((name, attributes),) = shown.elements
    assert name == "iframe"
    assert attributes["srcdoc"] == lesson_page(found)
    assert attributes["sandbox"] == "allow-scripts"  # without the rights of the notebook
    hostile = Outline(replace(found, title=HOSTILE)._repr_html_())
    assert [name for name, _ in hostile.elements] == ["iframe"]
