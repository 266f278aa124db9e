"""What a report on two training runs says: the step and the parameter to look at, or why none can be named."""

import json
from dataclasses import replace

import pytest

from compare import Diagnosis, GradientReport, TrajectoryMismatch, TrajectoryReport, Verdict
from compare.judge.reports.trajectory_report import CHAOS, Curve, ParameterPath

SOUND = ParameterPath("W1", (3, 4), distance=2.0, drift=1e-15, largest_drift=1e-15, tolerance=1e-13, step_error=1e-17)
FROZEN = replace(SOUND, path="b1", wrong_step=7, message="0.5 at [1], where 0.25 is expected")
ADRIFT = replace(SOUND, path="b1", drift=1e-9, adrift_step=5)
CHAOTIC = replace(SOUND, path="b1", tolerance=0.5)
OVERFLOWN = replace(SOUND, path="b1", adrift_step=3, message="the reference is inf at [0]")
CAUSE = Diagnosis("b1", "frozen", "it does not move at all: it is never updated.")


def report(*rows, **more):
    return TrajectoryReport(9, list(rows), Curve(), **more)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (SOUND, Verdict.AGREE),
        (FROZEN, Verdict.DISAGREE),
        (ADRIFT, Verdict.INCONCLUSIVE),
        (CHAOTIC, Verdict.INCONCLUSIVE),
        (OVERFLOWN, Verdict.INCONCLUSIVE),
        (replace(ADRIFT, wrong_step=8), Verdict.DISAGREE),
        (ParameterPath("b1", (2,)), Verdict.AGREE),  # it did not move and should not have
    ],
)
def test_the_verdict_on_a_parameter_and_on_the_run(row, verdict):
    assert row.verdict is verdict
    assert report(SOUND, row).verdict is verdict


@pytest.mark.parametrize(
    ("made", "beginning"),
    [
        (report(SOUND), "AGREE: 9 steps are the same; the free runs never drifted apart by more than 1.0e-15"),
        (report(SOUND, FROZEN), "DISAGREE: step 7 of 9, b1: 0.5 at [1], where 0.25 is expected."),
        (report(SOUND, FROZEN, diagnoses=[CAUSE]), "DISAGREE: step 7 of 9, b1: it does not move at all"),
        (report(SOUND, ADRIFT), "INCONCLUSIVE: every single step is correct, but from step 5 on"),
        (report(SOUND, CHAOTIC), "INCONCLUSIVE: every single step is correct, but rounding errors alone"),
        (report(SOUND, OVERFLOWN), "INCONCLUSIVE: step 3, b1: the reference is inf at [0]."),
    ],
)
def test_the_first_line_names_the_step_and_the_parameter(made, beginning):
    assert made.sentence.startswith(beginning)
    assert str(made).startswith(beginning[:60])


@pytest.mark.parametrize(
    ("drift", "tolerance", "share"), [(1e-15, 1e-13, 0.01), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1e-9, 0.0, float("inf"))]
)
def test_a_drift_is_a_share_of_its_tolerance(drift, tolerance, share):
    assert replace(SOUND, drift=drift, tolerance=tolerance).share == pytest.approx(share)


def test_the_first_wrong_step_and_the_parameter_that_had_it():
    made = report(SOUND, replace(FROZEN, path="W2", wrong_step=8), FROZEN)
    assert (made.wrong_step, made.first_wrong) == (7, "b1")
    made = report(SOUND, ADRIFT)
    assert (made.wrong_step, made.first_wrong) == (None, None)
    assert report().verdict is Verdict.AGREE
    assert report().largest_drift == 0.0


def test_chaos_is_measured_by_the_distance_travelled():
    assert not replace(SOUND, tolerance=0.5 * CHAOS * SOUND.distance).chaotic
    assert replace(SOUND, tolerance=2 * CHAOS * SOUND.distance).chaotic
    assert not replace(SOUND, tolerance=1.0, distance=0.0).chaotic


def test_the_gradients_tell_a_wrong_rule_from_a_wrong_gradient():
    right, wrong = GradientReport(Verdict.AGREE, []), GradientReport(Verdict.DISAGREE, [], "b1", wrong_side="manual")
    assert report(FROZEN).wrong_side is None
    assert "so the update rule is wrong" in str(report(FROZEN, gradients=right))
    assert report(FROZEN, gradients=wrong).wrong_side == "manual"
    assert "The gradients at that step: DISAGREE" in str(report(FROZEN, gradients=wrong))


def test_the_report_as_strict_json():
    drift = Curve()
    drift.add(1, 1e-16)
    made = TrajectoryReport(9, [SOUND, replace(FROZEN, drift=float("nan"))], drift, [CAUSE])
    data = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert data["verdict"] == "disagree"
    assert (data["wrong_step"], data["first_wrong"]) == (7, "b1")
    assert data["diagnoses"][0]["kind"] == "frozen"
    assert [row["verdict"] for row in data["rows"]] == ["agree", "disagree"]
    assert data["rows"][1]["drift"] == "nan"
    assert data["drift"] == {"steps": [1], "values": [1e-16]}
    assert data["gradients"] is None


def test_names_are_text_and_never_markup():
    made = report(replace(FROZEN, path="<i>[red]b1"))
    assert "&lt;i&gt;[red]b1" in made._repr_html_()
    assert "<i>" not in made._repr_html_()
    assert "<i>[red]b1" in str(made)


def test_a_report_is_not_a_truth_value():
    with pytest.raises(TypeError, match=r"a report is not a truth value; look at report\.verdict"):
        bool(report(SOUND))


def test_the_mismatch_says_what_the_report_says():
    error = TrajectoryMismatch(report(FROZEN, diagnoses=[CAUSE]))
    assert isinstance(error, AssertionError)
    assert str(error.report) in str(error)


@pytest.mark.parametrize("length", [1, 9, 10, 11, 1000])
def test_a_record_of_drift_is_short_evenly_spaced_and_up_to_date(length):
    curve = Curve(capacity=10)
    for step in range(1, length + 1):
        curve.add(step, 0.5 * step)
    assert len(curve.steps) < 10
    assert curve.values == [0.5 * step for step in curve.steps]
    assert len({b - a for a, b in zip(curve.steps, curve.steps[1:], strict=False)}) <= 1
    assert length - curve.steps[-1] < curve.every


def test_a_state_that_agrees_is_counted_and_not_shown():
    rows = [ParameterPath(path, (2,), distance=1.0) for path in ("W", "state.step", "state.velocity.W")]
    text = str(TrajectoryReport(3, rows, Curve()))
    assert "The state agrees too: 2 arrays, not shown." in text
    assert "state.velocity" not in text
    wrong = [*rows[:2], replace(rows[2], wrong_step=2, message="off")]
    text = str(TrajectoryReport(3, wrong, Curve()))
    assert "1 array, not shown" in text
    assert "state.velocity.W" in text
