"""The campaign without a loss in JAX: every tenth fault of each corpus, a few networks, and what it counts."""

import numpy as np
import pytest

from benchmarks import without_loss
from benchmarks.backward import correct
from benchmarks.networks import network
from benchmarks.without_loss import Count, Counted, Item, answer, enough, faults, measure, sound, undecidable
from compare import Verdict, check_gradients


@pytest.mark.campaign
def test_some_faults_of_each_corpus_are_caught_in_both_ways():
    some = [
        *list(without_loss.planted())[::50],
        *list(without_loss.small())[9:10],
        *list(without_loss.reported())[::50],
    ]
    counts = measure(some)
    for way, groups in counts.items():
        assert sum(count.caught for count in groups.values()) == len(some), (way, groups)
    assert all(count.untraced == count.faults for count in counts["differences"].values())


def test_networks_that_are_right_are_not_blamed():
    for item in sound(2):
        assert item.traced().verdict is Verdict.AGREE
        assert item.by_differences().verdict is not Verdict.DISAGREE


def test_there_are_faults_of_a_backward_pass_and_of_side_effects():
    groups = {item.group for item in faults()}
    assert groups == {"backward pass", "side effects"}
    names = [item.name for item in faults()]
    assert len(names) > 150


def test_a_decision_on_a_value_leaves_nothing_but_differences():
    problem = network(np.random.default_rng(0), (3, 4, 2, 5))
    report = check_gradients(undecidable(correct), None, *problem)
    assert report.verdict is Verdict.AGREE
    assert any(note.startswith(without_loss.BY_DIFFERENCES) for note in report.notes)
    with pytest.raises(ValueError, match="unlucky"):
        undecidable(lambda x: x)(np.array([0.123456789]))


def test_what_is_not_caught_is_said():
    def make():
        return lambda x: (np.sum(x**2), 2 * x), lambda x: (x**2).sum(), np.ones(3)

    counts = measure([Item("right", "backward pass", make)])
    assert counts["traced"]["backward pass"].caught == 0
    assert counts["traced"]["backward pass"].remarks == ["right: not caught, nor with a loss"]
    assert not enough(counts, {})


def test_enough_needs_the_shares_and_nobody_blamed():
    counts = {"traced": {"a": Count(20, 19)}, "differences": {"a": Count(20, 18)}}
    assert enough(counts, {"traced": {"DISAGREE": 0}})
    assert not enough(counts, {"traced": {"DISAGREE": 1}})
    assert not enough(counts | {"traced": {"a": Count(20, 18)}}, {})


def test_calls_are_counted():
    counted = Counted(np.sin)
    counted(1.0)
    counted(2.0)
    assert counted.calls == 2
    caught, place, kinds, by_differences, seconds = answer(
        lambda: check_gradients(lambda x: (np.sum(x**2), 3 * x), None, np.ones(3))
    )
    assert (caught, place, by_differences) == (True, "value", False)
    assert "factor" in kinds
    assert seconds > 0
