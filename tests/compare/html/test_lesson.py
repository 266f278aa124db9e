"""The page of a lesson as text: what is on it, that none of it is markup by accident, that it is all in one file."""

import ast
import json
import re
from dataclasses import replace
from textwrap import indent

import pytest

from compare.html.lesson import lesson_page
from compare.html.lesson_steps import written
from compare.lesson import MODELS, lesson
from compare.lesson.content import Step
from compare.lesson.source import Excerpt
from compare.lesson.text import as_text
from tests.compare.html.markup import HOSTILE, Outline
from tests.compare.lesson.test_lessons import brief, shown_lines  # noqa: F401


@pytest.fixture(scope="module")
def found(brief):  # noqa: F811
    return lesson()


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
def test_a_formula_says_what_its_step_computes(model, brief):  # noqa: F811
    """No name in it stands for something else a line later: none is given twice, changed, or memory to be filled."""
    for step in MODELS[model](seed=0).steps:
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


def test_the_cost_is_said_as_it_was_counted(found, outline):
    count = found.backward_mode.operations
    for text in (" ".join(outline.data), as_text(found).replace("\n", " ")):
        assert all(f"{number:,}" in text for number in count.values())
        assert f"a small constant ({count['backward'] / count['loss']:.2g} here) times the" in text
        assert "Both were run" not in text
        assert "transposed, from the last operation to the first" in text
        assert "unused" in text


def test_of_the_side_of_jax_nothing_is_said_that_manual_needs_as_well(outline):
    assert "in JAX, the forward is all there is" in outline.data
    assert "JAX needs only" not in outline.data


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


def test_text_from_outside_stays_text(found):
    steps = [replace(step, title=HOSTILE, words=HOSTILE, derivation=HOSTILE) for step in found.steps]
    page = lesson_page(replace(found, title=HOSTILE, about=[HOSTILE, HOSTILE], steps=steps))
    outline = Outline(page)
    assert [name for name, _ in outline.elements].count("script") == 2
    assert "img" not in {name for name, _ in outline.elements}
    assert HOSTILE in outline.data


def test_the_same_lesson_gives_the_same_page(found):
    assert lesson_page(found) == lesson_page(lesson())


def test_a_network_without_a_plane_has_no_picture_of_one():
    outline = Outline(lesson_page(lesson("mlp")))
    assert not [a for _, a in outline.elements if "data-contour" in a]
    assert [a for _, a in outline.elements if "data-marker" in a]
    assert "dx = dy W^T" in outline.text["pre"]
    assert "approximate    Phi'" in outline.text["pre"]  # columns stay columns
