"""What is said of an answer, its points, and the page beside it."""

import re

import pytest

from compare.exercise import EXERCISES
from compare.exercise.outcome import judged, page_beside
from compare.exercise.reading import read
from tests.compare.exercise.answered import RIGHT, WRONG, written


def outcome(folder, name, **lines):
    return judged(name, read(written(folder, name, **lines)))


def test_a_wrong_gradient_costs_its_point(tmp_path):
    found = outcome(tmp_path, "bias", **WRONG)
    assert (found.verdict, found.score, found.marks) == ("disagree", 1, {"dx": True, "db": False})
    assert str(found).startswith("DISAGREE: the gradient of b: it is 0.2 times what it should be")
    assert str(found).endswith("dx right   db wrong")
    assert found.to_dict() | {"sentence": ""} == {
        "exercise": "bias",
        "verdict": "disagree",
        "score": 1,
        "max_score": 2,
        "sentence": "",
        "place": "b",
        "causes": ["factor"],
    }
    assert "0.2 times" in found._repr_html_()


def test_a_right_one_has_all_points(tmp_path):
    found = outcome(tmp_path, "bias", **RIGHT)
    assert (found.right, found.score) == (True, 2)
    assert "manual/layers.py, dense_backward" in found._repr_html_()


def test_right_numbers_and_a_side_effect_are_not_worth_all_points(tmp_path):
    found = outcome(tmp_path, "bias", dx="dy", db="dy.sum(axis=0); dy *= 1.5; dx = dy / 1.5")
    assert found.verdict == "disagree"
    assert found.to_dict()["causes"] == ["modifies-arguments"]
    assert found.score == 1
    for said in (str(found), found.to_dict()["sentence"], found._repr_html_()):
        assert re.search(r"\bdy\b", said)
        assert not re.search("cotangent|output gradient", said)


def test_what_a_step_returns_is_marked_by_name(tmp_path):
    lines = {"v_new": "beta * v + g", "p_new": "p - rate * v"}
    found = outcome(tmp_path, "momentum", **lines)
    assert found.marks == {"p": False, "v": True}


@pytest.mark.parametrize("name", EXERCISES)
def test_every_page_can_be_shown(name):
    text = page_beside(name, None, 80)
    assert f"{EXERCISES[name].page.__name__}" in text
    assert '"""' not in text


def test_what_a_page_uses_is_shown_below_it_once():
    text = page_beside("cross_entropy", None, 80)
    page, _, used = text.partition("What it uses:")
    for name in ("class CrossEntropyCache(NamedTuple):", "def per_term(output_gradient,", "def _distribution(t,"):
        assert used.count(name) == 1
        assert name not in page
    assert 'counted: Bool[np.ndarray, "*rows"]  # False where ignored' in used
    assert "def _adam_step(" in page_beside("adam", None, 80)  # of a function within the page's
    assert "def decays(**values):" in page_beside("adam", None, 80)


def test_the_page_stands_beside_where_there_is_room_and_below_where_not(tmp_path):
    answer = read(written(tmp_path, "softmax", dx="y * (dy - np.sum(y * dy, axis=1, keepdims=True))"))
    wide, narrow = page_beside("softmax", answer, 150), page_beside("softmax", answer, 60)
    assert "def softmax_backward(dy, cache):" in wide
    assert any("y = cache" in line and "│" in line and "output_gradient" in line for line in wide.splitlines())
    assert "│" not in narrow
    assert narrow.index("Yours:") < narrow.index("y = cache") < narrow.index("The page's:")
