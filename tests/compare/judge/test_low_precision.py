"""16 bits: kernels that are right agree however their reference is written, and small factors show all the same."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.low_precision.kernels import DTYPES, KERNELS, Work, upcast
from benchmarks.low_precision.score import DEMANDED, WAYS
from compare import Verdict, check_gradients, check_vjp

BFLOAT16 = ml_dtypes.bfloat16
FACTORS = [(dtype, factor) for dtype, factor in DEMANDED.items()]


def checked(name, dtype, way, seed, leaf="", factor=1.0, fault=""):
    kernel, (intermediates, wide) = KERNELS[name], WAYS[way]
    pair = kernel.pair(Work(DTYPES[dtype], intermediates, fault), leaf, factor)
    reference = upcast(kernel.reference) if wide else kernel.reference
    return check_vjp(*pair, reference, *kernel.inputs(seed, DTYPES[dtype]), seed=seed, names=kernel.names)


@pytest.mark.sweep
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(KERNELS)), way=st.sampled_from(sorted(WAYS)))
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=5, deadline=None)
def test_a_right_kernel_agrees(dtype, name, way, seed):
    report = checked(name, dtype, way, seed)
    assert report.verdict is Verdict.AGREE, str(report)


@pytest.mark.sweep
@given(seed=st.integers(0, 10_000), way=st.sampled_from(sorted(WAYS)))
@pytest.mark.parametrize(("dtype", "factor"), FACTORS)
@pytest.mark.parametrize(("name", "leaf"), [("dense", "W"), ("layer norm", "x")])
@settings(max_examples=2, deadline=None)
def test_a_small_factor_on_a_large_leaf_shows(name, leaf, dtype, factor, way, seed):
    report = checked(name, dtype, way, seed, leaf, factor)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == leaf
    row = next(row for row in report.rows if row.path == leaf)
    if row.departure is not None and row.departure.axis is None:  # named by number
        assert row.departure.factor == pytest.approx(factor, abs=(factor - 1) / 4)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "fault"),
    [("attention", "head without gradient"), ("dense", "dropped row"), ("rotary", "position off by one")],
)
def test_faults_of_kernels_show(name, fault, dtype):
    way = "16-bit intermediates, reference as it is"
    assert checked(name, dtype, way, 3, fault=fault).verdict is Verdict.DISAGREE


# ------------------------------------------------------------------------------ sums and dtypes


def summed_narrowly(rows):
    """(forward, backward, inputs) of y = x + b, where the gradient of b is summed in bfloat16, row after row."""

    def forward(x, b):
        return (x.astype(np.float32) + b.astype(np.float32)).astype(x.dtype), None

    def backward(dy, cache):
        return dy, np.add.accumulate(dy.astype(BFLOAT16))[-1].astype(dy.dtype)

    random = np.random.default_rng(0)
    return forward, backward, [random.standard_normal(shape).astype(BFLOAT16) for shape in ((rows, 16), (16,))]


def test_sums_in_the_dtype_of_the_inputs_are_right_where_they_are_asked_for():
    forward, backward, inputs = summed_narrowly(rows=32)
    report = check_vjp(forward, backward, lambda x, b: x + b, *inputs, accumulate="input")
    assert report.verdict is Verdict.AGREE, str(report)
    half = check_vjp(
        forward, lambda dy, cache: (dy, dy[:16].sum(0)), lambda x, b: x + b, *inputs, accumulate="input", probes=False
    )
    assert half.first_wrong == "b"


@pytest.mark.parametrize("wider", [False, True])  # whether the code under test takes float32
@pytest.mark.parametrize("n", [300, 1600])
def test_a_sum_that_stops_growing_is_a_fault_where_the_accumulator_is_to_be_float32(n, wider):
    """256 + 1 is 256 in bfloat16."""

    def by_hand(b, x, accumulator=BFLOAT16):
        if not wider and x.dtype != BFLOAT16:
            raise TypeError("only bfloat16")
        terms = x.astype(accumulator) if x.dtype == BFLOAT16 else x
        return np.sum((b * x).astype(np.float32)), np.add.accumulate(terms)[-1].astype(b.dtype)

    def loss(b, x):
        return (b * x).astype(np.float32).sum()

    b, x = np.array(0.5, BFLOAT16), np.ones(n, BFLOAT16)
    report = check_gradients(by_hand, loss, b, x, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.rows[-1].manual_value == 256
    right = check_gradients(lambda b, x: by_hand(b, x, np.float32), loss, b, x, probes=False)
    assert right.verdict is Verdict.AGREE, str(right)
    # In bfloat16 little or nothing is known of such a sum.
    report = check_gradients(by_hand, loss, b, x, probes=False, accumulate="input")
    assert report.verdict is not Verdict.DISAGREE
    assert report.verdict is Verdict.INCONCLUSIVE or n == 300


def test_each_result_is_expected_in_the_dtype_that_the_reference_gives_it():
    """x in bfloat16, weight and bias in float32, the output in bfloat16."""
    random = np.random.default_rng(2)
    x = random.standard_normal((64, 32)).astype(BFLOAT16)
    weight, bias = (random.standard_normal(shape).astype(np.float32) for shape in ((32, 16), (16,)))

    def forward(x, weight, bias):
        return (x.astype(np.float32) @ weight + bias).astype(x.dtype), (x, weight)

    def backward(factor):
        def backward(dy, cache):
            x, weight = cache
            dy = dy.astype(np.float32)
            dx = (dy @ weight.T).astype(x.dtype)
            return dx, np.float32(factor) * (x.astype(np.float32).T @ dy), dy.sum(0)

        return backward

    def reference(x, weight, bias):
        return (x.astype(np.float32) @ weight + bias).astype(x.dtype)

    report = check_vjp(forward, backward(1), reference, x, weight, bias)
    assert report.verdict is Verdict.AGREE, str(report)
    assert {row.path: row.dtype for row in report.rows} == {
        "output": "bfloat16",
        "x": "bfloat16",
        "weight": "float32",
        "bias": "float32",
    }
    assert check_vjp(forward, backward(1.01), reference, x, weight, bias).first_wrong == "weight"


def clipped(x):
    return np.clip(x, -1, 1).astype(BFLOAT16), x


def clipped_backward(dy, x):
    return (dy * (np.abs(x.astype(np.float32)) < 1)).astype(BFLOAT16)


def test_a_tie_among_numbers_of_16_bits_is_no_fault():
    x = np.array([1.0, 0.5, -0.25, 2.0], BFLOAT16)
    report = check_vjp(clipped, clipped_backward, lambda x: jnp.clip(x, -1, 1), x)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "not differentiable" in report.sentence
    report = check_vjp(clipped, lambda dy, x: 2 * clipped_backward(dy, x), lambda x: jnp.clip(x, -1, 1), x)
    assert report.verdict is Verdict.DISAGREE


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(4))
def test_ties_at_perturbed_points_are_no_faults(seed):
    random = np.random.default_rng(seed)
    x, b = random.normal(size=(64, 32)).astype(BFLOAT16), np.zeros(32, BFLOAT16)

    def backward(dy, z):
        positive = dy.astype(np.float32) * (z.astype(np.float32) > 0)
        return positive.astype(BFLOAT16), positive.sum(0).astype(BFLOAT16)

    report = check_vjp(
        lambda x, b: (np.maximum(x + b, 0).astype(BFLOAT16), x + b), backward, lambda x, b: jnp.maximum(x + b, 0), x, b
    )
    assert report.verdict is Verdict.AGREE, str(report)
