"""Two runs compared: what is slower or faster by more than the noise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.bench.changes import changes
from compare.bench.results import Cell, quartiles
from compare.bench.turns import Measured
from tests.compare.bench.runs import a_cell, a_run

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0]


def scaled(factor, values=STEADY):
    return [factor * value for value in values]


def test_a_slower_contestant_is_told_and_a_slower_machine_is_not():
    older = a_run(a_cell(bound=STEADY, manual=scaled(2), autodiff=STEADY))
    newer = a_run(a_cell(bound=scaled(3), manual=scaled(7.2), autodiff=scaled(2.7)))
    found = changes(older, newer)
    assert {row.name: row.verdict for row in found.rows} == {"manual": "slower", "autodiff": "faster"}
    assert found.worse(1.1)
    assert not found.worse(1.3)
    assert [row.unit for row in found.rows] == ["x GEMM bound", "x GEMM bound"]
    same = changes(older, a_run(a_cell(bound=scaled(3), manual=scaled(6), autodiff=scaled(3))))
    assert {row.verdict for row in same.rows} == {"same"}
    assert not same.worse(1.0)
    assert "0 faster, 0 slower, 2 same, 0 cannot tell." in str(same)


def test_what_the_noise_explains_is_no_change():
    noisy = [1.0, 1.5, 0.7, 1.2, 0.9, 1.4, 1.1]
    found = changes(a_run(a_cell(manual=noisy)), a_run(a_cell(manual=scaled(1.2, noisy))))
    assert [row.verdict for row in found.rows] == ["cannot tell"]
    assert found.rows[0].unit == "seconds"
    assert not found.worse(1.0)


@pytest.mark.parametrize("rounds", [1, 2, 4])
@pytest.mark.parametrize("which", ["older", "newer"])
def test_of_few_rounds_nothing_is_told_and_nothing_fails(rounds, which):
    """A hundred times as slow: with fewer than five rounds, it may be one that something was in the way of."""
    many, few = a_run(a_cell(manual=STEADY)), a_run(a_cell(manual=scaled(100, STEADY[:rounds])))
    found = changes(many, few) if which == "newer" else changes(few, many)
    assert [row.verdict for row in found.rows] == ["cannot tell"]
    assert not found.worse(1.0)
    assert "cannot tell: fewer than 5 rounds" in str(found)
    assert "Give --rounds 9" in str(found)
    enough = changes(many, a_run(a_cell(manual=scaled(100, STEADY[:5]))))
    assert [row.verdict for row in enough.rows] == ["slower"]


@given(st.lists(st.floats(0.5, 2.0), min_size=5, max_size=9), st.floats(0.5, 2.0))
def test_a_spread_above_the_difference_tells_nothing(values, factor):
    found = changes(a_run(a_cell(manual=values)), a_run(a_cell(manual=scaled(factor, values))))
    (row,) = found.rows
    low, middle, high = quartiles(values)
    difference = max(factor, 1 / factor) - 1
    spread = 2 * (high - low) / middle
    if spread > difference * (1 + 1e-9):
        assert row.verdict in ("same", "cannot tell")
        assert not found.worse(1.0)
    elif spread < difference * (1 - 1e-9) and not row.doubt:
        assert row.verdict == ("slower" if factor > 1 else "faster")


def test_who_is_unsteady_is_not_judged():
    """As seen: PyTorch took 44 ms a step, and 0.5 ms a minute later."""
    found = changes(a_run(a_cell(torch=STEADY)), a_run(a_cell(torch=[2.0] * 6 + [180.0])))
    assert [(row.verdict, row.doubt) for row in found.rows] == [("cannot tell", "unsteady rounds")]
    assert not found.worse(1.0)


def test_others_that_kept_the_machine_busy_are_noted():
    quiet, loud = (
        Cell("1x2x3", "about", 0, {"manual": Measured(STEADY, 0.0, None, 0, None, None, load=[load] * 7)})
        for load in (0.1, 1.7)
    )
    assert changes(a_run(quiet), a_run(quiet)).notes == []
    (note,) = changes(a_run(quiet), a_run(loud)).notes
    assert note.startswith("Note: other processes kept 1.7 cores busy in the newer run")


def test_what_is_not_the_same_is_noted():
    older = a_run(a_cell(manual=STEADY), environment={"processor": "one", "date": "then"})
    newer = a_run(a_cell(manual=STEADY), a_cell("9x9x9", manual=STEADY), environment={"processor": "other"})
    notes = changes(older, newer).notes
    assert notes == [
        "Note: 9x9x9 is not in the older run.",
        "Note: the older run has processor one, and the newer run processor other.",
    ]


def test_who_fails_now_is_lost_and_nothing_in_common_is_no_success():
    failing = Cell("1x2x3", "about", 1000, {"manual": Measured([], 0.0, None, 0, None, None, "no reason")})
    found = changes(a_run(a_cell(manual=STEADY)), a_run(failing))
    assert found.lost == ["Lost: manual at 1x2x3, which now fails: no reason."]
    assert found.worse(10)
    apart = changes(a_run(a_cell("1x1x1", manual=STEADY)), a_run(a_cell("2x2x2", manual=STEADY)))
    assert apart.worse(10)
    assert "Nothing can be compared." in str(apart)
    assert apart.notes == ["Note: 1x1x1 is not in the newer run.", "Note: 2x2x2 is not in the older run."]


def test_what_one_run_does_not_have_is_said_in_words():
    runs = [a_run(a_cell(manual=STEADY), environment={"torch": version}) for version in (None, "2")]
    assert changes(*runs).notes == ["Note: the older run has no torch, and the newer run torch 2."]
