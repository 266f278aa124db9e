"""A formula done part by part comes to what it does as a whole, whatever the shapes, the parts and the threads."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manual.fast import _parts, _threads, activations, normalization
from manual.fast._parts import in_parts


def cut(monkeypatch, part_bytes, threads):
    monkeypatch.setattr(_parts, "PART_BYTES", part_bytes)
    monkeypatch.setattr(_threads, "PARALLEL", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))


@settings(deadline=None)
@given(
    common=st.lists(st.integers(0, 5), max_size=3),
    kept=st.lists(st.integers(1, 4), max_size=2),
    part_bytes=st.sampled_from([1, 50, 10**6]),
    threads=st.sampled_from([1, 3]),
)
def test_any_shape_in_any_parts(common, kept, part_bytes, threads):
    random = np.random.default_rng(0)
    a, b = random.standard_normal((*common, *kept)), random.integers(1, 9, common)

    def formula(a, b, product, negative):
        assert a.shape == (len(b), *kept)
        np.multiply(a, b.reshape((-1, *(1 for _ in kept))), out=product)
        np.negative(b, out=negative)
        return a.sum(axis=0), b.sum()

    product, negative = np.empty(a.shape), np.empty(b.shape, b.dtype)
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut(monkeypatch, part_bytes, threads)
        total, count = in_parts(formula, [a, b], [product, negative], keep=len(kept))
    np.testing.assert_array_equal(product, a * b.reshape((*common, *(1 for _ in kept))))
    np.testing.assert_array_equal(negative, -b)
    np.testing.assert_allclose(total, a.sum(axis=tuple(range(len(common)))), rtol=1e-12, atol=1e-12)
    assert count == b.sum()


def test_a_formula_may_return_nothing():
    result = np.empty((2, 3))

    def formula(x, y):
        np.negative(x, out=y)

    assert in_parts(formula, [np.ones((2, 3))], [result]) == []
    np.testing.assert_array_equal(result, -np.ones((2, 3)))


def channels(op, undo, **options):
    """An op of x, weight and bias; what comes of a random cotangent."""

    def run(x):
        random = np.random.default_rng(1)
        vectors = random.standard_normal((2, x.shape[-1])).astype(x.dtype)[: 1 if op is normalization.rms_norm else 2]
        y, cache = op(x, *vectors, **options)
        return y, undo(random.standard_normal(y.shape).astype(y.dtype), cache)

    return run


def entries(name, **options):
    def run(x):
        op, undo = activations.ACTIVATIONS[name]
        y, cache = op(x, **options)
        return y, undo(np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype), cache)

    return run


n = normalization
OPS = {
    "gelu": entries("gelu"),
    "gelu, approximate": entries("gelu", approximate=True),
    "softmax": entries("softmax"),
    "softmax, axis 0": entries("softmax", axis=0),
    "softmax, axis 2": entries("softmax", axis=2),
    "log_softmax": entries("log_softmax", axis=1),
    "layer_norm": channels(n.layer_norm, n.layer_norm_backward),
    "rms_norm": channels(n.rms_norm, n.rms_norm_backward),
    "batch_norm": channels(n.batch_norm, n.batch_norm_backward),
    "group_norm": channels(n.group_norm, n.group_norm_backward, groups=3),
}


@pytest.mark.sweep
@pytest.mark.parametrize("layout", [lambda x: x, np.asfortranarray], ids=["C", "Fortran"])
@pytest.mark.parametrize("name", OPS)
def test_an_op_in_parts_is_the_op(name, layout, monkeypatch):
    """Bit for bit where nothing is summed over a part, in its last places where something is."""
    x = layout(np.random.default_rng(0).standard_normal((7, 5, 4, 6)).astype(np.float32))
    whole = OPS[name](x)
    summed = name.endswith("norm")
    for part_bytes, threads in ((1, 1), (1, 3), (1000, 1), (1000, 3)):
        cut(monkeypatch, part_bytes, threads)
        for ours, theirs in zip(jax.tree.leaves(OPS[name](x)), jax.tree.leaves(whole), strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
            np.testing.assert_allclose(ours, theirs, rtol=2e-5 if summed else 0, atol=2e-5 if summed else 0)


def test_sums_over_parts_are_added_in_float64(monkeypatch):
    cut(monkeypatch, 4, 1)
    x = np.array([2**24, 1, 1, 1], np.float32)
    (total,) = in_parts(lambda x: (x.sum(axis=0),), [x])
    np.testing.assert_array_equal(np.asarray(total), np.array(2.0**24 + 3), strict=True)


@pytest.mark.parametrize(
    ("rows", "lengths"), [(250, [250]), (260, [130] * 2), (2000, [250] * 8), (2001, [201] * 9 + [192])]
)
def test_there_is_an_even_number_of_parts(monkeypatch, rows, lengths):
    cut(monkeypatch, 1000, 1)
    parts = []
    in_parts(lambda x: parts.append(len(x)), [np.zeros(rows, np.float32)])
    assert parts == lengths


def test_rows_that_belong_together_and_are_parted_are_noticed(monkeypatch):
    """The planted fault: a softmax that keeps too few axes together."""
    x = np.random.default_rng(0).standard_normal((7, 5, 4, 6)).astype(np.float32)
    whole = OPS["softmax, axis 2"](x)[0]
    monkeypatch.setattr(activations, "_from", lambda axis, x: 1)
    cut(monkeypatch, 1, 1)
    assert not np.allclose(OPS["softmax, axis 2"](x)[0], whole)


RULES = {**activations.ACTIVATIONS, **normalization.NORMALIZATION}


@pytest.mark.parametrize("name", [name for name in OPS if "axis" not in name])
def test_an_output_gradient_of_another_shape_is_refused(name):
    """As of a transposed one: the numbers would fit, and be wrong."""
    x = np.random.default_rng(0).standard_normal((5, 3, 6)).astype(np.float32)
    op, undo = RULES[name.split(",")[0]]
    vectors = [np.ones(6, np.float32)] * (2 if name.endswith("norm") else 0)
    _, cache = op(x, *vectors[: 1 if name == "rms_norm" else 2], **({"groups": 3} if name == "group_norm" else {}))
    for shape in ((3, 5, 6), (6,), *([()] if name in activations.ACTIVATIONS else [])):
        with pytest.raises(ValueError, match=r"shape"):
            undo(np.ones(shape, np.float32), cache)


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_a_wider_output_gradient_makes_a_wider_gradient(name):
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    op, undo = activations.ACTIVATIONS[name]
    y, cache = op(x, x) if name == "swiglu" else op(x)
    assert y.dtype == np.float32
    for dx in jax.tree.leaves(undo(np.ones((2, 3)), cache)):
        assert dx.dtype == (np.float32 if name == "gelu" else np.float64)
