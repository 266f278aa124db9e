"""Brief lessons, and the lines that they show."""

import functools
from contextlib import contextmanager

import pytest

import compare.lesson.subject
from compare.lesson import MODELS, gpt, layered, shallow


@contextmanager
def brief():
    """Few moments of short trainings: every one of them is made in the same way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare.lesson.subject, "MOMENTS", 4)
        patch.setitem(shallow.DEFAULTS, "iterations", 12)
        for sizes in (*layered.SIZES.values(), gpt.SIZES):
            patch.setitem(sizes, "iterations", 2)
        yield


@functools.cache
def subject_of(model):
    """What a lesson is made from, without its run."""
    return MODELS[model](seed=0)


def shown_lines(steps):
    return [excerpt for step in steps for excerpt in (*step.by_hand, *step.by_jax)]
