"""What a bench found: ratios, the sentences about them, JSON and back."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.bench.results import Bench, Cell, quartiles, two_digits
from compare.bench.turns import Measured
from compare.errors import BadInput
from tests.compare.bench.runs import a_cell, a_run


def test_ratios_are_taken_within_rounds():
    cell = a_cell(bound=[1.0, 2.0, 4.0], manual=[2.0, 4.0, 8.0], autodiff=[0.5, 2.0, 1.0])
    assert cell.ratio("manual") == 2
    assert cell.ratio("autodiff") == 0.5
    assert cell.ratio("manual", "torch") is None
    assert cell.break_even() == pytest.approx(0.5 / (4 - 1))
    slower = a_cell(manual=[1.0], autodiff=[1.0])
    assert slower.break_even() is None


def test_where_jax_overtakes_numpy_is_told():
    small = a_cell("2x2x2", 10, manual=5 * [1.0], autodiff=5 * [2.0])
    middle = a_cell("3x3x3", 20, manual=5 * [1.0], autodiff=5 * [1.5])
    large = a_cell("4x4x4", 30, manual=5 * [1.0], autodiff=5 * [0.5])
    larger = a_cell("5x5x5", 40, manual=5 * [1.0], autodiff=5 * [0.9])
    when = "compilation is made up for after"
    overtakes = "JAX overtakes NumPy between 3x3x3 and 4x4x4; there,"
    assert a_run(large, small, middle).lines() == [f"{overtakes} {when} 1 step."]
    assert a_run(large, larger, small, middle).lines() == [f"{overtakes} {when} 1 to 5 steps."]
    assert a_run(small, middle).lines() == ["NumPy is ahead of JAX at 2x2x2, 3x3x3."]
    assert a_run(large).lines() == [f"JAX is ahead of NumPy; {when} 1 step."]
    assert a_run(large, larger).lines() == [f"JAX is ahead of NumPy at every size; {when} 1 to 5 steps."]
    back = a_cell("6x6x6", 50, manual=5 * [1.0], autodiff=5 * [1.5])
    others = "and JAX at the other sizes; there,"
    assert a_run(large, back).lines() == [f"NumPy is ahead of JAX at 6x6x6, {others} {when} 1 step."]
    assert a_run(small, large, back).lines() == [f"NumPy is ahead of JAX at 2x2x2, 6x6x6, {others} {when} 1 step."]
    assert a_run(a_cell(manual=5 * [1.0])).lines() == []


def test_rounds_that_differ_much_have_one_answer():
    """By rounds JAX is ahead, by its medians behind: nobody can tell."""
    cell = a_cell(manual=3 * [1.0, 2.0, 1.5], autodiff=3 * [0.9, 1.8, 1.7])
    run = a_run(cell)
    (line,) = run.lines()
    assert line == "Cannot tell whether NumPy or JAX is ahead at 1x2x3: the rounds spread too far."
    assert cell.shown_ratio("manual", "autodiff") == "?"
    assert run.to_dict()["summary"] == run.lines()


def test_headlines_leave_out_what_the_rounds_do_not_tell():
    steady = a_cell("2x2x2", 10, manual=3 * [2.0, 2.1, 2.0], autodiff=3 * [1.0, 1.0, 1.0])
    close = a_cell("3x3x3", 20, manual=3 * [1.0, 1.06, 1.2], autodiff=3 * [1.05, 1.05, 1.05])
    unsteady = a_cell("4x4x4", 30, manual=3 * [1.0, 1.0, 9.0], autodiff=3 * [0.5, 0.5, 0.5])
    first, *others = a_run(steady, close, unsteady).lines()
    assert first == (
        "JAX is ahead of NumPy at 2x2x2; compilation is made up for after 1 step. "
        "Cannot tell at 3x3x3, 4x4x4: the rounds spread too far."
    )
    assert [line.startswith("Unsteady: manual at 4x4x4") for line in others] == [True]
    assert close.shown_ratio("manual", "autodiff") == "1.01 ±9%"  # known, if not decided
    assert a_run(steady).lines()[0].startswith("JAX is ahead of NumPy; ")


@pytest.mark.parametrize("rounds", [1, 2, 4])
@pytest.mark.parametrize("kind", ["shallow", "ops"])
def test_few_rounds_name_no_contestant_that_is_faster(kind, rounds):
    """Two exact rounds may both have been disturbed; five are enough."""

    def lines(count):
        cells = [a_cell(size, manual=count * [8.0], autodiff=count * [1.0]) for size in ("gelu", "relu")]
        return a_run(*cells, kind=kind).lines()

    (line,) = lines(rounds)
    assert line.startswith("Cannot tell ")
    assert line.endswith(": fewer than 5 rounds do not show how far the times spread. Give --rounds 9, for example.")
    assert lines(5)[0].startswith("JAX is ahead of NumPy" if kind == "shallow" else "manual takes 8.0 times as long")


def test_a_mean_leaves_out_what_is_unsteady_or_vague():
    """As of an op whose median was 22.7 ms, and one round 176 µs."""
    good = [a_cell(name, manual=3 * [1.0, 1.0, 1.1], torch=3 * [2.0, 2.0, 2.0]) for name in ("relu", "tanh")]
    noise = a_cell("gelu", manual=3 * [176e-6, 300e-6, 176e-6], torch=3 * [22.7e-3, 176e-6, 22.7e-3])
    (told, *others) = a_run(*good, noise, kind="ops").lines()
    assert told == (
        "manual takes 0.50 times as long as torch, the geometric mean of 2 ops (without gelu, whose rounds differ too "
        "much); at most 0.50 times (tanh)."
    )
    assert len(others) == 1
    told, *_ = a_run(good[0], noise, noise, kind="ops").lines()
    assert told == "Cannot tell how manual compares with torch at gelu, gelu: the rounds spread too far."


@settings(max_examples=50)
@given(st.floats(1e-6, 1e6))
def test_a_ratio_has_two_digits_and_is_never_nothing(ratio):
    written = two_digits(ratio)
    assert float(written) == pytest.approx(ratio, rel=0.0501)
    assert len(written.replace(".", "").lstrip("0")) == 2 or (ratio >= 99.5 and "." not in written)
    assert "e" not in written
    assert not written.endswith(".")


def test_the_settings_are_told_in_words():
    run = a_run(a_cell(manual=[1.0]))
    run.settings |= {"only": ["manual", "autodiff"], "options": {"hidden": 8}}
    assert "only manual, autodiff, " in run.about() or run.about().endswith("only manual, autodiff")
    assert "options hidden 8" in run.about()
    assert "[" not in run.about()


def test_a_bound_that_is_none_is_told():
    run = a_run(a_cell("2x2x2", bound=[1.0], manual=[0.5]), a_cell("3x3x3", bound=[1.0], manual=[1.5]))
    (line,) = run.lines()
    assert line.startswith("At 2x2x2 a step by hand takes much less time than the GEMM bound.")


def test_of_ops_the_means_are_told():
    cells = [
        a_cell(name, manual=5 * [2.0], autodiff=5 * [1.0], torch=5 * [ratio])
        for name, ratio in (("gelu", 1.0), ("relu", 4.0))
    ]
    assert a_run(*cells, kind="ops").lines() == [
        "manual takes 2.0 times as long as autodiff, the geometric mean of 2 ops; at most 2.0 times (relu).",
        "manual takes 1.0 times as long as torch, the geometric mean of 2 ops; at most 2.0 times (gelu).",
    ]


def test_a_view_is_no_work_that_could_be_compared():
    ops = {"flatten": (1e-6, 1e-7), "gelu": (2.0, 1.0), "relu": (2.0, 1.0)}
    cells = [a_cell(name, manual=5 * [manual], torch=5 * [torch]) for name, (manual, torch) in ops.items()]
    (told,) = a_run(*cells, kind="ops").lines()
    assert "2.0 times as long as torch, the geometric mean of 2 ops (without flatten, too short to time)" in told


def test_results_survive_json():
    failed = Cell("2x2x2", "about", 10, {"torch": Measured([], 0.0, None, 0, None, None, "no reason")})
    run = a_run(a_cell(bound=[1.0, 2.0, 3.0], manual=[2.0, 3.0, 4.0], autodiff=[1.0, 1.0, 1.0]), failed)
    again = Bench.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False)), "here")
    assert again == run
    assert again.to_dict() == run.to_dict()
    assert "torch failed: no reason" in str(failed)
    assert run.complete
    assert not replace(run, cells=run.cells[:1]).complete


@pytest.mark.parametrize("value", [[], {}, 3, None, {"format": 2}, {"format": 2, "cells": [3]}])
def test_what_is_no_result_is_refused(value):
    with pytest.raises(BadInput, match="here does not contain results of `backproof bench --json`"):
        Bench.from_dict(value, "here")
    with pytest.raises(BadInput, match="here has format 99 of bench results, and this version reads format 2 only"):
        Bench.from_dict({"format": 99}, "here")


def test_a_ratio_stands_beside_its_spread_and_the_load():
    loads = {"bound": [0.0] * 5, "manual": [0.4, 0.5, 1.9, 0.5, 0.5]}
    rounds = {"bound": [1.0] * 5, "manual": [1.9, 2.0, 2.0, 2.1, 2.2]}
    measured = {n: Measured(rounds[n], 0.0, None, 2**20, None, 0.0, load=loads[n]) for n in rounds}
    cell = Cell("1x2x3", "about", 1000, measured)
    assert cell.shown_ratio("manual") == "2.00 ±3%"
    assert cell.load("manual") == 0.5
    row = next(line for line in str(cell).splitlines() if line.strip().startswith("manual"))
    assert re.search(r"2\.00 ±3% +0\.5", row)
    written = cell.to_dict()["contestants"]["manual"]
    assert (written["spread_of_ratio"], written["load_of_others"]) == (pytest.approx(0.025), 0.5)
    assert Cell.from_dict(cell.to_dict()) == cell
    assert a_cell(manual=[1.0]).load("manual") is None  # a system that does not tell


@pytest.mark.parametrize(
    ("rounds", "ready", "said"),
    [
        ([5e-4] * 8 + [4.4e-2], None, "took 44 ms a step in round 9, and 500 µs in the median"),
        ([5e-4] * 9, 4.4e-2, "took 44 ms a step in the warm-up, and 500 µs in the median"),
        ([4.4e-2] * 8 + [5e-4], 4.4e-2, "took 500 µs a step in round 9, and 44 ms in the median"),
        ([1.0, 1.4, 0.8, 2.0], 1.5, None),
        ([5e-4], 4.4e-2, None),
    ],
)
def test_who_is_many_times_off_in_one_round_is_flagged(rounds, ready, said):
    cell = Cell("2x2x2", "about", 10, {"torch": Measured(rounds, 0.0, None, 0, None, None, ready=ready)})
    assert list(cell.unsteady()) == (["torch"] if said else [])
    told = a_run(cell).lines() + a_run(cell, kind="ops").lines()
    assert (
        told == 2 * [f"Unsteady: torch at 2x2x2 {said}. Another process may have disturbed it: run it again."]
        or not said
    )


def test_the_middle_half():
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_the_fast_twin_stands_for_numpy_where_both_were_timed():
    both: dict[str, Any] = {"manual": 5 * [9.0], "manual-fast": 5 * [3.0], "autodiff": 5 * [6.0]}
    assert a_run(a_cell(**both)).lines() == ["NumPy is ahead of JAX at 1x2x3."]
    assert a_cell(**both).by_hand == "manual-fast"
    assert a_cell(manual=5 * [9.0]).by_hand == "manual"


def test_of_one_op_the_mean_is_over_sizes():
    cells = [a_cell(f"gelu:{size}", manual=5 * [2.0], autodiff=5 * [1.0]) for size in ("2x2", "4x4")]
    (line,) = a_run(*cells, kind="ops").lines()
    assert "the geometric mean of 2 sizes;" in line
