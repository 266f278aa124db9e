"""The 16-bit kernels are right where they should be and wrong where they should be, and the score counts fairly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.low_precision.kernels import DTYPES, KERNELS, Work, upcast
from benchmarks.low_precision.peers import PEERS, Seen, flash_attention, numpy_allclose, seen, torch_assert_close
from benchmarks.low_precision.score import OURS, Case, Judged, correct_cases, faulty_cases, summary

FAULTS = [(name, fault) for name, kernel in KERNELS.items() for fault in kernel.faults]


def gradients(kernel, work, inputs, output_gradient):
    forward, backward = kernel.pair(work)
    value, cache = forward(*inputs)
    return [value, *backward(output_gradient, cache)]


def in_float32(name, fault=""):
    """What a kernel returns if it is built for float32, and what JAX derives."""
    kernel = KERNELS[name]
    inputs = kernel.inputs(0, np.float32)
    floating = len(kernel.leaves)
    value, pullback = jax.vjp(lambda *leaves: kernel.reference(*leaves, *inputs[floating:]), *inputs[:floating])
    output_gradient = np.random.default_rng(1).standard_normal(value.shape).astype(np.float32)
    actual = gradients(kernel, Work(np.float32, fault=fault), inputs, output_gradient)
    return actual, [np.asarray(leaf) for leaf in (value, *pullback(jnp.asarray(output_gradient)))]


def distance(actual, expected):
    """The largest relative error of an output or a gradient."""
    return max(np.linalg.norm(a - e) / np.linalg.norm(e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.sweep
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_right_in_float32(name):
    assert distance(*in_float32(name)) < 1e-5


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_faults_are_wrong_in_float32(name, fault):
    assert distance(*in_float32(name, fault)) > 0.005


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_intermediates_in_16_bits_are_rounded_and_nothing_else(name, dtype):
    kernel, inputs = KERNELS[name], KERNELS[name].inputs(0, DTYPES[dtype])
    value = kernel.pair(Work(DTYPES[dtype]))[0](*inputs)[0]
    output_gradient = np.random.default_rng(1).standard_normal(value.shape).astype(DTYPES[dtype])
    fine, coarse = (
        [leaf.astype(np.float32) for leaf in gradients(kernel, Work(DTYPES[dtype], stored), inputs, output_gradient)]
        for stored in (False, True)
    )
    unit = float(jnp.finfo(DTYPES[dtype]).eps)
    assert 0 < distance(coarse, fine) < 2 * unit


def test_a_kernel_refuses_another_dtype():
    with pytest.raises(TypeError, match="float16"):
        KERNELS["GELU"].pair(Work(DTYPES["bfloat16"]))[0](*KERNELS["GELU"].inputs(0, np.float16))


# ------------------------------------------------------------------------------------- the rules of others


def arrays(*numbers):
    return [np.array(numbers, np.float16)]


def test_the_rules_of_others_are_theirs():
    expected = arrays(1, 2, 4)
    eager = arrays(1, 2, 4.03)
    near, far = arrays(1, 2, 4.05), arrays(1, 2, 4.08)
    assert flash_attention(Seen(near, expected, eager))
    assert not flash_attention(Seen(far, expected, eager))
    pytest.importorskip("torch")
    assert torch_assert_close(Seen(arrays(1, 2, 4.004), expected, eager))  # 1e-3
    assert not torch_assert_close(Seen(arrays(1, 2, 4.008), expected, eager))
    assert numpy_allclose(1e-2)(Seen(arrays(1, 2, 4.03), expected, eager))
    assert not numpy_allclose(1e-2)(Seen(near, expected, eager))


def test_everybody_sees_the_same_run():
    kernel, dtype = KERNELS["RMS norm"], DTYPES["bfloat16"]
    inputs = kernel.inputs(0, dtype)
    output_gradient = np.random.default_rng(0).standard_normal(inputs[0].shape).astype(dtype)
    looked_at = seen(kernel, kernel.pair(Work(dtype), "weight", 1.5), inputs, output_gradient)
    for actual, expected, eager in zip(looked_at.actual, looked_at.expected, looked_at.eager, strict=True):
        assert actual.dtype == expected.dtype == eager.dtype == dtype
        assert actual.shape == expected.shape == eager.shape
    value, pullback = jax.vjp(upcast(kernel.reference), *map(jnp.asarray, inputs))
    np.testing.assert_array_equal(looked_at.expected[0], np.asarray(value))
    np.testing.assert_array_equal(looked_at.expected[2], np.asarray(pullback(jnp.asarray(output_gradient))[1]))
    assert not any(accepts(looked_at) for name, (_, accepts) in PEERS.items() if "torch" not in name)


# ----------------------------------------------------------------------------------------------- counting


def test_a_rule_that_rejects_everything_tells_nothing_apart():
    everything, nothing = list(PEERS)[:2]
    right = [Judged(Case("GELU", "float16", "way", seed), "AGREE", [everything]) for seed in (0, 1)]
    wrong = [
        Judged(Case("GELU", "float16", "way", 0, "factor", "x", 1.5), "DISAGREE", [everything], demanded=True),
        Judged(Case("GELU", "float16", "way", 1, "dropped row"), "INCONCLUSIVE", [everything]),
    ]
    judges = {name: counts["float16"] for name, counts in summary(right, wrong)["judges"].items()}
    ours, strict, lax = judges[OURS], judges[everything], judges[nothing]
    assert (ours["blamed"], ours["caught"], ours["told apart"], ours["demanded and caught"]) == (0, 1, 1, 1)
    assert (strict["blamed"], strict["caught"], strict["told apart"]) == (2, 2, 0)
    assert (lax["blamed"], lax["caught"], lax["told apart"]) == (0, 0, 0)


def test_at_least_five_hundred_right_kernels_and_every_fault():
    assert len(list(correct_cases(10))) >= 500
    cases = list(faulty_cases(10))
    assert len(set(cases)) == len(cases)
    assert {(case.kernel, case.fault) for case in cases if case.fault != "factor"} == set(FAULTS)
