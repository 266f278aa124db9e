"""Dense, embedding, dropout and flatten: by loops, by the identity of adjoints, at the edges, and with faults planted.

That both sides agree, at every case of the catalog, is tested in test_ops.py.
"""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff.layers
import manual.fast
import manual.layers
from compare import Verdict, assert_vjp_agrees, check_vjp
from manual.layers import (
    LAYERS,
    dense,
    dense_backward,
    dropout,
    dropout_mask,
    embedding,
    embedding_backward,
    flatten,
    flatten_backward,
)

BY_HAND = pytest.mark.parametrize("ops", [manual.layers, manual.fast.layers], ids=["page", "fast"])


def drawn(*shapes, dtype="float64", seed=1):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (2, 1, 3)])
def test_dense_is_what_its_loops_say(batch):
    x, weight, bias, dy = drawn((*batch, 3), (3, 4), (4,), (*batch, 4))
    y, cache = dense(x, weight, bias)
    dx, dweight, dbias = dense_backward(dy, cache)
    expected_dweight, expected_dbias = np.zeros((3, 4)), np.zeros(4)
    for k in np.ndindex(batch):
        for j in range(4):
            np.testing.assert_allclose(y[k][j], sum(x[k][i] * weight[i, j] for i in range(3)) + bias[j], rtol=1e-12)
            expected_dbias[j] += dy[k][j]
            for i in range(3):
                expected_dweight[i, j] += x[k][i] * dy[k][j]
        np.testing.assert_allclose(
            dx[k], [sum(dy[k][j] * weight[i, j] for j in range(4)) for i in range(3)], rtol=1e-12
        )
    np.testing.assert_allclose(dweight, expected_dweight, rtol=1e-12)
    assert dbias is not None
    np.testing.assert_allclose(dbias, expected_dbias, rtol=1e-12)


def test_dense_without_bias():
    x, weight, dy = drawn((5, 3), (3, 4), (5, 4))
    y, cache = dense(x, weight, None)
    np.testing.assert_array_equal(y, dense(x, weight, np.zeros(4))[0])
    assert dense_backward(dy, cache)[2] is None


@BY_HAND
def test_dense_copies_nothing_that_is_contiguous(ops):
    x, weight = drawn((2, 5, 3), (3, 4))
    assert np.shares_memory(ops.dense(x, weight, None)[1].x, x)
    turned, (other,) = x[0].T, drawn((5, 2))
    assert np.shares_memory(ops.dense(turned, other, None)[1].x, x)


@BY_HAND
def test_embedding_adds_up_what_repeated_ids_send(ops):
    weight, dy = drawn((4, 2), (2, 3, 2))
    ids = np.array([[3, 1, 3], [3, 0, 1]])
    y, cache = ops.embedding(weight, ids)
    np.testing.assert_array_equal(y[0, 2], weight[3])
    expected = [dy[1, 1], dy[0, 1] + dy[1, 2], [0, 0], dy[0, 0] + dy[0, 2] + dy[1, 0]]
    np.testing.assert_allclose(ops.embedding_backward(dy, cache), expected, rtol=1e-15)


@BY_HAND
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64])
def test_ids_of_any_integer_type(ops, dtype):
    """The entries of the table are numbered beyond what a narrow type of ids can count."""
    weight, dy = drawn((120, 7), (3, 7))
    y, cache = ops.embedding(weight, np.array([119, 5, 119], dtype))
    expected = np.zeros_like(weight)
    expected[119], expected[5] = dy[0] + dy[2], dy[1]
    np.testing.assert_array_equal(y[0], weight[119])
    np.testing.assert_array_equal(ops.embedding_backward(dy, cache), expected)


@BY_HAND
def test_a_single_id_without_axes(ops):
    weight, dy = drawn((4, 3), (3,))
    y, cache = ops.embedding(weight, np.array(2))
    np.testing.assert_array_equal(y, weight[2])
    assert not np.shares_memory(y, weight)
    np.testing.assert_array_equal(ops.embedding_backward(dy, cache), np.eye(4)[:, [2]] * dy)


@BY_HAND
def test_dropout_by_hand(ops):
    x, dy = np.array([1.0, -2.0, 3.0, 4.0]), np.array([10.0, 20.0, 30.0, 40.0])
    for mask in (np.array([True, False, True, False]), np.array([1, 0, 1, 0]), np.array([1.0, 0.0, 1.0, 0.0])):
        y, cache = ops.dropout(x, mask, rate=0.75)
        np.testing.assert_array_equal(y, [4, 0, 12, 0])
        np.testing.assert_array_equal(ops.dropout_backward(dy, cache), [40, 0, 120, 0])
    y, cache = ops.dropout(x, np.ones(4, bool), rate=0.0)
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(y, x)


def test_dropout_of_what_is_not_finite_is_nan_on_both_sides():
    x, mask = np.array([np.inf, np.nan, 1.0], np.float32), np.array([False, False, True])
    with np.errstate(invalid="ignore"):
        y, _ = dropout(x, mask, rate=0.5)
    np.testing.assert_array_equal(y, [np.nan, np.nan, 2])
    np.testing.assert_array_equal(autodiff.layers.dropout(jnp.asarray(x), jnp.asarray(mask), rate=0.5), y)


def test_a_dropout_mask_is_the_same_on_both_sides_and_keeps_what_it_says():
    mask = dropout_mask((200, 500), rate=0.3, seed=7)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, autodiff.layers.dropout_mask((200, 500), rate=0.3, seed=7))
    assert abs(mask.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / mask.size)
    assert (mask != dropout_mask((200, 500), rate=0.3, seed=8)).any()
    assert dropout_mask((50,), rate=0.0, seed=0).all()


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 4), (2, 3, 1, 4), (0, 2, 3), (3, 0, 2)])
def test_flatten_keeps_every_entry_where_it_is(shape):
    (x,) = drawn(shape)
    y, cache = flatten(x)
    assert y.shape == (shape[0], int(np.prod(shape[1:])))
    for index in np.ndindex(shape):
        assert y[index[0], np.ravel_multi_index(index[1:], shape[1:]) if shape[1:] else 0] == x[index]
    back = flatten_backward(y, cache)
    np.testing.assert_array_equal(back, x)
    assert np.shares_memory(y, x) == np.shares_memory(back, y) == (x.size > 0)
    fortran = np.asfortranarray(x)
    np.testing.assert_array_equal(flatten(fortran)[0], y)  # where no view can be, a copy


# ---------------------------------------------------------------------------------------- identity

sizes = st.integers(0, 5)


@settings(max_examples=40, deadline=None)
@given(batch=st.lists(sizes, max_size=3), inputs=sizes, outputs=sizes, seed=st.integers(0, 99))
def test_every_gradient_of_a_bilinear_layer_is_its_adjoint(batch, inputs, outputs, seed):
    """<dy, x W> = <dx, x> = <dW, W>, and <dy, b> = <db, b>: also where there is nothing at all."""
    x, weight, bias, dy = drawn((*batch, inputs), (inputs, outputs), (outputs,), (*batch, outputs), seed=seed)
    y, cache = dense(x, weight, bias)
    dx, dweight, dbias = dense_backward(dy, cache)
    assert dbias is not None
    assert (dx.shape, dweight.shape, dbias.shape) == (x.shape, weight.shape, bias.shape)
    without_bias = np.sum(dy * (y - bias))
    np.testing.assert_allclose([np.sum(dx * x), np.sum(dweight * weight)], without_bias, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(np.sum(dbias * bias), np.sum(dy * bias), rtol=1e-10, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), vocabulary=st.integers(1, 6), features=sizes, shape=st.lists(sizes, max_size=3))
def test_the_gradient_of_an_embedding_is_its_adjoint(data, vocabulary, features, shape):
    count = int(np.prod(shape))
    ids = data.draw(st.lists(st.integers(0, vocabulary - 1), min_size=count, max_size=count))
    weight, dy = drawn((vocabulary, features), (*shape, features))
    y, cache = embedding(weight, np.array(ids, int).reshape(shape))
    dweight = embedding_backward(dy, cache)
    assert dweight.shape == weight.shape
    np.testing.assert_allclose(np.sum(dweight * weight), np.sum(dy * y), rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------- dtypes and purity


def calls(dtype):
    """For each op: its inputs, and its options."""
    x, weight, bias, table = drawn((4, 3, 2), (2, 5), (5,), (6, 2), dtype=dtype)
    return {
        "dense": ((x, weight, bias), {}),
        "embedding": ((table, np.array([[5, 0, 5], [1, 1, 2]])), {}),
        "dropout": ((x, x > 0), {"rate": np.float64(0.3)}),
        "flatten": ((x,), {}),
    }


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_work_keeps_its_dtype_on_both_sides(ops, name, dtype):
    forward, backward = ops.LAYERS[name]
    inputs, options = calls(dtype)[name]
    y, cache = forward(*inputs, **options)
    gradients = backward(np.ones_like(y), cache)
    for array in (y, *(gradients if isinstance(gradients, tuple) else [gradients])):
        assert array.dtype == dtype
    with jax.enable_x64(True):
        assert autodiff.layers.LAYERS[name](*map(jnp.asarray, inputs), **options).dtype == dtype


@BY_HAND
@pytest.mark.parametrize("name", LAYERS)
def test_inputs_may_be_read_only_and_of_any_strides(ops, name):
    forward, backward = ops.LAYERS[name]
    inputs, options = calls("float64")[name]
    y, cache = forward(*inputs, **options)
    (dy,) = drawn(y.shape)
    strided = [spread(x) for x in inputs]
    again, other = forward(*strided, **options)
    np.testing.assert_allclose(again, y, rtol=1e-14)
    first, second = backward(dy, cache), backward(spread(dy), other)
    for a, b in zip(*(g if isinstance(g, tuple) else (g,) for g in (first, second)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15)
        if name != "flatten":  # which moves nothing
            assert not any(np.may_share_memory(b, x) for x in (*strided, again))
            b[...] = 0  # what is returned is the caller's own
    for x, before in zip(strided, inputs, strict=True):
        np.testing.assert_array_equal(x, before)


def spread(x):
    """Equal to x, read-only, and every second entry along each axis of a larger array, from the end."""
    large = np.empty([2 * n for n in x.shape], x.dtype)
    view = large[tuple(slice(None, None, -2) for _ in x.shape)]
    view[...] = x
    view.flags.writeable = False
    return view


@BY_HAND
def test_long_sums_in_float16_lose_no_terms(ops):
    """Added one after another in float16, ones stop to count at 2048."""
    ones = np.ones((4096, 2), np.float16)
    _, dweight, dbias = ops.dense_backward(ones, ops.dense(ones, ones[:2], ones[0])[1])
    np.testing.assert_array_equal(dweight, np.full((2, 2), 4096))
    np.testing.assert_array_equal(dbias, [4096, 4096])
    assert (ops.embedding_backward(ones, ops.embedding(ones[:2], np.zeros(4096, int))[1])[0] == 4096).all()


# --------------------------------------------------------------------------------------- bad input

SIDES = pytest.mark.parametrize("side", [manual.layers, autodiff.layers], ids=["manual", "autodiff"])


def refused(side, name, *inputs, **options):
    """What the function itself says of bad input, without the hook that checks shapes in tests before it can."""
    convert = jnp.asarray if side is autodiff.layers else np.asarray
    function = inspect.unwrap(getattr(side, name))
    with pytest.raises(ValueError, match=r".") as error:
        function(*(None if x is None else convert(x) for x in inputs), **options)
    return str(error.value)


@SIDES
def test_shapes_that_do_not_fit(side):
    x, weight = np.ones((5, 3), np.float32), np.ones((4, 3), np.float32)
    assert refused(side, "dense", x, weight, None) == (
        "dense needs x (..., inputs) and weight (inputs, outputs), got (5, 3) and (4, 3). "
        "Transpose a weight that is stored as (outputs, inputs)."
    )
    assert "got () and (4, 3)" in refused(side, "dense", x[0, 0], weight, None)
    assert "got (5, 3) and (3,)" in refused(side, "dense", x, x[0], None)
    message = refused(side, "dense", x, weight.T, x[0])
    assert message == "dense needs bias (outputs,) = (4,) for weight (3, 4), got (3,)."
    message = refused(side, "dropout", x, x[:, :1] > 0, rate=0.5)
    assert message.startswith("dropout needs a mask of x's shape (5, 3), got (5, 1). np.broadcast_to makes one")
    assert refused(side, "flatten", x[0, 0]) == "flatten needs x (batch, ...), got a single number."
    assert "got (3,) and int" in refused(side, "embedding", x[0], np.array([1]))
    assert "got (5, 3) and float32 ids" in refused(side, "embedding", x, x[0])


@SIDES
@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0, float("nan")])
def test_rates_that_are_no_probabilities_of_dropping(side, rate):
    x = np.ones(3, np.float32)
    expected = f"rate is the probability of dropping an entry and must be in [0, 1), got {rate}."
    assert refused(side, "dropout", x, x > 0, rate=rate) == expected
    with pytest.raises(ValueError, match="must be in"):
        inspect.unwrap(side.dropout_mask)((3,), rate=rate, seed=0)


def test_masks_of_other_numbers_are_refused_or_nan():
    x, mask = np.ones(3, np.float32), np.array([0.0, 1.0, 2.0], np.float32)
    assert refused(manual.layers, "dropout", x, mask, rate=0.5).endswith("divided by 1 - rate, pass mask > 0.")
    y = autodiff.layers.dropout(jnp.asarray(x), jnp.asarray(mask), rate=0.5)
    np.testing.assert_array_equal(y, [0, 2, np.nan])


def test_ids_that_are_no_rows_are_refused_or_nan():
    weight = np.arange(8.0, dtype=np.float32).reshape(4, 2)
    for ids, first in (([[0, -1], [-4, 2]], -1), ([[0, 3], [4, 4]], 4), ([[5, 1], [-1, 0]], 5)):
        expected = f"embedding: 2 of 4 ids are not rows of the table, the first is {first}; ids must be from 0 to 3."
        assert refused(manual.layers, "embedding", weight, np.array(ids)) == expected
    ids = jnp.asarray([0, -1, 4, 0])
    y, vjp = jax.vjp(lambda w: autodiff.layers.embedding(w, ids), jnp.asarray(weight))
    np.testing.assert_array_equal(y, [[0, 1], [np.nan] * 2, [np.nan] * 2, [0, 1]])
    (dweight,) = vjp(jnp.ones_like(y))
    np.testing.assert_array_equal(dweight, [[2, 2], [0, 0], [0, 0], [0, 0]])  # theirs is dropped


# ------------------------------------------------------------------------------------------ faults


def transposed_weight(dy, cache):
    dx, dweight, dbias = dense_backward(dy, cache)
    return dx, dweight.T, dbias


def mean_of_bias(dy, cache):
    dx, dweight, _ = dense_backward(dy, cache)
    return dx, dweight, np.mean(dy, axis=0)


@pytest.mark.parametrize(
    ("wrong", "path", "kind"), [(transposed_weight, "weight", "transpose"), (mean_of_bias, "bias", "factor")]
)
def test_faults_of_dense_are_named(wrong, path, kind):
    inputs = drawn((5, 3), (3, 3), (3,))
    caught(dense, wrong, autodiff.layers.dense, *inputs, path=path, kind=kind)


def overwriting(dy, cache):
    dweight = np.zeros((cache.vocabulary, dy.shape[-1]))
    dweight[cache.ids] += dy  # with repeated ids, the last one stays
    return dweight


def test_an_embedding_that_keeps_only_the_last_of_repeated_ids():
    (weight,) = drawn((7, 3))
    ids = np.array([5, 0, 5, 2, 5])
    caught(embedding, overwriting, autodiff.layers.embedding, weight, ids, path="weight", kind="lost-repeats")


def test_faults_of_dropout():
    (x,) = drawn((4, 3))
    mask = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]], bool)
    forward, function = partial(dropout, rate=0.2), partial(autodiff.layers.dropout, rate=0.2)
    assert_vjp_agrees(forward, lambda dy, cache: 1.25 * dy * mask, function, x, mask, probes=False)
    caught(forward, lambda dy, cache: 1.25 * dy, function, x, mask, path="x")
    report = caught(forward, lambda dy, cache: dy * mask, function, x, mask, path="x", kind="factor")
    assert report.diagnoses[0].factor == pytest.approx(0.8)


def caught(forward, backward, function, *inputs, path, kind=None):
    report = check_vjp(forward, backward, function, *inputs, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == path
    assert report.wrong_side == "manual"
    assert [row.path for row in report.rows if row.verdict is not Verdict.AGREE] == [path]
    if kind:
        assert report.diagnoses[0].kind == kind, str(report)
    return report
