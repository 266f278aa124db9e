"""Two runs compared: what is slower or faster by more than the noise."""

from compare.bench.changes import changes
from compare.bench.results import Cell
from compare.bench.turns import Measured
from tests.compare.bench.runs import a_cell, a_run

STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0]


def scaled(factor, values=STEADY):
    return [factor * value for value in values]


def test_a_slower_contestant_is_told_and_a_slower_machine_is_not():
    older = a_run(a_cell(floor=STEADY, manual=scaled(2), autodiff=STEADY))
    newer = a_run(a_cell(floor=scaled(3), manual=scaled(7.2), autodiff=scaled(2.7)))
    found = changes(older, newer)
    assert {row.name: row.verdict for row in found.rows} == {"manual": "slower", "autodiff": "faster"}
    assert found.worse(1.1)
    assert not found.worse(1.3)
    assert [row.unit for row in found.rows] == ["x floor", "x floor"]
    same = changes(older, a_run(a_cell(floor=scaled(3), manual=scaled(6), autodiff=scaled(3))))
    assert {row.verdict for row in same.rows} == {"same"}
    assert not same.worse(1.0)
    assert "0 faster, 0 slower, 2 same." in str(same)


def test_what_the_noise_explains_is_no_change():
    noisy = [1.0, 1.5, 0.7, 1.2, 0.9, 1.4, 1.1]
    found = changes(a_run(a_cell(manual=noisy)), a_run(a_cell(manual=scaled(1.2, noisy))))
    assert [row.verdict for row in found.rows] == ["same"]
    assert found.rows[0].unit == "seconds"


def test_what_is_not_the_same_is_noted():
    older = a_run(a_cell(manual=STEADY), environment={"processor": "one", "date": "then"})
    newer = a_run(a_cell(manual=STEADY), a_cell("9x9x9", manual=STEADY), environment={"processor": "other"})
    notes = changes(older, newer).notes
    assert notes == ["Note: 9x9x9 is not in the older run.", "Note: the older run has processor one, this one other."]


def test_who_fails_now_is_lost_and_nothing_in_common_is_no_success():
    failing = Cell("1x2x3", "about", 1000, {"manual": Measured([], 0.0, None, 0, None, None, "no reason")})
    found = changes(a_run(a_cell(manual=STEADY)), a_run(failing))
    assert found.lost == ["Lost: manual at 1x2x3, which now fails: no reason."]
    assert found.worse(10)
    apart = changes(a_run(a_cell("1x1x1", manual=STEADY)), a_run(a_cell("2x2x2", manual=STEADY)))
    assert apart.worse(10)
    assert "Nothing can be compared." in str(apart)
    assert apart.notes == ["Note: 1x1x1 is not in the newer run.", "Note: 2x2x2 is not in the older run."]
