"""The planted faults: each is one, where and of what sort the corpus says, and the network around it is right."""

import jax
import numpy as np
import pytest

import manual
from benchmarks.backward import BACKWARD_ORDER, by_hand, correct
from benchmarks.faults import FAULTS, IN_FLOAT32, gradient_faults
from benchmarks.networks import network, random_networks
from compare.platform import precise
from compare.suite.shallow import shallow_loss

VISIBLE = {"float64": 1e-12, "float32": 1e-5}


def quantities(results):
    """The loss and every gradient by name, and None for what is missing."""
    loss, gradients, intermediates = results
    everything = {"loss": loss} | gradients | intermediates
    return {name: everything.get(name) for name in BACKWARD_ORDER}


def differs(a, b, visible):
    if a is None or np.shape(a) != np.shape(b) or np.asarray(a).dtype != np.asarray(b).dtype:
        return True
    return not np.max(np.abs(a - b)) <= visible * np.max(np.abs(b))


def at(fault, scale):
    parameters, x, y = fault.problem()
    return {name: scale * value for name, value in parameters.items()}, x, y


def copied(problem):
    return jax.tree.map(np.copy, problem)


def named(faults):
    return [pytest.param(fault, id=fault.name) for fault in faults]


LINES_AT_FAULT = [fault for fault in FAULTS if fault.place and fault.loss is shallow_loss]
IN_JAX = [fault for fault in FAULTS if fault.loss is not shallow_loss]
SIDE_EFFECTS = [fault for fault in FAULTS if fault.place is None]


def test_every_fault_is_in_one_of_the_groups_tested_below():
    assert len(FAULTS) == len(LINES_AT_FAULT) + len(IN_JAX) + len(SIDE_EFFECTS) >= 48
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.conduct for fault in SIDE_EFFECTS)
    assert {fault.name for fault in FAULTS} >= IN_FLOAT32


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_without_a_fault_it_is_our_own_network_bit_for_bit(dtype):
    parameters, x, y = network(np.random.default_rng(1), (4, 5, 3, 12), dtype=dtype)
    loss, gradients, intermediates = correct(parameters, x, y)
    right_loss, right_gradients = manual.loss_and_gradients(parameters, x, y)
    np.testing.assert_array_equal(loss, right_loss, strict=True)
    assert gradients.keys() == right_gradients.keys()
    for name, right in right_gradients.items():
        np.testing.assert_array_equal(gradients[name], right, strict=True)
    right_intermediates: dict = {}
    _, cache = manual.forward_propagation(x, parameters)
    manual.backpropagation(parameters, cache, x, y, intermediates=right_intermediates)
    assert intermediates.keys() == right_intermediates.keys()
    for name, right in right_intermediates.items():
        np.testing.assert_array_equal(intermediates[name], right, strict=True)


@pytest.mark.parametrize("fault", named(LINES_AT_FAULT))
def test_a_wrong_line_shows_first_where_the_corpus_says(fault):
    for scale in (1, 10, 1000):
        problem = at(fault, scale)
        wrong, right = quantities(fault.by_hand(*copied(problem))), quantities(correct(*copied(problem)))
        seen = [name for name in BACKWARD_ORDER if differs(wrong[name], right[name], VISIBLE[fault.dtype])]
        if seen or not fault.saturated:
            break
    assert seen
    assert seen[0] == fault.place
    assert fault.saturated == (scale > 1)
    before = BACKWARD_ORDER[: BACKWARD_ORDER.index(fault.place)]
    for name in before:
        np.testing.assert_array_equal(wrong[name], right[name], strict=True)


@pytest.mark.sweep
@pytest.mark.parametrize("fault", named(IN_JAX))
def test_a_fault_of_the_jax_side_shows_first_where_the_corpus_says(fault):
    problem = fault.problem()
    wrong, right = quantities(fault.by_hand(*problem)), quantities(correct(*problem))
    assert not any(differs(wrong[name], right[name], VISIBLE[fault.dtype]) for name in BACKWARD_ORDER)
    with precise(problem):
        loss, gradients = jax.value_and_grad(fault.loss)(*problem)
    jax_side = {"loss": np.asarray(loss)} | jax.tree.map(np.asarray, gradients)
    seen = [
        name for name in BACKWARD_ORDER if name in jax_side and differs(jax_side[name], right[name], VISIBLE["float32"])
    ]
    place = BACKWARD_ORDER.index(fault.place)
    assert seen
    assert seen[0] == next(name for name in BACKWARD_ORDER[place:] if name in jax_side)


@pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in gradient_faults() if f.conduct])
def test_a_fault_of_conduct_is_seen_by_watching(fault):
    arguments, other = fault.problem(), network(np.random.default_rng(9), fault.sizes, dtype=fault.dtype)
    untouched = copied(arguments)
    first = fault.by_hand(*arguments)
    shared = [g for g in first[1].values() for p in arguments[0].values() if np.shares_memory(g, p)]
    kept = copied(first)
    fault.by_hand(*copied(other))
    overwritten = not jax.tree.all(jax.tree.map(np.array_equal, kept, first))
    again = fault.by_hand(*copied(untouched))
    observed = {
        "modifies-arguments": not jax.tree.all(jax.tree.map(np.array_equal, untouched, arguments)),
        "view-of-parameters": bool(shared),
        "shared-buffer": overwritten,
        "depends-on-earlier-calls": not jax.tree.all(jax.tree.map(np.array_equal, kept, again)),
    }
    observed["not-deterministic"] = observed["depends-on-earlier-calls"]  # nothing outside can tell these two apart
    assert all(observed[kind] for kind in fault.kinds), observed


def test_faults_are_made_anew_so_that_none_remembers():
    accumulating = [next(f for f in gradient_faults() if f.name == "gradients accumulated") for _ in range(2)]
    results = [fault.by_hand(*fault.problem())[1] for fault in accumulating]
    assert jax.tree.all(jax.tree.map(np.array_equal, *results))


def test_an_unknown_line_is_an_error():
    with pytest.raises(ValueError, match="there is no line dA2; the lines are Z1, A1"):
        by_hand(dA2=lambda v: v.A2)


def test_random_networks_are_as_promised_and_reproducible():
    problems = list(random_networks(200, seed=3))
    assert len(problems) == 200
    assert {x.dtype.name for _, x, _ in problems} == {"float64", "float32"}
    assert len({(p["W1"].shape, y.shape) for p, _, y in problems}) <= 10
    for parameters, x, y in problems:
        (n_h, n_x), (n_y, m) = parameters["W1"].shape, y.shape
        assert 1 <= min(n_h, n_x, n_y) <= max(n_h, n_x, n_y) <= 64
        assert 1 <= m <= 500
        assert np.isfinite(correct(parameters, x, y)[0])
    again = list(random_networks(200, seed=3))
    assert jax.tree.all(jax.tree.map(np.array_equal, problems, again))
