"""Contestants in their processes: who is timed, who fails or dies, and how far results are apart."""

import re

import numpy as np
import pytest

from compare.bench import turns
from compare.bench.process import Failed
from compare.bench.turns import Outcome, distance, measure
from compare.bench.workloads import Workload
from tests.compare.bench.runs import OWN


@pytest.fixture(scope="module")
def measured():
    names = ["manual", "slow", "wrong", "nearly", "unable", "dies"]
    said = []
    found = measure(Workload(OWN, "any"), names, rounds=3, threads=1, progress=said.append)
    return *found, said


@pytest.mark.campaign
def test_those_who_do_the_work_are_timed_in_every_round(measured):
    flops, found, said = measured
    assert flops == 2 * 2 * 3 * 2
    assert list(found) == ["bound", "manual", "slow", "wrong", "nearly", "unable", "dies"]
    for name in ("bound", "manual", "slow", "nearly"):
        assert len(found[name].rounds) == 3
        assert min(found[name].rounds) > 0
        assert found[name].peak > 2**20
        assert found[name].ready > 0
        assert len(found[name].load) <= 3  # of turns as short as these, it cannot be measured
    assert min(found["slow"].rounds) >= 0.002
    assert found["manual"].error == 0
    assert 0 < found["nearly"].error < turns.LOOSE
    assert said[-1] == "round 3 of 3"


@pytest.mark.campaign
def test_who_does_other_work_fails_or_dies_is_named_and_the_others_go_on(measured):
    _, found, _ = measured
    assert re.fullmatch(
        r"it does not do the same work: after 3 steps its results are 0\.\d times .*", found["wrong"].failure
    )
    assert found["unable"].failure == "RuntimeError: no such thing here"
    assert found["dies"].failure == "its process died; it may have run out of memory"
    assert found["unable"].rounds == found["dies"].rounds == []


@pytest.mark.campaign
def test_where_there_are_no_products_there_is_no_floor():
    flops, found = measure(Workload(OWN, "without products"), ["manual"], rounds=1)
    assert flops == 0
    assert list(found) == ["manual"]


def test_a_distance_needs_the_same_arrays():
    reference = Outcome({"W": np.ones(3)}, {"W": np.zeros(3)})
    assert distance({"W": np.ones(3)}, reference) == 0
    assert distance({"W": np.full(3, 1.1)}, reference) == pytest.approx(0.1)
    small_one = Outcome({"loss": np.array([7.0]), "gradient": np.full(3, 1e-3), "noise": np.full(3, 1e-9)}, {})
    zeroed = {"loss": np.array([7.0]), "gradient": np.zeros(3), "noise": np.zeros(3)}
    assert distance(zeroed, small_one) == 1  # however large the loss is beside it
    assert distance(zeroed | {"gradient": np.full(3, 1e-3)}, small_one) < 1e-4  # what is 0 but for rounding
    assert not distance({"W": np.full(3, np.nan)}, reference) <= turns.LOOSE
    with pytest.raises(Failed, match=r"it has results for \['V'\], not \['W'\]"):
        distance({"V": np.ones(3)}, reference)
    with pytest.raises(Failed, match="its W has 2 entries to compare, not 3"):
        distance({"W": np.ones(2)}, reference)
