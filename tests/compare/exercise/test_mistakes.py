"""The table of common wrong answers: each is recognized, and another wrong answer is not taken for it."""

import numpy as np
import pytest

from compare.exercise import EXERCISES
from compare.exercise.mistakes import MISTAKES, recognized
from compare.exercise.outcome import judged
from compare.exercise.reading import read
from compare.exercise.sheet import function_name
from tests.compare.exercise.answered import written

ALL = [(name, mistake) for name, mistakes in MISTAKES.items() for mistake in mistakes]
CROSS_ENTROPY = "dy * (np.exp(log_p) - np.eye(log_p.shape[1])[labels]) / len(labels)"


def functions(name, answer):
    return {name: EXERCISES[name].given, function_name(name): answer}


def concerned(name, mistake):
    """The gradients that a mistake makes wrong."""
    given = EXERCISES[name].given
    assert given is not None
    value, cache = given(*EXERCISES[name].inputs)
    found = mistake.answer(np.ones(np.shape(value)), cache)
    return [each for each, gradient in zip(EXERCISES[name].returns, found, strict=True) if gradient is not None]


@pytest.mark.parametrize(("name", "mistake"), ALL, ids=lambda each: getattr(each, "sentence", each))
def test_each_mistake_is_recognized_and_told_from_the_others(name, mistake):
    assert recognized(name, functions(name, mistake.answer), concerned(name, mistake)) is mistake


@pytest.mark.parametrize(("name", "mistake"), ALL, ids=lambda each: getattr(each, "sentence", each))
def test_an_answer_that_is_near_a_mistake_is_not_taken_for_it(name, mistake):
    def near(dy, cache):
        return tuple(None if each is None else each * (1 + 1e-5) for each in mistake.answer(dy, cache))

    def of_another_shape(dy, cache):
        return tuple(None if each is None else each[:, :1] for each in mistake.answer(dy, cache))

    for answer in (near, of_another_shape):
        assert recognized(name, functions(name, answer), concerned(name, mistake)) is None


def test_a_mistake_does_not_explain_another_wrong_gradient():
    (mistake, *_) = MISTAKES["layer_norm"]
    both = functions("layer_norm", lambda dy, cache: (mistake.answer(dy, cache)[0], dy.mean(axis=0), dy.sum(axis=0)))
    assert recognized("layer_norm", both, ["dx"]) is mistake
    assert recognized("layer_norm", both, ["dx", "dweight"]) is None
    assert recognized("layer_norm", both, []) is None
    assert recognized("broadcast", functions("broadcast", lambda dy, cache: (dy, dy, dy)), ["dscale"]) is None


def test_a_learner_reads_the_sentence_below_the_report(tmp_path):
    found = judged(
        "cross_entropy", read(written(tmp_path, "cross_entropy", dz=CROSS_ENTROPY.replace("np.exp(log_p)", "log_p")))
    )
    sentence = "log_p is used in place of p. The cache holds logarithms: p = exp(log_p)."
    assert found.mistake == sentence
    assert str(found).endswith(f"{sentence}\n\ndz wrong")
    assert sentence in found._repr_html_()
    value = found.to_dict()
    assert value["sentence"].endswith(sentence)
    assert value["causes"] == ["common-mistake"]


def test_a_right_answer_has_no_mistake(tmp_path):
    found = judged("cross_entropy", read(written(tmp_path, "cross_entropy", dz=CROSS_ENTROPY)))
    assert (found.right, found.mistake, found.to_dict()["causes"]) == (True, "", [])
