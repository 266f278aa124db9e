"""A visit and a tour in words: what is counted, whose check it was, and what a bug that escapes is called."""

from dataclasses import replace

import pytest

from compare.errors import BadInput
from compare.judge.reports.verdict import Verdict
from compare.museum import EXHIBITS, MODULES
from compare.museum.tour import Tour, expected_seconds, sparkline, tour, visit
from tests.compare.museum.exhibits import seen


def test_there_are_as_many_exhibits_as_promised():
    assert len(EXHIBITS) >= 30
    assert sum(exhibit.check is not None and not exhibit.typical for exhibit in EXHIBITS.values()) >= 20
    assert len(EXHIBITS) == sum(len(module.EXHIBITS) for module in MODULES)  # no name is given twice


def test_a_tour_visits_all_of_them_and_says_how_far_it_is(remembered):
    told = []
    found = tour(lambda what, done: told.append((what, done)))
    assert [visit.name for visit in found.visits] == list(EXHIBITS)
    assert told == [(f"looking at {name}", i) for i, name in enumerate(EXHIBITS)]


def test_what_is_counted():
    """One of them is a side effect, without a location; one has a usual check in place of its own."""
    found = Tour([seen("bias-mean"), seen("never-cleared"), seen("stale-weights")])
    assert found.as_it_should_be
    assert found.sentence == (
        "Of 3 bugs, the judge caught 3, located 2 (1 more is a side effect, which has no location) and explained 3. It "
        "accepts 3 corrected versions. The bug is accepted by 2 of 2 original checks and by 1 of 1 usual checks."
    )


def test_a_bug_that_escapes_is_counted_and_is_not_as_it_should_be():
    honest = seen("bias-mean")
    escaped = replace(honest, report=honest.corrected)
    assert not escaped.caught
    assert not Tour([honest, escaped]).as_it_should_be
    assert Tour([honest, escaped]).sentence.startswith(
        "Of 2 bugs, the judge caught 1, located 1 and explained 1. It accepts 2"
    )


def test_a_repair_that_does_not_agree_is_told_in_its_row():
    honest = seen("bias-mean")
    worse = replace(honest, corrected=honest.report)
    assert (honest.cells()[2], worse.cells()[2]) == ("disagree", "disagree, and disagree when corrected")
    assert not worse.as_it_should_be


@pytest.mark.parametrize("name", ["bias-mean", "stale-weights"])
def test_it_is_said_whose_check_it_is(name):
    shown, usual = seen(name), name == "stale-weights"
    assert ("\nA usual check: " in str(shown)) is usual
    assert ("\nThe original check: " in str(shown)) is not usual
    assert shown.cells()[-1] == ("accepts (usual)" if usual else "accepts")
    value = shown.to_dict()
    assert (value["original_check_passes"], value["usual_check_passes"]) == ((None, True) if usual else (True, None))


def test_a_name_that_there_is_not_is_refused():
    with pytest.raises(BadInput, match=r"no exhibit is called 'bias-meen'\. Did you mean bias-mean\?"):
        visit("bias-meen")
    with pytest.raises(BadInput, match=r"'xyzzy'; there are bias-mean, loss-averaged-alone, "):
        visit("xyzzy")


def test_a_visit_is_everything_that_an_exhibit_does():
    name = "lost-minus"
    visited = visit(name)
    assert visited.exhibit is EXHIBITS[name]
    assert (visited.report.verdict, visited.corrected.verdict) == (Verdict.DISAGREE, Verdict.AGREE)
    assert visited.check_passes is True
    assert visited.curves == EXHIBITS[name].training_curves()


def test_sparklines_are_on_one_scale():
    assert sparkline([0.0, 1.0], [0.0, 1.0]) == "▁█"
    assert sparkline([2.0, 2.0], [2.0, 2.0]) == "▁▁"
    assert len(sparkline(list(range(1000)), [0, 999])) == 40
    assert sparkline([1.0], [0.0, 2.0]) == "▅"


def test_a_visit_has_the_words_by_which_it_is_found():
    value = seen("bias-mean").to_dict()
    assert (value["op"], value["project"]) == ("dense", "kvfrans/notes")
    assert value["cause"] == seen("bias-mean").report.diagnoses[0].kind.replace("-", " ")


def test_all_of_it_takes_less_than_twenty_seconds():
    """As it is announced; `time backproof museum` tells whether it is so."""
    assert 5 < expected_seconds() < 20
