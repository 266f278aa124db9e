"""A lesson on the terminal: every line and number, in the width that it is given."""

from dataclasses import replace

import pytest

from compare.lesson.content import Entry
from compare.lesson.text import as_text, backward_to_loss, cost_sentence, indexed, inputs_sentence, shown
from tests.compare.lesson.taught import shown_lines


@pytest.mark.parametrize("width", [60, 110])
def test_no_line_is_wider_than_it_was_told(found, width):
    assert max(map(len, as_text(found, width=width).splitlines())) <= width


def test_the_terminal_shows_every_line_and_the_numbers(found):
    text = as_text(found)
    for excerpt in shown_lines(found.steps):
        for number, line in excerpt.numbered():
            assert f":{number}  {line}".rstrip() in text
    assert " ".join(text.split()).endswith(found.sentence)
    entry = found.moments[-1].numbers["dZ1"].entries[2]
    assert f"{entry.by_hand:.4g}" in text
    assert "<- dZ1" in text
    assert "17 parameters" in text


def test_a_derivation_stands_between_the_words_and_the_lines(found):
    (step,) = (step for step in found.steps if step.name == "db1")
    step = replace(step, words="So it is.", derivation="    dx = dy W^T\n\nAnd [more] of it.")
    text = as_text(replace(found, steps=[step]))
    formula = "db1 = ∑[axis 1] dZ1"
    parts = ("So it is.", "dx = dy W^T", "And [more] of it.", formula, step.by_hand[0].code)
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def test_second_order_comes_after_first_order_with_the_line_that_derives_it(found):
    text = as_text(found)
    parts = ("\nFORWARD", "\nBACKWARD", "\nSECOND ORDER", found.second_root.code, "\nRdZ1: ", "\nWHY BACKWARD")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "RdZ1 = RdA1 ⊙ (1 − A1²) − 2 dA1 ⊙ A1 ⊙ RA1" in text
    without = as_text(replace(found, second_root=None, steps=[step for step in found.steps if step.order == 1]))
    assert "SECOND ORDER" not in without


def test_the_cost_is_that_of_the_programs(found):
    count = found.backward_mode.operations
    assert backward_to_loss(found) == count["backward"] / count["loss"]
    sentence = cost_sentence(found)
    assert (
        f"take {count['all forward']:,} operations. Backward mode needs one pass of {count['backward']:,} " in sentence
    )
    assert "differ by at most" in sentence


def test_every_input_of_the_program_has_its_letter(found):
    assert inputs_sentence(found) == "a is W1, b is W2, c is b1, d is b2, e is x, f is y"


@pytest.mark.parametrize(
    ("number", "text"), [(1.0, "1"), (-0.000012345, "-1.234e-5"), (123456.0, "1.235e+5"), (1e-100, "1e-100")]
)
def test_a_number_has_four_digits(number, text):
    assert shown(number) == text


def test_an_entry_is_told_by_its_place():
    assert indexed(Entry((2, 0), None, 1.0, 1.0, 0.0)) == "[2, 0]"
    assert indexed(Entry((), None, 1.0, 1.0, 0.0)) == ""
