"""The numbers of networks: starting values, small networks worked out by hand, training and evaluation, dtypes."""

import json
from typing import Any

import jax
import numpy as np
import pytest

import autodiff.network
import manual.network
from tests.networks import DROPPING, MLP, NETWORKS, UNIT, marks, point

SIDES = [manual.network, autodiff.network]

# ----------------------------------------------------------------------------- starting values


@pytest.mark.sweep
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_means_the_same_bits_on_both_sides(name):
    description, shape, *_ = NETWORKS[name]
    for dtype in (np.float64, np.float32):
        by_hand, by_jax = (side.initialize_parameters(description, shape, seed=4, dtype=dtype) for side in SIDES)
        assert len(by_hand) == len(description)
        assert jax.tree.structure(by_hand) == jax.tree.structure(by_jax)
        for ours, theirs in zip(jax.tree.leaves(by_hand), jax.tree.leaves(by_jax), strict=True):
            assert ours.dtype == theirs.dtype == dtype
            np.testing.assert_array_equal(ours, theirs)
    other = manual.network.initialize_parameters(description, shape, seed=5)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(by_hand), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("side", SIDES)
def test_the_scale_of_weights_by_what_follows_them(side):
    description = [
        {"kind": "conv2d", "features": 50, "kernel": [3, 2]},
        {"kind": "relu"},
        {"kind": "conv2d", "features": 50, "kernel": 3, "groups": 2},
        {"kind": "layer_norm"},
        {"kind": "relu"},
        {"kind": "flatten"},
        {"kind": "dense", "features": 10},
    ]
    parameters = jax.tree.map(np.asarray, side.initialize_parameters(description, (5, 4, 20)))
    before_relu, grouped, norm, head = (parameters[i] for i in (0, 2, 3, 6))
    assert before_relu["weight"].shape == (3, 2, 20, 50)
    assert grouped["weight"].shape == (3, 3, 25, 50)
    for weight, variance in (
        (before_relu["weight"], 2 / 120),
        (grouped["weight"], 1 / 225),
        (head["weight"], 1 / head["weight"].shape[0]),
    ):
        assert np.var(weight) == pytest.approx(variance, rel=0.15)
        assert np.mean(weight) == pytest.approx(0, abs=0.01)
    assert (norm["weight"] == 1).all()
    assert not any(np.any(layer["bias"]) for layer in (before_relu, grouped, norm, head))


@pytest.mark.parametrize("side", SIDES)
def test_weights_of_all_kinds(side):
    shapes = [
        {key: value.shape for key, value in layer.items()}
        for name in ("words", "times", "recurrence", "image")
        for layer in side.initialize_parameters(*NETWORKS[name][:2])[:2]
    ]
    assert shapes == [
        {"weight": (7, 3)},
        {"input_weight": (3, 16), "hidden_weight": (4, 16), "bias": (16,)},
        {"input_weight": (3, 12), "hidden_weight": (4, 12), "input_bias": (12,), "hidden_bias": (12,)},
        {"weight": (4, 3), "bias": (3,)},
        {"input_weight": (2, 4), "hidden_weight": (4, 4), "bias": (4,)},
        {},
        {"weight": (2, 2, 3, 2), "bias": (6,)},
        {},
    ]


def test_masks_are_the_same_on_both_sides_and_keep_as_many_as_they_should():
    description = [{"kind": "dropout", "rate": 0.2}, {"kind": "flatten"}, {"kind": "dropout", "rate": 0.2}]
    by_hand, by_jax = (side.draw_masks(description, (40, 5), 30, seed=6) for side in SIDES)
    assert list(by_hand) == list(by_jax) == [0, 2]
    assert [by_hand[i].shape for i in by_hand] == [(30, 40, 5), (30, 200)]
    for i, mask in by_hand.items():
        np.testing.assert_array_equal(mask, by_jax[i])
        assert mask.mean() == pytest.approx(0.8, abs=0.02)
    assert (by_hand[0].reshape(30, 200) != by_hand[2]).any()
    other = manual.network.draw_masks(description, (40, 5), 30, seed=7)
    assert (other[0] != by_hand[0]).any()


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("side", SIDES)
def test_a_small_network_worked_out_by_hand(side):
    """relu(x W0 + b0) W2 with W0 = [[1, -1], [2, 0]], b0 = (0, 1), W2 = (3, 1)."""
    description = [{"kind": "dense", "features": 2}, {"kind": "relu"}, {"kind": "dense", "features": 1, "bias": False}]
    first = {"weight": np.array([[1.0, -1.0], [2.0, 0.0]]), "bias": np.array([0.0, 1.0])}
    parameters = [first, {}, {"weight": np.array([[3.0], [1.0]])}]
    x, targets = np.array([[1.0, 1.0], [-2.0, 0.0]]), np.array([[8.0], [3.0]])
    # hidden: (3, 0) and (-2, 3), of which relu keeps (3, 0) and (0, 3): outputs 9 and 3, errors 1 and 0.
    loss, gradients = side.loss_and_gradients(
        parameters, x, targets, description=description, loss="mean_squared_error"
    )
    assert float(loss) == 0.5
    assert float(side.compute_loss(parameters, x, targets, description=description, loss="mean_squared_error")) == 0.5
    # dy = 2 error / 2 = (1, 0); it reaches the first hidden unit of the first example, by 3.
    np.testing.assert_array_equal(gradients[2]["weight"], [[3.0], [0.0]])
    np.testing.assert_array_equal(gradients[0]["weight"], [[3.0, 0.0], [3.0, 0.0]])
    np.testing.assert_array_equal(gradients[0]["bias"], [3.0, 0.0])
    assert gradients[1] == {}
    assert list(gradients[2]) == ["weight"]


@pytest.mark.parametrize("side", SIDES)
def test_both_sides_fill_intermediates(side):
    parameters, x, targets, masks, _ = point("mlp")
    found = {}
    arguments = {"description": MLP, "masks": masks}
    loss, gradients = side.loss_and_gradients(parameters, x, targets, intermediates=found, **arguments)
    assert found.keys() == marks(MLP)
    found, gradients = jax.tree.map(np.asarray, (found, gradients))
    probabilities = np.exp(manual.network.apply(parameters, x, **arguments)[0])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["logits"], (probabilities - np.eye(3)[targets]) / 5, atol=1e-14)
    # A bias is added to every row of the layer's output: its gradient is the sum over them.
    np.testing.assert_allclose(found["1.batch_norm.input"].sum(axis=0), gradients[0]["bias"], atol=1e-14)
    np.testing.assert_allclose(found["2.tanh.input"].sum(axis=0), gradients[1]["bias"], atol=1e-14)
    again = side.loss_and_gradients(parameters, x, targets, **arguments)
    np.testing.assert_allclose(again[0], loss, rtol=1e-14)
    for a, b in zip(jax.tree.leaves(again[1]), jax.tree.leaves(gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def value_of(side, *args, **options):
    result = side.apply(*args, **options)
    return np.asarray(result[0] if side is manual.network else result)


@pytest.mark.parametrize("side", SIDES)
def test_training_and_evaluation_differ_where_they_should(side):
    x, masks = np.array([[1.0, 5.0], [3.0, 5.0]]), {0: np.array([[True, True], [False, True]])}
    statistics = {1: {"mean": np.array([1.0, 2.0]), "variance": np.array([4.0, 9.0])}}
    np.testing.assert_array_equal(value_of(side, [{}], x, description=DROPPING[:1]), x)
    np.testing.assert_array_equal(value_of(side, [{}], x, description=DROPPING[:1], masks=masks), [[2, 10], [0, 10]])
    evaluated = value_of(side, UNIT, x, description=DROPPING, statistics=statistics)
    np.testing.assert_allclose(evaluated, [[0, 1], [1, 1]], atol=1e-5)
    trained = value_of(side, UNIT, x, description=DROPPING, masks=masks)  # of 2, 0 and of 10, 10
    np.testing.assert_allclose(trained, [[1, 0], [-1, 0]], atol=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_statistics_after_a_batch(side):
    start = side.initialize_statistics(DROPPING, (2,), dtype=np.float32)
    assert {i: {name: (v.tolist(), v.dtype.name) for name, v in s.items()} for i, s in start.items()} == {
        1: {"mean": ([0, 0], "float32"), "variance": ([1, 1], "float32")}
    }
    x, masks = np.array([[1.0, 5.0], [3.0, 5.0]]), {0: np.array([[True, True], [False, True]])}
    start = {1: {"mean": np.array([4.0, 0.0]), "variance": np.array([1.0, 1.0])}}
    plain = side.update_statistics(UNIT, x, start, description=DROPPING)
    np.testing.assert_allclose(plain[1]["mean"], [0.9 * 4 + 0.1 * 2, 0.1 * 5])
    np.testing.assert_allclose(plain[1]["variance"], [0.9 + 0.1 * 2, 0.9])
    masked = side.update_statistics(UNIT, x, start, description=DROPPING, masks=masks, momentum=0.5)
    np.testing.assert_allclose(masked[1]["mean"], [0.5 * 4 + 0.5 * 1, 0.5 * 10])
    np.testing.assert_allclose(masked[1]["variance"], [0.5 + 0.5 * 2, 0.5])
    assert start[1]["mean"].tolist() == [4, 0]


def test_last_is_the_last_time():
    x = np.arange(24.0).reshape(2, 3, 4)
    for side in SIDES:
        np.testing.assert_array_equal(value_of(side, [{}], x, description=[{"kind": "last"}]), x[:, 2])


@pytest.mark.parametrize("side", SIDES)
def test_one_example(side):
    parameters, x, targets, _, statistics = point("mlp", training=False)
    arguments = {"description": MLP, "statistics": statistics}
    among_others, _ = manual.network.apply(parameters, x, **arguments)
    alone = among_others[1]
    loss, gradients = side.loss_and_gradients(parameters, x[1:2], targets[1:2], **arguments)
    assert float(loss) == pytest.approx(np.log(np.exp(alone).sum()) - alone[targets[1]])
    assert jax.tree.map(np.shape, gradients) == jax.tree.map(np.shape, parameters)


# --------------------------------------------------------------------------------------- conduct


@pytest.mark.parametrize("side", SIDES)
def test_work_keeps_its_dtype_and_inputs_their_values(side):
    parameters, x, targets, masks, _ = point("mlp", np.float32)
    frozen = jax.tree.map(np.copy, (parameters, x, targets, masks))
    for leaf in jax.tree.leaves((parameters, x, targets, masks)):
        leaf.flags.writeable = False
    x = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    loss, gradients = side.loss_and_gradients(parameters, x, targets, description=MLP, masks=masks)
    statistics = side.initialize_statistics(MLP, (6,), dtype=np.float32)
    updated = side.update_statistics(parameters, x, statistics, description=MLP, momentum=0.5)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, gradients, updated))} == {np.dtype(np.float32)}
    jax.tree.map(np.testing.assert_array_equal, (parameters, x, targets, masks), frozen)


def test_the_value_is_never_the_input_itself():
    x = np.ones((2, 3))
    value, _ = manual.network.apply([{}], x, description=[{"kind": "dropout", "rate": 0.5}])
    assert not np.shares_memory(value, x)


def test_jax_compiles_once_for_a_description():
    """Two equal descriptions, of which one came as JSON and in another order, are one program."""
    parameters, x, targets, _, _ = point("mlp")
    stored = [dict(reversed(layer.items())) for layer in json.loads(json.dumps(MLP))]
    compiled: Any = autodiff.network._value_and_grad
    autodiff.network.loss_and_gradients(parameters, x, targets, description=MLP)
    before = compiled._cache_size()
    autodiff.network.loss_and_gradients(parameters, x, targets, description=stored)
    assert compiled._cache_size() == before
