"""Lines of source, found in the syntax tree: as they stand in their files, one for each step, or an error."""

import inspect
import sys
from pathlib import Path

import pytest

from compare.lesson import MODELS
from compare.lesson.source import Excerpt, assignment, body, containing, leading_to, returned
from tests.compare.lesson.taught import shown_lines, subject_of

ROOT = Path(__file__).parents[3]


@pytest.mark.sweep
@pytest.mark.parametrize("model", MODELS)
def test_every_line_shown_stands_in_its_file_at_its_number(model):
    made = subject_of(model)
    excerpts = [made.root, *shown_lines(made.steps)]
    assert {excerpt.file.split("/")[0] for excerpt in excerpts} == {"manual", "autodiff"}
    for excerpt in excerpts:
        lines = (ROOT / excerpt.file).read_text(encoding="utf-8").splitlines()
        there = lines[excerpt.line - 1 : excerpt.line - 1 + len(excerpt.numbered())]
        assert inspect.cleandoc("\n" + "\n".join(there)) == excerpt.code


def one():
    a = 1
    b = a + 1
    a = 2
    return b


def nested():
    def inner():
        a = 5
        return a

    return inner


def test_a_line_that_is_not_there_or_not_alone_is_an_error():
    assert assignment(one, "b").code == "b = a + 1"
    assert returned(nested).code == "return inner"
    for function, target, count in ((one, "a", 2), (one, "dZ9", 0), (nested, "a", 0)):
        with pytest.raises(LookupError, match=f"{count} statements of {function.__name__} assign to {target}"):
            assignment(function, target)


def guarded(x):
    """What it does."""
    if x < 0:
        raise ValueError("negative")
    y = x + 1

    return y * 2


def delegating(x):
    return guarded(x)


def test_a_body_has_no_docstring_and_no_guards_and_follows_a_function_that_only_calls():
    (excerpt,) = body(guarded)
    assert excerpt.code == "y = x + 1\n\nreturn y * 2"
    first = inspect.getsourcelines(guarded)[1]
    assert excerpt == Excerpt("tests/compare/lesson/test_source.py", first + 4, excerpt.code)
    assert body(delegating)[1] == excerpt


def keeping(places):
    places["a"] = 1
    total = places["a"] + 1
    places["b"] = total


def test_a_line_is_found_by_a_piece_of_it():
    assert containing(keeping, "+ 1").code == 'total = places["a"] + 1'
    for fragment, count in (('places["a"]', 2), ("nothing", 0)):
        with pytest.raises(LookupError, match=f"{count} statements of keeping hold"):
            containing(keeping, fragment)


def through_names(places, x):
    y, x = {}, places
    a = x.reshape(-1)
    b, c = divmod(a, 2)
    other = max(a, b)
    total = b + c
    return y, other, total


def test_a_line_comes_after_those_that_compute_the_names_in_it():
    lines = [excerpt.code for excerpt in leading_to(through_names, "total")]
    assert lines == ["a = x.reshape(-1)", "b, c = divmod(a, 2)", "total = b + c"]
    assert len(leading_to(through_names, "other")) == 3
    with pytest.raises(LookupError, match="0 statements of through_names assign to z"):
        leading_to(through_names, "z")


def test_a_line_with_a_step_of_its_own_is_left_out():
    assert [excerpt.code for excerpt in leading_to(through_names, "total", {"total", "b"})] == ["total = b + c"]


def test_a_line_of_a_module_is_found_outside_of_its_functions():
    module = sys.modules[__name__]
    assert assignment(module, "ROOT").code == "ROOT = Path(__file__).parents[3]"
    with pytest.raises(LookupError, match=r"0 statements of \S+ assign to b"):
        assignment(module, "b")


def test_an_excerpt_knows_the_numbers_of_its_lines():
    excerpt = Excerpt("manual/x.py", 7, "a = 1\n\nb = 2")
    assert excerpt.place == "manual/x.py:7"
    assert excerpt.numbered() == [(7, "a = 1"), (8, ""), (9, "b = 2")]
