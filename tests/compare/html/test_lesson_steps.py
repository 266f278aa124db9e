"""A step on the page: its formula if that says all of it, its lines with their numbers, and the entries of a moment."""

import ast
import re
from dataclasses import replace
from textwrap import indent

import pytest

from compare.html.lesson import lesson_page
from compare.html.lesson_steps import Live, anchor, lines, step_article, with_formulas, written
from compare.lesson import MODELS
from compare.lesson.content import Step
from compare.lesson.source import Excerpt
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


def test_every_step_has_its_formula(found):
    page = lesson_page(found)
    for step in found.steps:
        article = page[page.index(f'id="step-{step.name}"') :].partition("</article>")[0]
        assert article.count('<math display="block">') == len(step.by_hand)


@pytest.mark.parametrize("model", MODELS)
def test_a_formula_says_what_its_step_computes(model):
    """No name in it stands for something else a line later: none is given twice, changed, or memory to be filled."""
    for step in subject_of(model).steps:
        source = ast.parse("def whole():\n" + indent("\n".join(e.code for e in step.by_hand), " "))
        changed = [ast.unparse(node.target) for node in ast.walk(source) if isinstance(node, ast.AugAssign)]
        changed += [ast.unparse(word.value) for word in ast.walk(source) if isinstance(word, ast.keyword)]  # out=y
        given = [
            ast.unparse(name)
            for node in ast.walk(source)
            if isinstance(node, ast.Assign)
            for target in node.targets
            for name in (target.elts if isinstance(target, ast.Tuple) else [target])
        ]
        for code in written(step):
            name, _, value = code.partition(" = ")
            assert name != "J" or step.name == "loss", code
            assert [*given, "J"].count(name) == 1, code
            assert name not in changed, code
            assert not re.match(r"np\.(empty|zeros|ones|full)", value), code


def test_of_an_op_only_what_is_all_of_it_is_written():
    lines = {
        ("y = np.maximum(x, 0)", "return y, ReluCache(y)"): ["y = np.maximum(x, 0)"],
        ("y = rows @ weight", "y += bias", "return y, cache"): [],
        ("dx = dy * weight", "dx /= s", "return dx, cache"): [],
        ("dx = np.empty(x.shape)", "return dx, cache"): [],
        ("dx = dy", "dx = dx * y", "return dx, cache"): [],
        ("return output_gradient * (cache.y > 0)",): [],
    }
    for code, expected in lines.items():
        excerpts = [Excerpt("manual/x.py", 1, "\n".join(code))]
        assert written(Step("2.relu", False, "", "", excerpts, [], [])) == expected
    loss = Step("loss", False, "", "", [Excerpt("manual/x.py", 1, "return np.sum(terms) / m")], [], [])
    assert written(loss) == ["J = np.sum(terms) / m"]


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
