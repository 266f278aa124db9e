"""The last part of the page: the program that JAX makes, the steps that were found in it, and what it costs."""

from dataclasses import replace

import pytest

from compare.html import lesson_why
from compare.html.lesson import lesson_page
from compare.html.lesson_steps import anchor
from compare.html.lesson_why import why
from compare.lesson.text import as_text
from tests.compare.html.markup import HOSTILE, Outline


@pytest.fixture(scope="module")
def outline(found):
    return Outline(lesson_page(found))


def test_the_cost_is_said_as_it_was_counted(found, outline):
    count = found.backward_mode.operations
    for text in (" ".join(outline.data), as_text(found).replace("\n", " ")):
        assert all(f"{number:,}" in text for number in count.values())
        assert f"a small constant ({count['backward'] / count['loss']:.2g} here) times the" in text
        assert "Both were run" not in text
        assert "transposes it, from the last operation to the first" in text
        assert "unused" in text


def test_of_the_side_of_jax_nothing_is_said_that_manual_needs_as_well(outline):
    assert "in JAX, only the forward pass" in outline.data
    assert "JAX needs only" not in outline.data


def test_an_equation_leads_to_the_step_that_it_computes_and_a_turn_stands_once(found):
    outline = Outline(why(found))
    links = [a["href"] for name, a in outline.elements if name == "a"]
    steps = {quantity.label: step.name for step in found.steps for quantity in step.quantities}
    matched = [equation.step for equation in found.backward_mode.gradient if equation.step in steps]
    assert links == [f"#{anchor(steps[label])}" for label in matched]
    assert [a.get("class") for name, a in outline.elements if name == "li"].count("turn") == 1


def test_a_long_program_is_folded(monkeypatch, found):
    def summaries():
        return [name for name, _ in Outline(why(found)).elements].count("summary")

    assert summaries() == 1
    monkeypatch.setattr(lesson_why, "LONG", 3)
    assert summaries() == 2


def test_what_jax_writes_is_text(found):
    mode = found.backward_mode
    hostile = replace(
        mode, gradient=[replace(mode.gradient[0], text=HOSTILE)], loss=[replace(mode.loss[0], text=HOSTILE)]
    )
    outline = Outline(why(replace(found, backward_mode=hostile)))
    assert outline.data.count(HOSTILE) == 2
    assert "script" not in {name for name, _ in outline.elements}
