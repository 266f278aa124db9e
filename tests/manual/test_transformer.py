"""GPT-2: both sides against each other, a forward pass one number at a time, differences, and planted faults."""

import inspect
import math
import re
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff.optimizers
import manual.optimizers
from autodiff import transformer as by_jax
from compare import Verdict, check_gradients
from manual import activations, attention, layers, normalization
from manual import transformer as by_hand
from manual.activations import gelu, gelu_backward
from manual.attention import attention_backward
from manual.fast import transformer as fast
from manual.layers import dense_backward
from manual.losses import cross_entropy, cross_entropy_backward
from manual.normalization import layer_norm_backward
from tests.manual.transformer_inputs import HEADS, SIZES, example, with_intermediates

SIDES = (by_hand, fast, by_jax)
BY_HAND = pytest.mark.parametrize("side", [by_hand, fast], ids=["page", "fast"])
LOSS = partial(by_jax.compute_loss, heads=HEADS)  # one object: what is compiled for it is kept


# ----------------------------------------------------------------------------------- both sides


@pytest.mark.sweep
@BY_HAND
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_sides_agree_in_every_gradient_and_intermediate(dtype, side):
    report = check_gradients(partial(with_intermediates, side=side), LOSS, *example(dtype))
    assert report.verdict is Verdict.AGREE, str(report)
    assert {row.dtype for row in report.rows} == {np.dtype(dtype).name}
    ops = ["norm1", "qkv", "attention", "projection", "norm2", "up", "gelu", "down"]
    between = {f"blocks.{i}.{op}.input" for i in range(2) for op in ops}
    between |= {f"blocks.{i}.{point}" for i in range(2) for point in ("input", "middle")}
    between |= {"norm.input", "head.input", "logits"}
    parameters = {f"{op}.{leaf}" for op in ["norm1", "qkv", "projection", "norm2", "up", "down"] for leaf in LEAVES}
    paths = {"loss", "token_embedding", "position_embedding", "norm.weight", "norm.bias"}
    paths |= {f"blocks.{i}.{parameter}" for i in range(2) for parameter in parameters}
    assert {row.path for row in report.rows} == between | paths


LEAVES = ("weight", "bias")


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_sides_keep_their_dtype_and_the_parameters_structure(dtype):
    parameters, ids, targets = example(dtype)
    found = [side.loss_and_gradients(parameters, ids, targets, heads=HEADS) for side in SIDES]
    assert {np.asarray(leaf).dtype for leaf in jax.tree.leaves(found)} == {np.dtype(dtype)}
    for _, gradients in found:
        assert jax.tree.structure(gradients) == jax.tree.structure(parameters)
    tolerance = 1e-13 if dtype == np.float64 else 1e-5
    for theirs in found[1:]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=10 * tolerance, atol=tolerance), found[0], theirs)


def test_logits_and_losses_are_values_of_their_own():
    parameters, ids, targets = example()
    logits, _ = by_hand.apply(parameters, ids, heads=HEADS)
    np.testing.assert_allclose(by_jax.apply(parameters, ids, heads=HEADS), logits, rtol=1e-12, atol=1e-13)
    loss, _ = by_hand.loss_and_gradients(parameters, ids, targets, heads=HEADS)
    for side in SIDES:
        np.testing.assert_allclose(side.compute_loss(parameters, ids, targets, heads=HEADS), loss, rtol=1e-14)


@BY_HAND
def test_half_precision_stays_half(side):
    parameters, ids, targets = example(np.float16)
    loss, gradients = side.loss_and_gradients(parameters, ids, targets, heads=HEADS)
    exact = by_hand.compute_loss(example()[0], ids, targets, heads=HEADS)
    assert loss == pytest.approx(exact, rel=1e-2)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, gradients))} == {np.dtype(np.float16)}


# --------------------------------------------------------------------------- a third opinion


def naive_logits(p, ids):
    """One example, one token, one head, one key after another. Shares no code with either side."""

    def norm(x, p):
        mean = sum(x) / len(x)
        variance = sum((value - mean) ** 2 for value in x) / len(x)
        return np.array([(value - mean) / np.sqrt(variance + 1e-5) for value in x]) * p["weight"] + p["bias"]

    def dense(x, p):
        return np.array([sum(x * column) for column in p["weight"].T]) + p["bias"]

    def half_normal(x):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    width = p["position_embedding"].shape[1]
    depth = width // HEADS
    logits = np.empty((*ids.shape, len(p["token_embedding"])), p["token_embedding"].dtype)
    for n, tokens in enumerate(ids):
        stream = [p["token_embedding"][token] + p["position_embedding"][t] for t, token in enumerate(tokens)]
        for block in p["blocks"]:
            packed = [dense(norm(x, block["norm1"]), block["qkv"]) for x in stream]
            for t, x in enumerate(stream):
                mixed = []
                for head in range(HEADS):
                    q, k, v = (
                        slice(part * width + head * depth, part * width + (head + 1) * depth) for part in range(3)
                    )
                    weights = [np.exp(sum(packed[t][q] * packed[s][k]) / math.sqrt(depth)) for s in range(t + 1)]
                    total = np.sum([w * packed[s][v] for s, w in enumerate(weights)], axis=0)
                    mixed += list(total / sum(weights))
                x = x + dense(np.array(mixed), block["projection"])
                stream[t] = x + dense(half_normal(dense(norm(x, block["norm2"]), block["up"])), block["down"])
        for t, x in enumerate(stream):
            x = norm(x, p["norm"])
            logits[n, t] = [sum(x * row) for row in p["token_embedding"]]
    return logits


def naive_loss(p, ids, targets):
    logits = naive_logits(p, ids)
    terms = [
        np.log(sum(np.exp(z))) - z[t] for z, t in zip(logits.reshape(-1, 13), targets.ravel(), strict=True) if t >= 0
    ]
    return sum(terms) / len(terms)


@pytest.fixture(scope="module")
def found():
    return by_hand.loss_and_gradients(*example(), heads=HEADS)


def test_the_forward_pass_is_that_of_one_number_at_a_time(found):
    parameters, ids, targets = example()
    logits, _ = by_hand.apply(parameters, ids, heads=HEADS)
    np.testing.assert_allclose(logits, naive_logits(parameters, ids), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(found[0], naive_loss(parameters, ids, targets), rtol=1e-12)


def test_every_gradient_is_the_slope_of_the_naive_loss(found):
    """Complex steps along a random direction in each leaf: exact, because the naive pass is analytic as written."""
    parameters, ids, targets = example()
    random = np.random.default_rng(2)
    leaves, tree = jax.tree.flatten(parameters)
    for i, gradient in enumerate(jax.tree.leaves(found[1])):
        direction = random.standard_normal(leaves[i].shape)
        moved = jax.tree.unflatten(tree, [*leaves[:i], leaves[i] + 1e-30j * direction, *leaves[i + 1 :]])
        wide = jax.tree.map(lambda leaf: leaf.astype(complex), moved)
        slope = naive_loss(wide, ids, targets).imag / 1e-30
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-9, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), time=st.integers(2, 7), data=st.data())
def test_no_token_sees_a_later_one(seed, time, data):
    changed = data.draw(st.integers(1, time - 1))
    random = np.random.default_rng(seed)
    ids = random.integers(0, SIZES["vocabulary"], (2, time))
    others = ids.copy()
    others[:, changed:] = (ids[:, changed:] + 1) % SIZES["vocabulary"]
    parameters = example()[0]
    before, after = (by_hand.apply(parameters, tokens, heads=HEADS)[0] for tokens in (ids, others))
    np.testing.assert_allclose(before[:, :changed], after[:, :changed], rtol=1e-12, atol=1e-13)
    assert not np.allclose(before[:, changed:], after[:, changed:])


# ----------------------------------------------------------------------------- step by step


@BY_HAND
def test_a_cache_is_not_used_up(side):
    parameters, ids, targets = example()
    logits, cache = side.apply(parameters, ids, heads=HEADS)
    _, of_loss = cross_entropy(logits, targets)
    dlogits = cross_entropy_backward(1.0, of_loss)
    first, again = (side.apply_backward(dlogits, cache) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    _, expected = by_hand.loss_and_gradients(parameters, ids, targets, heads=HEADS)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), first, expected)


# --------------------------------------------------------------------------------- planted faults


def mutated(name: str, old: str, new: str) -> list[tuple[Any, str, Any]]:
    """A function of the page with one piece of its text replaced."""
    source = inspect.getsource(getattr(by_hand, name))
    assert source.count(old) == 1
    scope = dict(vars(by_hand))
    exec(source.replace(old, new), scope)
    return [(by_hand, name, scope[name])]


def without_head(output_gradient, cache, vocabulary=SIZES["vocabulary"]):
    dx, dweight, dbias = dense_backward(output_gradient, cache)
    return dx, dweight * (dweight.shape[1] != vocabulary), dbias


def unscaled(output_gradient, cache):
    dq, dk, dv = attention_backward(output_gradient, cache)
    root = math.sqrt(dq.shape[-1])
    return root * dq, root * dk, dv


def gelu_of_the_exact_form(output_gradient, cache):
    return gelu_backward(output_gradient, gelu(cache.x)[1])


def constant_deviation(output_gradient, cache):
    _, dweight, dbias = layer_norm_backward(output_gradient, cache)
    g = output_gradient * cache.weight
    return (g - g.mean(axis=-1, keepdims=True)) / cache.deviation, dweight, dbias


# Each in one block: the judge tries every marked value in place of every other, which are twice as many in two.
FAULTS = {
    "tied embedding without its use as the first layer": (
        mutated(
            "apply_backward",
            "ops.layers.embedding_backward(dx, cache.tokens) + dW_head.T",
            "np.array(dW_head.T)",
        ),
        ["token_embedding"],
    ),
    "tied embedding without its use as the last layer": (
        [(layers, "dense_backward", without_head)],
        ["token_embedding"],
    ),
    "attention without 1/sqrt(depth)": (
        [(attention, "attention_backward", unscaled)],
        ["blocks.0.attention.input"],
    ),
    "gelu of the other form": (
        [(activations, "gelu_backward", gelu_of_the_exact_form)],
        ["blocks.0.gelu.input"],
    ),
    "layer norm with a constant deviation": (
        [(normalization, "layer_norm_backward", constant_deviation)],
        ["norm.input", "blocks.0.norm2.input", "blocks.0.norm1.input"],
    ),
    "no stream past the hidden layer": (
        mutated("_hidden_layer_backward", "dy + dx_norm2", "dx_norm2"),
        ["blocks.0.middle"],
    ),
    "no stream past attention": (
        mutated("_attention_backward", "dy + dx_norm1", "dx_norm1"),
        ["blocks.0.input"],
    ),
    "key and value exchanged": (
        mutated("_attention_backward", "np.stack([dq, dk, dv],", "np.stack([dq, dv, dk],"),
        ["blocks.0.attention.input"],
    ),
}


IN_TWO_BLOCKS = "no stream past the hidden layer"


def planted(fault, monkeypatch, layers):
    places, _ = FAULTS[fault]
    for module, name, faulty in places:
        monkeypatch.setattr(module, name, faulty)
    report = check_gradients(with_intermediates, LOSS, *example(layers=layers), probes=False, references=False)
    assert report.verdict is Verdict.DISAGREE
    return report


@pytest.mark.sweep
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != IN_TWO_BLOCKS])
def test_a_planted_fault_is_named_by_the_op_that_has_it_and_nothing_else_is(fault, monkeypatch):
    report = planted(fault, monkeypatch, layers=1)
    _, wrong = FAULTS[fault]
    assert report.first_wrong == wrong[0], str(report)
    assert {diagnosis.path for diagnosis in report.diagnoses} <= set(wrong)


@pytest.mark.campaign
def test_a_fault_of_every_block_is_named_in_the_one_that_comes_first_on_the_way_back(monkeypatch):
    report = planted(IN_TWO_BLOCKS, monkeypatch, layers=2)
    assert report.first_wrong == "blocks.1.middle", str(report)
    assert {diagnosis.path for diagnosis in report.diagnoses} <= {"blocks.1.middle", "blocks.0.middle"}


# ------------------------------------------------------------------------------------- training

RATE = 0.01


@pytest.mark.campaign
def test_three_steps_of_adamw_are_the_same():
    """In float64: the gradient of a key's bias is rounding alone, of which Adam makes whole steps in float32."""
    parameters, ids, targets = example()
    ours, theirs = manual.optimizers.adamw(RATE), autodiff.optimizers.adamw(RATE)

    trained = {}
    with jax.enable_x64(True):
        for side, optimizer, update in ((by_hand, ours, ours.update), (by_jax, theirs, jax.jit(theirs.update))):
            state = optimizer.initialize(parameters)
            trained[side] = parameters
            for batch in (ids, ids[:, ::-1], ids[::-1]):
                _, gradients = side.loss_and_gradients(trained[side], batch, targets, heads=HEADS)
                trained[side], state = update(trained[side], gradients, state)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11), trained[by_hand], trained[by_jax])


def test_training_learns_what_comes_next():
    """Count upwards: after some steps by hand, each next token is the likeliest."""
    parameters = by_hand.initialize_parameters(**SIZES, dtype=np.float32)
    optimizer = manual.optimizers.adamw(3 * RATE)
    state = optimizer.initialize(parameters)
    tokens = (np.arange(13)[:, None] + np.arange(8)) % 13
    for _ in range(60):
        _, gradients = by_hand.loss_and_gradients(parameters, tokens[:, :-1], tokens[:, 1:], heads=HEADS)
        parameters, state = optimizer.update(parameters, gradients, state, donate=True)
    logits, _ = by_hand.apply(parameters, tokens[:, :-1], heads=HEADS)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), tokens[:, 1:])


# ------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_seed_is_the_same_network_on_both_sides(dtype):
    ours, _, theirs = (side.initialize_parameters(**SIZES, seed=3, dtype=dtype) for side in SIDES)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert {np.asarray(leaf).dtype for leaf in jax.tree.leaves((ours, theirs))} == {np.dtype(dtype)}
    wide = by_hand.initialize_parameters(**SIZES, seed=3)
    jax.tree.map(lambda narrow, leaf: np.testing.assert_array_equal(narrow, leaf.astype(dtype)), ours, wide)
    other = by_hand.initialize_parameters(**SIZES, seed=4)
    assert not np.array_equal(wide["token_embedding"], other["token_embedding"])


@pytest.mark.parametrize("side", SIDES)
def test_the_start_is_gpt2s(side):
    start = side.initialize_parameters(vocabulary=400, context=300, layers=8, heads=2, width=100)
    p = jax.tree.map(np.asarray, start)
    for block in p["blocks"]:
        assert np.std(block["qkv"]["weight"]) == pytest.approx(0.02, rel=0.03)
        assert np.std(block["up"]["weight"]) == pytest.approx(0.02, rel=0.03)
        assert np.std(block["projection"]["weight"]) == pytest.approx(0.005, rel=0.03)  # 0.02 / sqrt(16)
        assert np.std(block["down"]["weight"]) == pytest.approx(0.005, rel=0.03)
        for name in ("norm1", "norm2"):
            assert (block[name]["weight"] == 1).all()
        for op in block.values():
            assert not op["bias"].any()
    for table in ("token_embedding", "position_embedding"):
        assert np.std(p[table]) == pytest.approx(0.02, rel=0.03)
    assert not np.array_equal(p["blocks"][0]["up"]["weight"], p["blocks"][1]["up"]["weight"])


def test_presets_are_those_of_the_paper():
    """The numbers of parameters are those of the published weights."""
    assert by_hand.PRESETS == by_jax.PRESETS

    def count(vocabulary, context, layers, heads, width):
        return vocabulary * width + context * width + layers * (12 * width**2 + 13 * width) + 2 * width

    tiny = by_hand.initialize_parameters(**SIZES)
    assert sum(leaf.size for leaf in jax.tree.leaves(tiny)) == count(**SIZES)
    counts = {name: count(**sizes) for name, sizes in by_hand.PRESETS.items() if name != "tiny"}
    assert counts == {
        "gpt2-124m": 124_439_808,
        "gpt2-355m": 354_823_168,
        "gpt2-774m": 774_030_080,
        "gpt2-1558m": 1_557_611_200,
    }
    for sizes in by_hand.PRESETS.values():
        assert sizes["width"] % sizes["heads"] == 0


# -------------------------------------------------------------------------- edges and bad input


@pytest.mark.sweep
@pytest.mark.parametrize("side", SIDES)
def test_one_sequence_of_one_token(side):
    """Attention has one key to attend to, so nothing of query and key matters."""
    parameters, ids, targets = example()
    loss, gradients = side.loss_and_gradients(parameters, ids[:1, :1], targets[:1, :1], heads=HEADS)
    np.testing.assert_allclose(loss, naive_loss(parameters, ids[:1, :1], targets[:1, :1]), rtol=1e-12)
    width = SIZES["width"]
    for block in gradients["blocks"]:
        assert np.abs(block["qkv"]["weight"][:, : 2 * width]).max() < 1e-16
        assert np.abs(block["qkv"]["weight"][:, 2 * width :]).min() > 1e-6
    moved = np.flatnonzero(np.abs(gradients["position_embedding"]).sum(axis=1))
    assert moved.tolist() == [0]


@pytest.mark.parametrize("side", SIDES)
def test_where_all_targets_are_ignored_nothing_is_learned(side):
    parameters, ids, targets = example()
    loss, gradients = side.loss_and_gradients(parameters, ids, np.full_like(targets, -100), heads=HEADS)
    nothing = side.compute_loss(parameters, ids, np.full_like(targets, -100), heads=HEADS)
    assert float(loss) == float(nothing) == 0
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))


@BY_HAND
def test_a_batch_of_none_has_gradients_of_zero(side):
    parameters, ids, targets = example()
    loss, gradients = side.loss_and_gradients(parameters, ids[:0], targets[:0], heads=HEADS)
    assert loss == 0
    assert jax.tree.map(np.shape, gradients) == jax.tree.map(np.shape, parameters)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


@BY_HAND
def test_inputs_are_not_modified_and_need_not_be_contiguous(found, side):
    parameters, ids, targets = example()
    strided = [np.repeat(array.T, 2, axis=0)[::2].T for array in (ids, targets)]
    fortran = jax.tree.map(np.asfortranarray, parameters)
    for array in jax.tree.leaves((fortran, strided)):
        array.setflags(write=False)  # writing to one now raises
    loss, gradients = side.loss_and_gradients(fortran, *strided, heads=HEADS)
    np.testing.assert_allclose(loss, found[0], rtol=1e-13)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-13), gradients, found[1])
    leaves = jax.tree.leaves(gradients)
    assert all(leaf.flags.writeable and leaf.flags.c_contiguous for leaf in leaves)  # as an optimizer wants them
    assert not any(np.shares_memory(a, b) for a in leaves for b in jax.tree.leaves(fortran))


@pytest.mark.parametrize("side", SIDES)
def test_what_cannot_be_is_refused_in_plain_words(side):
    parameters, ids, targets = example()
    sizes = SIZES | {"width": 7}
    with pytest.raises(ValueError, match=re.escape("heads must divide the width, 7, got 2 heads.")):
        side.initialize_parameters(**sizes)
    with pytest.raises(
        ValueError, match=re.escape("all sizes must be at least 1, got {'vocabulary': 0, 'context': 7,")
    ):
        side.initialize_parameters(**SIZES | {"vocabulary": 0})
    for heads in (0, 4):
        with pytest.raises(ValueError, match=f"heads must divide the width, 6, got {heads} heads"):
            side.apply(parameters, ids, heads=heads)
    long = np.zeros((1, 8), int)
    with pytest.raises(ValueError, match=re.escape("time at most the context of 7, got shape (1, 8). Cut longer")):
        side.loss_and_gradients(parameters, long, long, heads=HEADS)
    with pytest.raises(ValueError, match=re.escape("targets must have the shape of ids, (3, 5), got (3, 4).")):
        side.loss_and_gradients(parameters, ids, targets[:, :4], heads=HEADS)


def test_ids_and_targets_outside_the_vocabulary():
    """By hand, an error. In a compiled program they cannot be looked at, and the loss is NaN."""
    parameters, ids, targets = example()
    for wrong in (-1, 13):
        others, goals = ids.copy(), targets.copy()
        others[1, 2] = goals[1, 1] = wrong
        message = f"1 of 15 ids are not rows of the table, the first is {wrong}; ids must be from 0 to 12"
        with pytest.raises(ValueError, match=message):
            by_hand.apply(parameters, others, heads=HEADS)
        with pytest.raises(ValueError, match=f"targets hold the index {wrong}, but there are 13 classes"):
            by_hand.loss_and_gradients(parameters, ids, goals, heads=HEADS)
        assert np.isnan(by_jax.compute_loss(parameters, others, targets, heads=HEADS))
        assert np.isnan(by_jax.compute_loss(parameters, ids, goals, heads=HEADS))
