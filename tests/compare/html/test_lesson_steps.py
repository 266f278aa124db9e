"""A step on the page: its formulas, its lines with their numbers, and the entries of a moment."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from compare.html.lesson import lesson_page
from compare.html.lesson_steps import Live, anchor, formula_line, lines, step_article, with_formulas
from compare.lesson import MODELS
from compare.lesson.formulas import Formulas, Line
from compare.lesson.source import Excerpt
from compare.lesson.text import DOCUMENTED
from tests.compare.html.markup import HOSTILE, Outline
from tests.compare.lesson.taught import shown_lines, subject_of


def test_every_line_is_shown_with_its_file_and_number(found):
    page = lesson_page(found)
    for step in found.steps:
        article = page[page.index(f'id="step-{step.name}"') :].partition("</article>")[0]
        lines = Outline(f"<article {article}</article>")
        numbers = {int(a["data-line"]) for _, a in lines.elements if "data-line" in a}
        assert numbers == {number for excerpt in shown_lines([step]) for number, _ in excerpt.numbered()}
        assert {a["data-file"] for _, a in lines.elements if "data-file" in a} == {
            excerpt.file for excerpt in shown_lines([step])
        }
        for excerpt in shown_lines([step]):
            for _, line in excerpt.numbered():
                assert line in lines.data


def test_every_step_has_its_formulas(found):
    page = lesson_page(found)
    for step in found.steps:
        article = page[page.index(f'id="step-{step.name}"') :].partition("</article>")[0]
        lines = [line for part in step.formulas for line in part.lines if line.code]
        assert article.count('<math display="block">') == len(lines) >= 1


@pytest.mark.parametrize("model", MODELS)
def test_all_formulas_of_a_lesson_can_stand_on_its_page(model):
    for step in subject_of(model).steps:
        for part in step.formulas:
            for line in part.lines:
                assert ElementTree.fromstring(f"<p>{formula_line(line, part.scalars)}</p>") is not None


def test_a_formula_has_its_depth_its_note_and_the_call_that_leads_to_it(found):
    lines = (Line("y = x", "reshaped"), Line(note="for `t` = 2, 1, 0:"), Line("h = a[t]", depth=1))
    parts = [Formulas(lines, frozenset()), Formulas((Line("z = 2 * s"),), frozenset({"s"}), "helper(s)")]
    outline = Outline(step_article(replace(found.steps[-1], formulas=parts), 1, Live(found.moments)))
    classes = [a["class"] for _, a in outline.elements if a.get("class", "").startswith("line")]
    assert classes[:4] == ["line", "line said", "line in1", "line"]
    assert [a["aria-label"] for _, a in outline.elements if a.get("class") == "written"] == [
        "Formulas",
        "Formulas of helper",
    ]
    assert "reshaped" in outline.data


def test_what_moves_is_told_for_every_moment(found):
    live = Live(found.moments)
    (step,) = (step for step in found.steps if step.name == "dW2")
    outline = Outline(step_article(step, 3, live))
    texts = live.texts()
    assert [len(of_moment) for of_moment in texts] == [sum("data-live" in a for _, a in outline.elements)] * 4
    numbers = found.moments[-1].numbers["dW2"]
    assert texts[-1][-1] == f"✓ {numbers.verdict.value}"
    assert texts[-1][1] == f"{numbers.entries[0].by_hand:.4g}".replace("-", "−")
    assert outline.text["span"].startswith("3 ")


def test_names_of_quantities_in_prose_are_formulas_and_words_are_not():
    outline = Outline(with_formulas("dZ1 and m, of A2 < 3; a modem"))
    assert [name for name, _ in outline.elements].count("math") == 3
    assert "; a modem" in "".join(outline.data)


def test_a_symbol_with_its_layer_is_in_italics_and_other_parentheses_are_not():
    markup = with_formulas("dJ/dW (layer 2) is that of W (layer 2), but a W (of any layer) is not")
    assert markup.startswith("d<i>J</i>/d<i>W</i> (layer 2) is that of <i>W</i> (layer 2), but a W (of")
    assert with_formulas("dJ/dQ, of 8 x 8 images") == "d<i>J</i>/d<i>Q</i>, of 8 × 8 images"


def test_the_documentation_of_a_function_is_called_so_and_words_of_the_lesson_are_not(found):
    live = Live(found.moments)
    step = found.steps[-1]
    assert DOCUMENTED not in Outline(step_article(step, 1, live)).data
    assert DOCUMENTED in Outline(step_article(replace(step, short="layer 1 (dense)"), 1, live)).data


def test_a_table_is_headed_by_the_symbol_of_its_quantity(found):
    step = found.steps[-1]
    quantity = replace(step.quantities[0], symbol="dJ/db (layer 2)", label="d 1.dense.bias")
    moments = [replace(m, numbers={quantity.label: m.numbers[step.quantities[0].label]}) for m in found.moments]
    page = step_article(replace(step, quantities=[quantity]), 1, Live(moments))
    assert '<p class="path">d<i>J</i>/d<i>b</i> (layer 2)</p>' in page
    assert 'aria-label="dJ/db (layer 2): by hand, by JAX, and their difference"' in page
    assert ">d 1.dense.bias" not in page


def test_lines_that_do_not_follow_each_other_are_parted():
    excerpts = [Excerpt("manual/x.py", 3, "a = 1"), Excerpt("manual/x.py", 4, "b = 2"), Excerpt("manual/x.py", 9, "c")]
    outline = Outline(lines("by hand", "manual", [*excerpts, Excerpt("manual/y.py", 1, HOSTILE)]))
    assert [a["data-file"] for name, a in outline.elements if name == "figure"] == ["manual/x.py", "manual/y.py"]
    assert outline.data.count("⋯") == 1
    assert "script" not in {name for name, _ in outline.elements}


def test_a_place_on_the_page_is_a_name_of_letters():
    assert anchor("d 3.dense") == "step-d-3-dense"


def test_equations_of_a_derivation_keep_their_columns_and_prose_does_not(found):
    step = replace(found.steps[-1], derivation="approximate    Phi'\n    x           y\n\nIn prose.")
    outline = Outline(step_article(step, 1, Live(found.moments)))
    assert "approximate    Phi'" in outline.text["pre"]
    assert "In prose." in outline.text["p"]
