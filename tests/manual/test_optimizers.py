"""Optimizers: each against its paper's recurrence in plain Python and against PyTorch's, and norms and clipping."""

import math
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import autodiff.optimizers
import manual.fast
import manual.optimizers
from tests.updates import RATE, flat, gradients_like, run, start

SIDES = (manual.optimizers, manual.fast.optimizers, autodiff.optimizers)
NAMES = list(manual.optimizers.OPTIMIZERS)

# ------------------------------------------------------------------ the papers, one entry at a time


def scalar_sgd(p, gs, rate, weight_decay=0.0):
    for g in gs:
        p = p - rate * (g + weight_decay * p)
    return p


def scalar_momentum(p, gs, rate, beta=0.9, weight_decay=0.0):
    v = 0.0
    for g in gs:
        v = beta * v + (g + weight_decay * p)
        p = p - rate * v
    return p


def scalar_nesterov(p, gs, rate, beta=0.9, weight_decay=0.0):
    v = 0.0
    for g in gs:
        g = g + weight_decay * p
        v = beta * v + g
        p = p - rate * (g + beta * v)
    return p


def scalar_adagrad(p, gs, rate, epsilon=1e-10, initial_accumulator=0.0, weight_decay=0.0):
    s = initial_accumulator
    for g in gs:
        g = g + weight_decay * p
        s = s + g**2
        p = p - rate * g / (math.sqrt(s) + epsilon)
    return p


def scalar_rmsprop(p, gs, rate, decay=0.99, epsilon=1e-8, weight_decay=0.0):
    s = 0.0
    for g in gs:
        g = g + weight_decay * p
        s = decay * s + (1 - decay) * g**2
        p = p - rate * g / (math.sqrt(s) + epsilon)
    return p


def scalar_adam(p, gs, rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.0):
    m = v = 0.0
    for t, g in enumerate(gs, start=1):
        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p = p - rate * m_hat / (math.sqrt(v_hat) + epsilon)
    return p


def scalar_adamw(p, gs, rate, beta1=0.9, beta2=0.999, epsilon=1e-8, weight_decay=0.01):
    m = v = 0.0
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p = p - rate * (m_hat / (math.sqrt(v_hat) + epsilon) + weight_decay * p)
    return p


PAPERS = {
    "sgd": (scalar_sgd, [{}, {"weight_decay": 0.2}]),
    "momentum": (scalar_momentum, [{}, {"beta": 0.5, "weight_decay": 0.2}]),
    "nesterov": (scalar_nesterov, [{}, {"beta": 0.5, "weight_decay": 0.2}]),
    "adagrad": (scalar_adagrad, [{}, {"epsilon": 0.3, "initial_accumulator": 0.1, "weight_decay": 0.2}]),
    "rmsprop": (scalar_rmsprop, [{}, {"decay": 0.8, "epsilon": 0.3, "weight_decay": 0.2}]),
    "adam": (scalar_adam, [{}, {"beta1": 0.0, "beta2": 0.7, "epsilon": 0.3, "weight_decay": 0.2}]),
    "adamw": (scalar_adamw, [{}, {"beta1": 0.6, "beta2": 0.7, "epsilon": 0.3, "weight_decay": 0.4}]),
}


def test_the_tables_are_alike():
    assert list(autodiff.optimizers.OPTIMIZERS) == NAMES == list(PAPERS) == list(manual.fast.optimizers.OPTIMIZERS)
    assert NAMES == ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", NAMES)
def test_the_papers_recurrences(name, side, dtype):
    """In float32, too, to rounding: 1 - beta2^t must not be computed from a beta2 rounded to float32."""
    recurrence, settings = PAPERS[name]
    parameters, gradients = start(dtype), gradients_like(start(), 6, dtype)
    for options in settings:
        parameters_after, state = run(side.OPTIMIZERS[name](RATE, **options), parameters, gradients)
        entries = zip(flat(parameters), *map(flat, gradients), strict=True)
        expected = [recurrence(float(p), [float(g) for g in gs], RATE, **options) for p, *gs in entries]
        unit = np.finfo(dtype).eps
        came = flat(parameters_after)
        assert came.dtype == dtype
        np.testing.assert_allclose(came, expected, rtol=8 * unit, atol=64 * unit * max(map(abs, expected)))
        assert np.asarray(state.step) == 6
        assert np.asarray(state.step).dtype == np.int32


@pytest.mark.parametrize("side", SIDES)
def test_a_schedule_is_asked_with_the_number_of_updates_done(side):
    p, g = {"p": np.zeros((3, 4), np.float32)}, [{"p": np.ones((3, 4), np.float32)}] * 3
    after, _ = run(side.sgd(lambda count: 0.5**count), p, g)
    np.testing.assert_array_equal(after["p"], np.full((3, 4), -1.75))


def quadratic(p):
    """A gradient that depends on where it is taken."""
    return np.array([3.0, 0.2]) * p + 0.1


def test_nesterov_is_sutskevers_at_the_point_ahead():
    p, v, beta = np.array([1.0, -2.0]), np.zeros(2), 0.8
    optimizer = manual.optimizers.nesterov(RATE, beta=beta)
    q, state = p, optimizer.initialize(p)
    for _ in range(10):
        v = beta * v - RATE * quadratic(p + beta * v)
        p = p + v
        q, state = optimizer.update(q, quadratic(q), state)
        np.testing.assert_allclose(q, p + beta * v, rtol=1e-13)


def test_momentum_is_polyaks_while_the_rate_is_constant():
    p, v, beta = np.array([1.0, -2.0]), np.zeros(2), 0.8
    optimizer = manual.optimizers.momentum(RATE, beta=beta)
    q, state = p, optimizer.initialize(p)
    for _ in range(10):
        v = beta * v - RATE * quadratic(p)
        p = p + v
        q, state = optimizer.update(q, quadratic(q), state)
        np.testing.assert_allclose(q, p, rtol=1e-13)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_against_pytorch(weight_decay):
    torch = pytest.importorskip("torch")
    ours = {
        "sgd": (torch.optim.SGD, {}, {}),
        "momentum": (torch.optim.SGD, {"beta": 0.8}, {"momentum": 0.8}),
        "nesterov": (torch.optim.SGD, {"beta": 0.8}, {"momentum": 0.8, "nesterov": True}),
        "adagrad": (torch.optim.Adagrad, {"initial_accumulator": 0.2}, {"initial_accumulator_value": 0.2}),
        "rmsprop": (torch.optim.RMSprop, {"decay": 0.9}, {"alpha": 0.9}),
        "adam": (torch.optim.Adam, {"beta1": 0.8, "beta2": 0.95}, {"betas": (0.8, 0.95)}),
        "adamw": (torch.optim.AdamW, {}, {}),
    }
    assert list(ours) == NAMES
    p = np.random.default_rng(1).standard_normal((3, 4))
    gradients = gradients_like(p, 10, np.float64)
    for name, (peer, options, peer_options) in ours.items():
        theirs = torch.tensor(p, requires_grad=True)
        optimizer = peer([theirs], lr=RATE, weight_decay=weight_decay, **peer_options)
        for g in gradients:
            theirs.grad = torch.tensor(g)
            optimizer.step()
        by_hand = manual.optimizers.OPTIMIZERS[name](RATE, weight_decay=weight_decay, **options)
        came, _ = run(by_hand, p, gradients)
        np.testing.assert_allclose(came, theirs.detach().numpy(), rtol=1e-12, atol=1e-13, err_msg=name)


# ------------------------------------------------------------------ norms and clipping

SIZES = st.one_of(st.just(0.0), st.floats(1e-300, 1e300), st.floats(-1e300, -1e-300))


@given(st.lists(st.lists(SIZES, max_size=5), min_size=1, max_size=3))
def test_the_norm_neither_overflows_nor_vanishes(lists):
    tree = [np.array(entries, np.float64) for entries in lists]
    expected = math.hypot(*(entry for entries in lists for entry in entries))
    for side in (manual.optimizers, manual.fast.optimizers):
        assert float(side.global_norm(tree)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("side", SIDES)
def test_clipping_of_extremes(side, dtype):
    large = np.finfo(dtype).max / 4
    for entries in ([3.0, 4.0], [3e-5, 4e-5], [0.0, 0.0], [large, -large]):
        tree = {"a": np.array(entries[:1], dtype), "b": np.array(entries[1:], dtype)}
        norm, clipped = side.global_norm(tree), flat(side.clip_by_global_norm(tree, 1.0))
        assert np.asarray(norm).dtype == clipped.dtype == dtype
        unit = float(np.finfo(dtype).eps)
        size = math.hypot(*flat(tree).astype(float))
        assert float(norm) == pytest.approx(size, rel=4 * unit)
        expected = [float(g) / size if size > 1 else float(g) for g in flat(tree)]
        np.testing.assert_allclose(clipped, expected, rtol=4 * unit)
    np.testing.assert_array_equal(flat(side.clip_by_global_norm({"a": np.array([3, 4], dtype)}, 5.0)), [3, 4])


@pytest.mark.parametrize("side", SIDES)
def test_a_factor_that_float32_cannot_hold_well(side):
    """3e-42 has four digits there."""
    g = np.array([3e38, 1e38], np.float32)
    expected = g / math.hypot(*map(float, g)) * 1e-3
    clip = partial(side.clip_by_global_norm, maximum=1e-3)
    for function in (clip, jax.jit(clip)) if side is autodiff.optimizers else (clip,):
        np.testing.assert_allclose(function({"g": g})["g"], expected, rtol=1e-6)


@pytest.mark.parametrize("side", SIDES)
def test_an_infinite_norm_is_no_small_step(side):
    for bad in (np.inf, np.nan):
        tree = [np.array([1.0, bad], np.float32), np.ones(2, np.float32)]
        assert not np.isfinite(side.global_norm(tree))
        assert np.isnan(flat(side.clip_by_global_norm(tree, 1.0))).all()
    assert side.global_norm({"a": np.zeros(0, np.float32)}) == 0
    assert side.global_norm([]) == 0


@pytest.mark.parametrize("side", SIDES[:2])
def test_clipping_returns_memory_of_its_own(side):
    tree = {"a": np.ones(3, np.float32)}
    assert not np.shares_memory(side.clip_by_global_norm(tree, 10.0)["a"], tree["a"])


@pytest.mark.sweep
@pytest.mark.parametrize("side", SIDES)
def test_a_clipped_optimizer_is_clipping_and_then_the_optimizer(side):
    optimizer = side.sgd(RATE)
    p = g = {"a": np.full((3, 4), 2.0, np.float32)}  # of norm sqrt(48)
    for maximum in (5.0, 10.0):
        came, _ = side.clipped(optimizer, maximum).update(p, g, optimizer.initialize(p))
        np.testing.assert_allclose(came["a"], 2 - RATE * 2 * min(1, maximum / 48**0.5), rtol=1e-6)
