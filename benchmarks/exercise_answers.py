"""Judges typical wrong answers to the exercises, and unusual right ones.

    python -m benchmarks.exercise_answers [part of an exercise's name]

Every wrong answer names a public source, or says that none is known. The command exits with 1 if a wrong answer agrees,
a right one does not, or the first wrong quantity or the cause of a wrong answer is not among the expected ones.
"""

import sys
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.answers import activations, layers, losses, normalization, sequences, training, windows
from benchmarks.answers.entry import Answer
from compare import Verdict
from compare.exercise import EXERCISES
from compare.exercise.judging import Report, report_on
from compare.exercise.mistakes import recognized
from compare.exercise.outcome import COMMON_MISTAKE, marks
from compare.exercise.sheet import function_name

MODULES = (layers, activations, losses, normalization, windows, sequences, training)
ANSWERS: tuple[Answer, ...] = tuple(answer for module in MODULES for answer in module.ANSWERS)


@dataclass(frozen=True)
class Outcome:
    answer: Answer
    report: Report
    mistake: str = ""  # the sentence of the exercise's own table of mistakes

    @property
    def kinds(self) -> list[str]:
        found = [diagnosis.kind for diagnosis in self.report.diagnoses]
        return list(dict.fromkeys([*found, *([COMMON_MISTAKE] if self.mistake else [])]))

    @property
    def miss(self) -> str:
        """The difference between the report and what is expected; empty if there is none."""
        if self.answer.right:
            return "" if self.report.verdict is Verdict.AGREE else f"is {self.report.verdict.name}"
        if self.report.verdict is not Verdict.DISAGREE:
            return f"is {self.report.verdict.name}"
        if (self.report.first_wrong or "-") not in self.answer.places:
            return f"is placed at {self.report.first_wrong}"
        if not set(self.kinds) <= self.answer.kinds or not (self.kinds or self.answer.not_yet):
            expected = ", ".join(sorted(self.answer.kinds)) or "none"
            return f"has the causes {', '.join(self.kinds) or 'none'}, expected {expected}"
        return ""

    @property
    def named(self) -> bool:
        """Whether it is a wrong answer whose cause is named correctly."""
        return bool(self.kinds) and not self.miss


def judged(answer: Answer) -> Outcome:
    exercise = EXERCISES[answer.exercise]
    functions = {answer.exercise: exercise.given, function_name(answer.exercise): answer.function}
    report = report_on(answer.exercise, functions)
    wrong = [returned for returned, right in marks(answer.exercise, report).items() if not right]
    mistake = recognized(answer.exercise, functions, wrong)
    return Outcome(answer, report, mistake.sentence if mistake else "")


def main(part: str = "") -> int:
    outcomes = [judged(answer) for answer in ANSWERS if part in answer.exercise]
    table = Table("exercise", "answer", "source", "place", "cause", "sentence of the report")
    for o in outcomes:
        sentence = f"{o.report.sentence.removeprefix('DISAGREE: ')} {o.mistake}".rstrip()
        place = str(o.report.first_wrong or "")
        table.add_row(o.answer.exercise, o.answer.name, o.answer.source, place, ", ".join(o.kinds), sentence)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    missed = [o for o in outcomes if o.miss]
    for o in missed:
        print(f"- {o.answer.exercise}, {o.answer.name}: {o.miss}\n    {o.report.sentence}")
    wrong = sum(not o.answer.right for o in outcomes)
    print(f"The cause is named for {sum(o.named for o in outcomes)} of {wrong} wrong answers.")
    print(f"{wrong} wrong answers and {len(outcomes) - wrong} right ones; {len(missed)} are not judged as expected.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
