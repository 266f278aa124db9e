"""What a report says: first of all what to fix; then the same to programs and to notebooks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from compare import Diagnosis, GradientMismatch, GradientReport, Row, Verdict
from compare.judge.evaluation.finite_differences import Derivative
from compare.judge.reports.gradient_report import BLAME, BLAME_THERE


def row(path, verdict, message=""):
    return Row(path, verdict, (3, 4), "float64", 1.5, 0.25, 1e-15, (1, 2), 0.5, 0.75, message=message)


RIGHT = [row("loss", Verdict.AGREE), row("W2", Verdict.AGREE)]
WRONG = [row("loss", Verdict.AGREE), row("Z2", Verdict.DISAGREE, "0.5 at [1, 2], where 0.75 is expected")]
FACTOR = Diagnosis("Z2", "factor", "it is 12 times what it should be (12 = x.shape[1]).", 12.0)


def first_line(report):
    return str(report).splitlines()[0]


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (
            GradientReport(Verdict.AGREE, RIGHT),
            "AGREE: the loss and every gradient are the same to within rounding.",
        ),
        (
            GradientReport(Verdict.INCONCLUSIVE, RIGHT, notes=["this point is nonsmooth."]),
            "INCONCLUSIVE: this point is nonsmooth.",
        ),
        (
            GradientReport(Verdict.DISAGREE, WRONG, "Z2", [FACTOR], "manual"),
            "DISAGREE: the gradient of Z2: it is 12 times what it should be (12 = x.shape[1]).",
        ),
        (
            GradientReport(
                Verdict.DISAGREE, WRONG, "Z2", [replace(FACTOR, message="it is 12.")], "manual", probe="x 10"
            ),
            "DISAGREE (at the perturbed point 'x 10'): the gradient of Z2: it is 12.",
        ),
        (
            GradientReport(Verdict.DISAGREE, WRONG, "Z2"),
            "DISAGREE: the gradient of Z2: 0.5 at [1, 2], where 0.75 is expected.",
        ),
        (
            GradientReport(Verdict.DISAGREE, WRONG, "loss", [Diagnosis("loss", "sign", "the sign is wrong.")]),
            "DISAGREE: the loss: the sign is wrong. The gradient of Z2 is wrong, too.",
        ),
        (
            GradientReport(Verdict.DISAGREE, RIGHT, diagnoses=[Diagnosis("x", "modifies-arguments", "it modifies x.")]),
            "DISAGREE: it modifies x.",
        ),
    ],
)
def test_the_first_line_names_what_to_fix(report, line):
    assert report.sentence == line
    assert first_line(report) == line


def test_what_follows_the_first_line():
    follows = [*WRONG, row("W1", Verdict.DISAGREE)]
    second = Diagnosis("W1", "sign", "the sign is wrong.", -1.0)
    text = str(
        GradientReport(
            Verdict.DISAGREE, follows, "Z2", [FACTOR, second], "manual", notes=["a remark."], intermediates=("Z2",)
        )
    )
    lines = text.splitlines()
    assert lines[1] == "Also: the gradient of W1: the sign is wrong."
    assert lines[2] == BLAME["manual"]
    assert lines[3] == "Fix this first: the errors of W1 may follow from it."
    assert lines[4] == "Note: a remark."
    assert "3x4" in text
    assert not any(line != line.rstrip() for line in lines)


def test_the_first_line_and_what_to_fix_first_are_about_one_quantity():
    rows = [*WRONG, row("W1", Verdict.DISAGREE)]
    second = Diagnosis("W1", "sign", "the sign is wrong.", -1.0)
    text = str(GradientReport(Verdict.DISAGREE, rows, "Z2", [second], intermediates=("Z2",))).splitlines()
    assert text[0].startswith("DISAGREE: the gradient of Z2: ")
    assert text[1:3] == [
        "Also: the gradient of W1: the sign is wrong.",
        "Fix this first: the errors of W1 may follow from it.",
    ]
    assert "Fix this first" not in str(GradientReport(Verdict.DISAGREE, rows, "Z2", [second]))


@pytest.mark.parametrize("side", ["manual", "autodiff", "loss"])
def test_the_side_at_fault_is_named_in_a_sentence(side):
    assert BLAME[side] in str(GradientReport(Verdict.DISAGREE, WRONG, "Z2", [FACTOR], side))


def opinion(consistent, miss):
    return Derivative(1.0, 1.0 if consistent else 2.0, 0.1, None, miss)


@pytest.mark.parametrize(
    ("miss", "words"),
    [
        (3e-10, "(chance of missing an error this large: 3e-10)"),
        (0.04, "(chance of missing an error this large: 4%)"),
        (1.0, "too inexact here to confirm this"),
    ],
)
def test_a_side_found_by_differences_comes_with_what_they_may_miss(miss, words):
    opinions = {"manual, random": opinion(False, 0.9), "autodiff, random": opinion(True, miss)}
    assert words in " ".join(
        str(GradientReport(Verdict.DISAGREE, WRONG, "Z2", [FACTOR], "manual", references=opinions)).split()
    )


def test_a_side_that_needs_no_differences_comes_without():
    text = str(GradientReport(Verdict.DISAGREE, WRONG, "Z2", [FACTOR], "manual"))
    assert BLAME["manual"] in text.splitlines()


@pytest.mark.parametrize("side", ["manual", "autodiff", "loss"])
def test_an_error_at_a_perturbed_point_alone_convicts_no_side(side):
    report = GradientReport(Verdict.DISAGREE, WRONG, "Z2", [FACTOR], side, probe="x 10", changed=["w", "x"])
    text = " ".join(str(report).split())
    assert BLAME[side] not in text
    assert BLAME_THERE[side] in text
    assert "which changes w and x." in text
    assert "probes=False" in text


def test_a_harmless_side_effect_is_reported_beside_agreement():
    view = Diagnosis("W2", "view-of-parameters", "it is a view.")
    assert str(GradientReport(Verdict.AGREE, RIGHT, diagnoses=[view])).splitlines()[1].endswith("it is a view.")


def test_how_tolerances_were_measured_is_said_below_the_table():
    report = GradientReport(Verdict.AGREE, RIGHT, notes=["a remark."], tolerance_source="what rounding does.")
    assert str(report).splitlines()[-1] == "Tolerance: what rounding does."
    assert report.to_dict()["tolerance_source"] == "what rounding does."


def test_no_number_is_no_number_of_the_table():
    nothing = Row("W2", Verdict.DISAGREE, (3,), "float64", 1.0, message="nan at [1], where 2 is expected")
    text = str(GradientReport(Verdict.DISAGREE, [nothing], "W2"))
    assert "nan   " not in text
    assert text.splitlines()[-1].split() == ["W2", "3", "float64", "1", "-", "-", "disagree"]


def test_a_wrong_loss_hides_no_gradient_and_leads_to_none():
    rows = [row("loss", Verdict.DISAGREE, "1 at its only entry, where 2 is expected"), *WRONG[1:]]
    text = " ".join(str(GradientReport(Verdict.DISAGREE, rows, "loss", [FACTOR])).split())
    alone = str(GradientReport(Verdict.DISAGREE, rows, "loss"))
    assert "The gradient of Z2 is wrong, too." in " ".join(alone.split())
    assert "Fix this first" not in text
    assert "too." not in str(GradientReport(Verdict.DISAGREE, rows[:1], "loss"))


def test_the_report_as_strict_json():
    """With everything that JSON has no word for: NaN, infinity, tuples, NumPy's numbers, enums."""
    missing = Row("b1", Verdict.DISAGREE, (), "float32", float("inf"), message="missing on the manual side")
    undecided = Derivative(np.float64(1.0), float("nan"), float("inf"), None, 1e-9)
    report = GradientReport(
        Verdict.DISAGREE,
        [*WRONG, missing],
        "Z2",
        [FACTOR],
        "manual",
        "x 10",
        {"x 10": "disagree"},
        {"a": undecided},
        ["n"],
    )
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["verdict"] == "disagree"
    assert data["first_wrong"] == "Z2"
    assert data["wrong_side"] == "manual"
    assert data["probe"] == "x 10"
    assert data["diagnoses"] == [{"path": "Z2", "kind": "factor", "message": FACTOR.message, "factor": 12.0}]
    assert data["rows"][1]["worst_index"] == [1, 2]
    assert data["rows"][2]["error"] == "nan"
    assert data["references"]["a"]["error"] == "inf"


def test_names_are_text_and_never_markup():
    report = GradientReport(Verdict.DISAGREE, [row("<b>[red]W", Verdict.DISAGREE, "0 < 1 & 2")], "<b>[red]W")
    html = report._repr_html_()
    assert "<table>" in html
    assert "&lt;b&gt;[red]W" in html
    assert "<b>" not in html
    assert "0 &lt; 1 &amp; 2" in html
    assert "<b>[red]W" in str(report)


def test_a_report_is_not_a_truth_value():
    report = GradientReport(Verdict.AGREE, RIGHT)
    with pytest.raises(TypeError, match=r"report\.verdict"):
        bool(report)
    with pytest.raises(TypeError, match="a verdict is not a truth value"):
        bool(report.verdict)


def test_the_mismatch_says_what_the_report_says():
    report = GradientReport(Verdict.DISAGREE, WRONG, "Z2", [FACTOR])
    error = GradientMismatch(report)
    assert isinstance(error, AssertionError)
    assert error.report is report
    assert str(report) in str(error)


@pytest.mark.parametrize(
    ("own_point", "words"),
    [
        (
            Verdict.INCONCLUSIVE,
            "The check at your own point is inconclusive; the error shows at the perturbed point 'far'",
        ),
        (Verdict.AGREE, "No error shows at your own point, only at the perturbed point 'far'"),
    ],
)
def test_a_point_that_cannot_be_judged_is_not_called_free_of_errors(own_point, words):
    report = GradientReport(Verdict.DISAGREE, WRONG, "Z2", [FACTOR], "manual", probe="far", own_point=own_point)
    (line,) = [line for line in report.lines() if "your own point" in line]
    assert line.startswith(words)
