"""What a report says, on a page: all that it prints, with the verdict as a badge and what is wrong before the rest."""

import pytest

from compare.html.judgement import LONG, announced, judgement, without_verdict
from compare.judge.reports.gradient_report import GradientReport
from compare.judge.reports.verdict import Diagnosis, Row, Verdict
from tests.compare.html.markup import HOSTILE, Outline


def row(path, verdict=Verdict.AGREE):
    return Row(path, verdict, (2,), "float64", 1.0, 0.5, 1e-16, (0,), 1.5, 1.0, message="1.5, where 1 is expected")


def words(markup):
    return " ".join("".join(Outline(markup).data).split())


@pytest.mark.parametrize(
    ("sentence", "rest"),
    [
        ("AGREE: 3 steps are the same.", "3 steps are the same."),
        ("AGREE: the loss is right.", "The loss is right."),
        ("AGREE (at the perturbed point 'x'): the loss.", "(at the perturbed point 'x'): the loss."),
        ("AGREE: b1: it is frozen.", "b1: it is frozen."),
    ],
)
def test_a_sentence_without_its_verdict_keeps_the_names_in_it(sentence, rest):
    assert without_verdict(Verdict.AGREE, sentence) == rest


@pytest.mark.parametrize(
    ("verdict", "sign"), [(Verdict.AGREE, "✓"), (Verdict.DISAGREE, "✗"), (Verdict.INCONCLUSIVE, "?")]
)
def test_the_verdict_is_a_badge_before_its_sentence(verdict, sign):
    text = words(announced(verdict, f"{verdict.name}: it is {HOSTILE}"))
    assert text.startswith(f"{sign} {verdict.name} It is")
    assert HOSTILE in "".join(Outline(announced(verdict, f"{verdict.name}: it is {HOSTILE}")).data)


def test_all_that_a_report_prints_is_there():
    rows = [row("W1", Verdict.DISAGREE), row("b1")]
    diagnoses = [Diagnosis("W1", "factor", "it is 2 times what it should be.", 2.0)]
    report = GradientReport(Verdict.DISAGREE, rows, "W1", diagnoses=diagnoses, notes=["a note"])
    text = words(judgement(report, "Gradients"))
    for line in [without_verdict(Verdict.DISAGREE, report.lines()[0]), *report.lines()[1:]]:
        assert " ".join(line.split()) in text
    assert text.index("W1") < text.index("b1")


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_long_table_is_folded_and_what_is_wrong_in_it_is_not(wrong):
    rows = [row(f"layer.{i}") for i in range(LONG + 1)]
    rows[7 : 7 + wrong] = [row("wrong", Verdict.DISAGREE)] * wrong
    verdict = Verdict.DISAGREE if wrong else Verdict.AGREE
    markup = judgement(GradientReport(verdict, rows, "wrong" if wrong else None), "Gradients")
    outline = Outline(markup)
    assert outline.text["summary"] == f"All {LONG + 1} rows"
    assert [name for name, _ in outline.elements].count("table") == 1 + wrong
    assert not wrong or markup.index(">wrong<") < markup.index("<details>")


def test_a_table_of_as_many_rows_as_fit_is_not_folded():
    assert "<details" not in judgement(GradientReport(Verdict.AGREE, [row(f"layer.{i}") for i in range(LONG)]), "x")
