"""The planted faults of training: each is wrong first at the step and in the leaf that the corpus says."""

import jax
import numpy as np
import pytest

from benchmarks.trajectory_faults import SOUND_TRAJECTORIES, TRAJECTORY_FAULTS
from compare.platform import precise

VISIBLE = {"float64": 1e-12, "float32": 1e-5}


def first_difference(pair):
    """(step, wrong leaves) of the first step by hand that differs from JAX's, both from the same start."""
    parameters, state = pair.parameters, pair.state
    for step, batch in enumerate(pair.batches, start=1):
        start = (parameters,) if state is None else (parameters, state)
        by_hand = pair.manual_step(*jax.tree.map(np.copy, start), *batch)
        with precise(parameters):
            by_jax = jax.tree.map(np.asarray, pair.autodiff_step(*start, *batch))
        assert jax.tree.structure(by_hand) == jax.tree.structure(by_jax)
        assert jax.tree.map(lambda a: np.asarray(a).dtype, by_hand) == jax.tree.map(lambda a: a.dtype, by_jax)
        differing = jax.tree.map(differs, by_hand, by_jax)
        wrong = {path[-1].key for path, differs in jax.tree.leaves_with_path(differing) if differs}
        if wrong:
            return step, wrong
        parameters, state = (by_jax, None) if state is None else by_jax
    return None, set()


def differs(a, b):
    return not np.max(np.abs(a - b)) <= VISIBLE.get(b.dtype.name, 0) * np.max(np.abs(b))


def named(pairs):
    return [pytest.param(pair, id=pair.name) for pair in pairs]


@pytest.mark.sweep
@pytest.mark.parametrize("fault", named(TRAJECTORY_FAULTS))
def test_a_fault_shows_first_where_the_corpus_says(fault):
    step, wrong = first_difference(fault)
    assert step == fault.wrong_step
    assert wrong == ({fault.leaf} if fault.leaf else set(fault.parameters))
    assert fault.kinds


@pytest.mark.sweep
@pytest.mark.parametrize("pair", named(SOUND_TRAJECTORIES))
def test_the_steps_without_a_fault_are_right(pair):
    assert first_difference(pair) == (None, set())


def test_names_are_unique():
    names = [pair.name for pair in (*TRAJECTORY_FAULTS, *SOUND_TRAJECTORIES)]
    assert len(set(names)) == len(names)
