"""Attention at its edges: masks that leave nothing, causality with other lengths, grouped heads, saturation."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autodiff.attention
import manual.attention
import manual.fast
from tests.manual.attention_inputs import by_hand, drawn, multi_head, shapes

fast = partial(by_hand, rules=manual.fast.attention.ATTENTION)


def by_jax(name, inputs, output_gradient, **options) -> Any:
    """The same from JAX, in float64. Inputs are differentiated where they are floating-point arrays."""
    function = partial(getattr(autodiff.attention, name), **options)
    places = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]

    @jax.jit
    def value_and_gradients(arrays, output_gradient):
        def of_floating(*arrays):
            given = list(inputs)
            for i, x in zip(places, arrays, strict=True):
                given[i] = x
            return function(*given)

        value, pull = jax.vjp(of_floating, *arrays)
        return value, pull(output_gradient)

    with jax.enable_x64(True):
        value, gradients = value_and_gradients([inputs[i] for i in places], output_gradient)
        return np.asarray(value), tuple(map(np.asarray, gradients))


# ------------------------------------------------------------------------------------ attention


def naive(query, key, value, output_gradient, allowed):
    """One query after another, and the Jacobian of softmax as a matrix. `allowed: (batch, heads, queries, keys)`."""
    o = np.zeros((*query.shape[:3], value.shape[3]))
    dq, dk, dv = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    scale = query.shape[3] ** -0.5
    for b, i, h in np.ndindex(query.shape[:3]):
        own = h // (query.shape[2] // key.shape[2])
        seen = np.flatnonzero(allowed[b, h, i])
        if not len(seen):
            continue
        keys, values, dy = key[b, seen, own], value[b, seen, own], output_gradient[b, i, h]
        s = keys @ query[b, i, h] * scale
        p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
        ds = (np.diag(p) - np.outer(p, p)) @ (values @ dy)
        o[b, i, h] = p @ values
        dq[b, i, h] = ds @ keys * scale
        dk[b, seen, own] += np.outer(ds, query[b, i, h]) * scale
        dv[b, seen, own] += np.outer(p, dy)
    return o, (dq, dk, dv)


def visible(queries, keys):
    """Causality said in words: the last query sees all keys, each earlier one a key less."""
    return np.array([[j < keys - (queries - 1 - i) for j in range(keys)] for i in range(queries)], bool).reshape(
        queries, keys
    )


EDGES = {
    "one token": {"queries": 1, "keys": 1},
    "one example, one head": {"batch": 1, "heads": 1, "key_heads": 1},
    "no examples": {"batch": 0},
    "no queries": {"queries": 0, "heads": 4},
    "one key": {"keys": 1},
    "fewer queries than keys": {"queries": 2, "keys": 5},
    "more queries than keys": {"queries": 5, "keys": 2},
    "grouped heads": {"heads": 6, "key_heads": 2, "keys": 4},
    "one key head": {"heads": 3, "key_heads": 1},
    "depth of one": {"depth": 1, "value_depth": 1},
}


@pytest.mark.sweep
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_against_one_query_at_a_time(edge, causal, monkeypatch):
    given = shapes(**EDGES[edge])
    query, key, value, dy = drawn(*given)
    inputs = (query, key, value)
    (batch, queries, heads, _), keys = given[0], given[1][1]
    allowed = visible(queries, keys) if causal else np.ones((queries, keys), bool)
    right, right_gradients = naive(query, key, value, dy, np.broadcast_to(allowed, (batch, heads, queries, keys)))
    for side, block in ((by_hand, 0), (fast, 1), (fast, 2), (fast, 64)):
        monkeypatch.setattr(manual.fast.attention, "BLOCK", block)
        output, gradients = side("attention", inputs, dy, causal=causal)
        for ours, theirs in zip((output, *gradients), (right, *right_gradients), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    if causal:  # without, only shapes differ from what the cases of the catalog show
        output, gradients = by_jax("attention", inputs, dy, causal=True)
        for ours, theirs in zip((output, *gradients), (right, *right_gradients), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 1, 1, 5), (4, 1, 5), (3, 5), (5,), ()])
def test_a_mask_of_any_shape_that_broadcasts(shape):
    query, key, value, dy = drawn(*shapes(heads=4, keys=5))
    mask = np.array(np.random.default_rng(1).random(shape) < 0.5)
    right, right_gradients = naive(query, key, value, dy, np.broadcast_to(mask, (2, 4, 3, 5)) & visible(3, 5))
    for side in (by_hand, fast):
        output, gradients = side("attention", [query, key, value, mask], dy, causal=True)
        for ours, theirs in zip((output, *gradients), (right, *right_gradients), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_a_query_that_may_attend_to_nothing_gets_zero_and_so_do_its_gradients():
    *inputs, dy = drawn(*shapes(keys=5))
    mask = np.ones((2, 1, 3, 5), bool)
    mask[1, :, 2] = False
    mask[0, :, :, 3] = False  # and a key that nobody may attend to
    for side in (by_hand, fast, by_jax):
        value, (dq, dk, dv) = side("attention", [*inputs, mask], dy)
        np.testing.assert_array_equal(value[1, 2], 0)
        np.testing.assert_array_equal(dq[1, 2], 0)
        np.testing.assert_array_equal(dk[0, 3], 0)
        np.testing.assert_array_equal(dv[0, 3], 0)
        assert all(np.isfinite(x).all() and x.any() for x in (value, dq, dk, dv))
    for side in (by_hand, fast, by_jax):
        for result in side("attention", [*inputs, np.False_ & mask], dy)[1]:
            np.testing.assert_array_equal(result, 0)


@pytest.mark.parametrize("side", [by_hand, fast])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_choose_one_key_and_pass_no_gradient_to_it(dtype, side):
    """At +-1e4, softmax is 1 for the largest and exactly 0 for the rest."""
    query = np.array([1.0, -1.0], dtype).reshape(1, 2, 1, 1)
    key = np.array([1e4, 0.0, -1e4], dtype).reshape(1, 3, 1, 1)
    value, dy = (x.astype(dtype) for x in drawn((1, 3, 1, 4), (1, 2, 1, 4)))
    o, (dq, dk, dv) = side("attention", (query, key, value), dy)
    np.testing.assert_array_equal(o[0, :, 0], value[0, [0, 2], 0])
    np.testing.assert_array_equal(dq, 0)
    np.testing.assert_array_equal(dk, 0)
    np.testing.assert_array_equal(dv[0, :, 0], [dy[0, 0, 0], np.zeros(4), dy[0, 1, 0]])
    with jax.enable_x64(True):
        np.testing.assert_array_equal(o, jax.jit(autodiff.attention.attention)(query, key, value))


@pytest.mark.parametrize("side", [manual.attention, manual.fast.attention])
def test_long_causal_attention_sees_no_future(side):
    """Over several blocks: what comes later changes nothing that was said before."""
    query, key, value = drawn(*[(1, 150, 1, 4)] * 3)
    before, _ = side.attention(query, key, value, causal=True)
    key[:, 100:], value[:, 100:] = 1e3, -1e3
    after, _ = side.attention(query, key, value, causal=True)
    np.testing.assert_array_equal(after[:, :100], before[:, :100])
    assert (after[:, 100:] != before[:, 100:]).all()


def test_a_cache_of_earlier_keys_continues_where_the_whole_sequence_would_be():
    query, key, value = drawn((2, 6, 2, 4), (2, 6, 1, 4), (2, 6, 1, 3))
    whole, _ = manual.attention.attention(query, key, value, causal=True)
    last, _ = manual.attention.attention(query[:, 4:], key, value, causal=True)
    np.testing.assert_allclose(last, whole[:, 4:], rtol=1e-14)


# ----------------------------------------------------------------------------- rotary embedding


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_embedding_turns_each_pair_by_its_angle(interleaved):
    (x, dy), positions = drawn((2, 3, 2, 6), (2, 3, 2, 6)), np.array([[0, 1, 5], [2, 2, 100]])
    right, dx = np.empty_like(x), np.empty_like(x)
    for b, t, h, i in np.ndindex(2, 3, 2, 3):
        angle = positions[b, t] * 10000.0 ** (-2 * i / 6)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        pair = [2 * i, 2 * i + 1] if interleaved else [i, i + 3]
        right[b, t, h, pair] = turn @ x[b, t, h, pair]
        dx[b, t, h, pair] = turn.T @ dy[b, t, h, pair]
    for side in (by_hand, fast, by_jax):
        value, (gradient,) = side("rotary_embedding", (x, positions), dy, interleaved=interleaved)
        np.testing.assert_allclose(value, right, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gradient, dx, rtol=1e-12, atol=1e-14)


@given(st.integers(0, 10**6), st.integers(0, 1000), st.integers(-500, 500), st.booleans())
def test_rotary_embedding_keeps_norms_and_knows_only_differences(seed, start, shift, interleaved):
    query, key = drawn((1, 4, 2, 8), (1, 4, 2, 8), seed=seed)
    positions = start + np.arange(4)

    def turned(x, positions):
        return manual.attention.rotary_embedding(x, positions, interleaved=interleaved)[0]

    def products(positions):
        return np.einsum("bqhd,bkhd->bhqk", turned(query, positions), turned(key, positions))

    np.testing.assert_array_equal(turned(query, 0 * positions), query)
    np.testing.assert_allclose(np.linalg.norm(turned(query, positions), axis=-1), np.linalg.norm(query, axis=-1))
    np.testing.assert_allclose(products(positions), products(positions + shift), atol=1e-9)


def test_rotary_angles_at_far_positions_are_good_to_float32():
    """Although the position times the frequency is not."""
    x, positions = np.ones((1, 3, 1, 8), np.float32), np.array([99_999, 100_000, 2**24 + 1])
    wide, _ = manual.attention.rotary_embedding(x.astype(np.float64), positions)
    narrow, _ = manual.attention.rotary_embedding(x, positions)
    np.testing.assert_allclose(narrow, wide, atol=3e-7)


# -------------------------------------------------------------------------- multi-head attention


def test_multi_head_attention_is_attention_between_projections():
    x, context, *weights = multi_head(biased=True)
    (dy,) = drawn((2, 3, 2), seed=2)
    q, k, v = (
        (tokens @ weight + bias).reshape(*tokens.shape[:2], heads, -1)
        for tokens, weight, bias, heads in zip((x, context, context), weights, weights[4:], (4, 2, 2), strict=False)
    )
    do = (dy @ weights[3].T).reshape(2, 3, 4, 3)
    o, (dq, dk, dv) = naive(q, k, v, do, np.ones((2, 4, 3, 5), bool))
    flat = [d.reshape(*d.shape[:2], -1) for d in (dq, dk, dv)]
    right = [flat[0] @ weights[0].T, flat[1] @ weights[1].T + flat[2] @ weights[2].T]
    right += [np.einsum("btf,bto->fo", c, d) for c, d in zip((x, context, context), flat, strict=True)]
    right += [np.einsum("btf,bto->fo", o.reshape(2, 3, 12), dy), *(d.sum(axis=(0, 1)) for d in (*flat, dy))]
    for side in (by_hand, fast):
        value, gradients = side("multi_head_attention", (x, context, *weights), dy, heads=4, key_heads=2)
        np.testing.assert_allclose(value, o.reshape(2, 3, 12) @ weights[3] + weights[7], rtol=1e-12, atol=1e-13)
        for ours, theirs in zip(gradients, right, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_self_attention_is_attention_to_a_context_that_is_x():
    x, _, *weights = multi_head(biased=False)
    weights[1], weights[2] = drawn((4, 4), (4, 6), seed=3)
    (dy,) = drawn((2, 3, 2), seed=2)
    alone, (dx, nothing, *rest) = by_hand("multi_head_attention", (x, None, *weights), dy, heads=4, key_heads=2)
    value, (dx_query, dx_context, *others) = by_hand("multi_head_attention", (x, x, *weights), dy, heads=4, key_heads=2)
    assert nothing is None
    assert rest[4:] == [None] * 4
    np.testing.assert_array_equal(alone, value)
    np.testing.assert_allclose(dx, dx_query + dx_context, rtol=1e-14)
    for ours, theirs in zip(rest[:4], others[:4], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_empty_batch_has_gradients_of_zero_for_its_weights():
    inputs = multi_head(biased=True)
    inputs[0], inputs[1] = inputs[0][:0], inputs[1][:0]
    for side in (by_hand, fast, by_jax):
        value, (_, _, *gradients) = side("multi_head_attention", inputs, np.zeros((0, 3, 2)), heads=4, key_heads=2)
        assert value.shape == (0, 3, 2)
        for gradient, weight in zip(gradients, inputs[2:], strict=True):
            np.testing.assert_array_equal(gradient, np.zeros_like(weight))
