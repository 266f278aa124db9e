"""Faults that are none of the named kinds get no name: a part of the 300 of benchmarks/false_causes.py."""

import pytest

from benchmarks.false_causes import KINDS, named_falsely, nameless


@pytest.mark.campaign
def test_nothing_is_named_falsely():
    tried, caught, falsely = named_falsely(nameless(12, seed=1))
    assert tried == 12
    assert caught >= 10  # a few are within rounding
    assert falsely == []


def test_the_faults_are_the_same_each_time_and_of_every_kind():
    names = [fault.name for fault in nameless(9)]
    assert names == [fault.name for fault in nameless(9)]
    assert all(any(word in name for name in names) for word in (" of ", "rank", "entries"))
    assert len(KINDS) == 3
