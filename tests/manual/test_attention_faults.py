"""Attention's manners, what it refuses, and the well-known faults of its backward pass."""

import inspect
import re
from functools import partial

import jax
import numpy as np
import pytest

import autodiff.attention
import manual.attention
from compare import Verdict, check_vjp
from manual.attention import ATTENTION
from tests.manual.attention_inputs import by_hand, drawn, multi_head, shapes

SIDES = (manual.attention, autodiff.attention)

# --------------------------------------------------------------------------------------- manners

CALLS = {
    "attention": (drawn(*shapes(heads=4, keys=5)), {"causal": True}),
    "rotary_embedding": ([*drawn((2, 3, 2, 4)), np.arange(3)], {}),
    "multi_head_attention": (multi_head(biased=True), {"heads": 4, "key_heads": 2}),
}
CALLS["attention"][0][3] = np.random.default_rng(1).random((2, 4, 3, 5)) < 0.6


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", CALLS)
def test_inputs_may_be_read_only_and_strided_and_work_keeps_its_dtype(name, dtype):
    inputs, options = CALLS[name]
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    value, _ = ATTENTION[name][0](*inputs, **options)
    (dy,) = drawn(value.shape)
    strided = [np.repeat(x, 2, axis=-1)[..., ::2] for x in (*inputs, dy.astype(dtype))]
    for x in strided:
        x.flags.writeable = False
    same, gradients = by_hand(name, strided[:-1], strided[-1], **options)
    plain, right = by_hand(name, inputs, dy.astype(dtype), **options)
    for ours, theirs in zip((same, *gradients), (plain, *right), strict=True):
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", CALLS)
def test_backward_leaves_its_cache_and_its_output_gradient_alone(name):
    inputs, options = CALLS[name]
    value, cache = ATTENTION[name][0](*inputs, **options)
    dy = np.random.default_rng(2).standard_normal(value.shape)
    kept = dy.copy()
    first, again = (ATTENTION[name][1](dy, cache) for _ in range(2))
    np.testing.assert_array_equal(dy, kept)
    for ours, theirs in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert not np.shares_memory(ours, theirs)


# ------------------------------------------------------------------------------------- bad input

x4 = np.zeros((2, 3, 4, 6))
BAD = [
    ("attention", (x4, x4[0], x4), {}, "must be (batch, tokens, heads, depth); got query (2, 3, 4, 6), key (3, 4, 6)"),
    (
        "attention",
        (x4, x4, x4[:, :2]),
        {},
        "do not fit together: query (2, 3, 4, 6), key (2, 3, 4, 6) and value (2, 2,",
    ),
    ("attention", (x4, x4[..., :5], x4), {}, "query and key the same depth"),
    ("attention", (x4, x4[:, :, :3], x4[:, :, :3]), {}, "must be a multiple of those of key"),
    ("attention", (x4, x4, x4, np.ones((3, 3))), {}, "True where a key may be attended; got float64"),
    (
        "attention",
        (x4, x4, x4, np.ones((2, 3), bool)),
        {},
        "does not broadcast to (batch, heads, queries, keys) = (2, 4",
    ),
    ("attention", (x4, x4, x4, np.ones((3, 2, 4, 3, 3), bool)), {}, "mask[:, None, None, :]"),
    (
        "rotary_embedding",
        (x4[..., :5], np.arange(3)),
        {},
        "with an even depth because features form pairs; got (2, 3, 4, 5)",
    ),
    ("rotary_embedding", (x4, np.arange(4)), {}, "shape (time,) = (3,) or (batch, time) = (2, 3); got int64 (4,)"),
    ("rotary_embedding", (x4, np.arange(3.0)), {}, "positions must be integers"),
    ("multi_head_attention", multi_head(True), {"heads": 4, "key_heads": 3}, "multiple of key_heads; got 4 and 3"),
    (
        "multi_head_attention",
        multi_head(True),
        {"heads": 4},
        "key_weight must be (inputs, outputs) = (3, 8) for 4 heads",
    ),
    ("multi_head_attention", multi_head(True), {"heads": 3, "key_heads": 1}, "query_weight must be (inputs, outputs)"),
    ("multi_head_attention", [x4, *multi_head(True)[1:]], {"heads": 4}, "(batch, tokens, features); got (2, 3, 4, 6)"),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("name", "inputs", "options", "message"), BAD)
def test_bad_input_is_refused_alike(side, name, inputs, options, message):
    """As it is for a user, without the shape checks that only these tests install."""
    function = inspect.unwrap(getattr(side, name))
    with pytest.raises(ValueError, match=re.escape(message)):
        function(*inputs, **options)


# -------------------------------------------------------------------------------- planted faults


def textbook(fault=None):
    """Causal attention as it is often written, whose backward pass has one of the well-known faults, or none."""

    def split(q, k):  # each query head beside its own copy of the key head
        return np.repeat(k, q.shape[2] // k.shape[2], axis=2)

    def softmax(q, k, causal):
        s = np.einsum("bqhd,bkhd->bhqk", q, split(q, k)) / np.sqrt(q.shape[3])
        if causal:
            s = np.where(np.tri(s.shape[2], s.shape[3], s.shape[3] - s.shape[2]) > 0, s, -np.inf)
        p = np.exp(s - s.max(axis=-1, keepdims=True))
        return p / p.sum(axis=-1, keepdims=True)

    def forward(q, k, v):
        return np.einsum("bhqk,bkhd->bqhd", softmax(q, k, True), split(q, v)), (q, k, v)

    def backward(do, cache):
        q, k, v = cache
        p = softmax(q, k, fault != "mask forgotten")
        dp = np.einsum("bqhd,bkhd->bhqk", do, split(q, v))
        ds = p * (dp if fault == "no sum" else dp - np.sum(p * dp, axis=-1, keepdims=True))
        ds = ds if fault == "no scale" else ds / np.sqrt(q.shape[3])
        dk, dv = np.einsum("bhqk,bqhd->bkhd", ds, q), np.einsum("bhqk,bqhd->bkhd", p, do)
        by_group = [d.reshape(*k.shape[:3], -1, d.shape[3]) for d in (dk, dv)]
        dk = by_group[0][:, :, :, 0] if fault == "one of a group" else by_group[0].sum(axis=3)
        return np.einsum("bhqk,bkhd->bqhd", ds, split(q, k)), dk, by_group[1].sum(axis=3)

    return forward, backward


CAUSAL = partial(autodiff.attention.attention, causal=True)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        (None, []),
        ("no scale", ["q", "k"]),
        ("no sum", ["q", "k"]),
        ("mask forgotten", ["q", "k", "v"]),
        ("one of a group", ["k"]),
    ],
)
def test_faults_of_attention(fault, wrong):
    inputs = drawn((2, 3, 4, 2), (2, 5, 2, 2), (2, 5, 2, 3))
    report = check_vjp(*textbook(fault), CAUSAL, *inputs, probes=False)
    assert report.verdict is (Verdict.DISAGREE if fault else Verdict.AGREE), str(report)
    assert sorted(row.path for row in report.rows if row.verdict is Verdict.DISAGREE) == sorted(wrong)
    if fault:
        assert report.wrong_side == "manual"
    if fault == "no scale":
        assert report.diagnoses[0].factor == pytest.approx(2**0.5)


def test_a_rotary_backward_that_turns_forward():
    x, positions = drawn((2, 3, 2, 6))[0], np.array([1, 2, 4])

    def forward_again(output_gradient, cache):
        return manual.attention.rotary_embedding(output_gradient, positions)[0]

    function = autodiff.attention.rotary_embedding
    report = check_vjp(manual.attention.rotary_embedding, forward_again, function, x, positions, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"


def test_self_attention_that_forgets_that_x_is_also_the_context():
    x, _, *weights = multi_head(biased=False)
    weights[1], weights[2] = drawn((4, 4), (4, 6), seed=3)
    options = {"heads": 4, "key_heads": 2}

    backward = ATTENTION["multi_head_attention"][1]

    def by_query_only(output_gradient, cache):
        dx, *_ = backward(output_gradient, cache._replace(context_is_x=False))
        return dx, *backward(output_gradient, cache)[1:]

    forward = partial(manual.attention.multi_head_attention, **options)
    function = partial(autodiff.attention.multi_head_attention, **options)
    report = check_vjp(forward, by_query_only, function, x, None, *weights, probes=False)
    assert report.verdict is Verdict.DISAGREE
    assert [row.path for row in report.rows if row.verdict is Verdict.DISAGREE] == ["x"]
