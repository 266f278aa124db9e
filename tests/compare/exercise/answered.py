"""What the exercises of every module are held to: three wrong answers are explained, and a right one agrees.

What else people answer, `python -m benchmarks.exercise_answers` judges.
"""

from collections import Counter
from pathlib import Path

from benchmarks.exercise_answers import judged
from compare.exercise.sheet import as_python


def answer_tests(exercises, answers):
    """The tests of the exercises of a module, with what people answer to them."""
    return type("TestAnswers", (AnswerTests,), {"EXERCISES": exercises, "ANSWERS": answers})


def some(answers, exercise):
    """The first three wrong answers that are explained, and the first right one."""
    known = [answer for answer in answers if answer.exercise == exercise and not answer.not_yet]
    return [answer for answer in known if not answer.right][:3] + [answer for answer in known if answer.right][:1]


class AnswerTests:
    EXERCISES, ANSWERS = {}, []

    def pytest_generate_tests(self, metafunc):
        if "answer" in metafunc.fixturenames:
            judged_here = [answer for name in self.EXERCISES for answer in some(self.ANSWERS, name)]
            metafunc.parametrize("answer", judged_here, ids=lambda each: f"{each.exercise}: {each.name}")

    def test_it_is_judged_as_it_should_be(self, answer):
        found = judged(answer)
        assert not found.miss, f"{found.miss}\n{found.report}"

    def test_three_wrong_answers_are_explained_and_an_unusual_one_is_right(self):
        explained = Counter(answer.exercise for answer in self.ANSWERS if answer.kinds and not answer.not_yet)
        right = Counter(answer.exercise for answer in self.ANSWERS if answer.right)
        assert {answer.exercise for answer in self.ANSWERS} == set(self.EXERCISES)
        assert all(explained[name] >= 3 and right[name] >= 1 for name in self.EXERCISES), (explained, right)

    def test_hints_go_step_by_step_and_the_page_is_one_of_manual(self):
        for name, exercise in self.EXERCISES.items():
            *first, formula = exercise.hints
            assert not any(formula in hint for hint in first), name
            assert exercise.page.__module__.startswith("manual."), name
            assert formula not in as_python(name)


def filled(name, **lines):
    """The learner's file with its blanks filled in, by the names that they are assigned to."""
    text = as_python(name)
    for blank, value in lines.items():
        assert f"    {blank} = ...\n" in text, blank
        text = text.replace(f"    {blank} = ...\n", f"    {blank} = {value}\n")
    return text


def written(folder: Path, name, **lines) -> Path:
    """The same in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(filled(name, **lines), encoding="utf-8")
    return file


RIGHT = {"dx": "dy", "db": "dy.sum(axis=0)"}  # of `bias`
WRONG = {"dx": "dy", "db": "dy.mean(axis=0)"}
