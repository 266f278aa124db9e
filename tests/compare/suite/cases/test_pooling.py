"""Pooling: both sides at every case, with windows that overlap, leave gaps, and hang over the border."""

import pytest

from tests.compare.suite.cases.sides import CASES, assert_agree, assert_covered, numbered, ops_of


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "number"), numbered("pooling"))
def test_both_sides_agree(name, number):
    assert_agree(name, number)


@pytest.mark.parametrize("name", ops_of("pooling"))
def test_the_cases_have_two_shapes_and_change_every_option(name):
    assert_covered(name)


def windows():
    """(window, stride, padding, size) along the first axis of space."""
    first = lambda option: option[0] if isinstance(option, tuple) else option  # noqa: E731  # for one line each
    for case in CASES["max_pool2d"]:
        window = first(case.options["window"])
        stride, padding = (first(case.options.get(name, usual)) for name, usual in (("stride", window), ("padding", 0)))
        yield window, stride, padding, case.inputs[0].shape[1]


def test_windows_overlap_leave_gaps_stop_short_and_hang_over():
    assert any(stride < window for window, stride, *_ in windows())
    assert any(stride > window for window, stride, *_ in windows())
    assert any((size + 2 * padding - window) % stride for window, stride, padding, size in windows())
    assert any(padding for *_, padding, _ in windows())


def test_a_maximum_in_the_padding_would_be_wrong():
    """Zeros around the image would be the largest of a window in which all is negative."""
    padded = [case.inputs[0] for case in CASES["max_pool2d"] if case.options.get("padding")]
    assert any((x[:, :2, :1] < 0).all(axis=(1, 2)).any() for x in padded)
