"""Optimizers in blocks, by threads and in donated memory."""

import jax
import numpy as np
import pytest

from manual.fast import _blocks, _threads, optimizers
from tests.updates import RATE, big, same_bits

NAMES = list(optimizers.OPTIMIZERS)


def cut_small(monkeypatch, threads):
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(_threads, "PARALLEL", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))


def twice(optimizer, **options):
    parameters, state = big(), optimizer.initialize(big())
    for seed in (1, 2):
        parameters, state = optimizer.update(parameters, big(seed), state, **options)
    return parameters, state


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_blocks_threads_and_donation_change_no_bit(name, monkeypatch):
    optimizer = optimizers.clipped(optimizers.OPTIMIZERS[name](RATE, weight_decay=0.1), 1e3)
    whole = twice(optimizer)
    for threads in (1, 3):
        cut_small(monkeypatch, threads)
        same_bits(twice(optimizer), whole)
        same_bits(twice(optimizer, donate=True), whole)


@pytest.mark.parametrize("name", NAMES)
def test_pure_unless_donated(name):
    optimizer = optimizers.OPTIMIZERS[name](RATE, weight_decay=0.1)
    parameters, gradients = big(), big(1)
    _, state = optimizer.update(parameters, gradients, optimizer.initialize(parameters))
    before = jax.tree.map(np.copy, (parameters, gradients, state))
    after = optimizer.update(parameters, gradients, state)
    same_bits((parameters, gradients, state), before)
    for ours in jax.tree.leaves(after):
        assert not any(np.shares_memory(ours, theirs) for theirs in jax.tree.leaves((parameters, gradients, state)))

    donated, donated_state = optimizer.update(parameters, gradients, state, donate=True)
    same_bits((donated, donated_state), after)
    same_bits(gradients, before[1])
    same_bits(parameters["frozen"], before[0]["frozen"])  # read-only, so copied
    assert np.shares_memory(donated["long"], parameters["long"])
    assert all(map(np.shares_memory, *(flat_buffers(s, "long") for s in (donated_state, state))))


def flat_buffers(state, name):
    return [buffer[name] for buffer in state[1:]]


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_may_be_the_parameter_itself(name):
    """That of |p|^2 / 2 is, and donation then writes to what it reads."""
    optimizer = optimizers.OPTIMIZERS[name](RATE, weight_decay=0.1)
    p = np.random.default_rng(0).standard_normal((20, 30))
    pure = optimizer.update(p, p, optimizer.initialize(p))
    same_bits(optimizer.update(p, p, optimizer.initialize(p), donate=True), pure)


def test_threads_heed_the_callers_error_state(monkeypatch):
    cut_small(monkeypatch, 3)
    p = np.full(10_000, 1e200)
    with np.errstate(over="ignore"):
        optimizers.adam(RATE).update(p, p, optimizers.adam(RATE).initialize(p))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        optimizers.adam(RATE).update(p, p, optimizers.adam(RATE).initialize(p))
