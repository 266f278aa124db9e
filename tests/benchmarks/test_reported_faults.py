"""Faults that people reported in public: where they come from, and that the judge tells them from their repairs.

All of them are run by `python -m benchmarks.reported_faults`; here, a few of each kind.
"""

import re
from collections import Counter

import pytest

from benchmarks import reported_faults
from benchmarks.reported.entry import DOORS, ReportedFault
from benchmarks.reported_faults import FAULTS, ROOMS, Outcome, outcome

SOURCE = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+#\d+|https://\S+")
SOME = [room.FAULTS[i] for room in ROOMS for i in (0, -1)]


def named(fault: ReportedFault) -> str:
    return fault.name


def by_name(name: str) -> ReportedFault:
    (found,) = [fault for fault in FAULTS if fault.name == name]
    return found


def test_there_are_at_least_sixty_at_every_door():
    assert len(FAULTS) >= 60
    assert {fault.door for fault in FAULTS} == DOORS.keys()


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_each_says_where_it_is_public_and_what_was_wrong(fault: ReportedFault):
    assert SOURCE.fullmatch(fault.source)
    assert fault.wrong.endswith(".")
    assert fault.places


def test_no_name_occurs_twice():
    assert [name for name, count in Counter(map(named, FAULTS)).items() if count > 1] == []


@pytest.mark.sweep
@pytest.mark.parametrize("fault", SOME, ids=named)
def test_the_broken_one_is_caught_where_it_is_wrong_and_the_sound_one_agrees(fault: ReportedFault):
    found = outcome(fault)
    assert found.caught
    assert found.placed
    assert found.spared
    assert not found.false_side


def test_a_repair_that_is_none_is_counted_as_a_miss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The command must fail where a broken one agrees, or a sound one does not."""
    right = by_name("subtraction adds to the second")
    turned = ReportedFault(
        right.name,
        right.source,
        right.door,
        right.places,
        right.kinds,
        right.wrong,
        lambda broken: right.pair(not broken),
    )
    monkeypatch.setattr(reported_faults, "FAULTS", (turned,))
    assert reported_faults.main() == 1
    printed = capsys.readouterr().out
    assert "caught: 0 of 1" in printed
    assert "repaired versions that agree: 0 of 1" in printed
    monkeypatch.setattr(reported_faults, "FAULTS", (right,))
    assert reported_faults.main() == 0


def test_another_place_and_another_cause_are_misses():
    found = outcome(by_name("softmax's gradient twice"))
    assert found.named == ["factor"]
    assert list(found.misses()) == []
    elsewhere = ReportedFault("", "", "gradients", ("W",), frozenset(), "", found.fault.pair)
    place, cause = Outcome(elsewhere, found.broken, found.sound).misses()
    assert place == "is placed at z, expected W"
    assert cause.startswith("has a false cause: factor")
