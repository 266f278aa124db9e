"""The loop of `manual.train` against the page of formulas: alone, shared among threads, and where it goes wrong."""

from contextlib import nullcontext
from threading import get_ident
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import manual
import manual._shallow_steps as steps
from tests.helpers import network

NAMES = ("W1", "b1", "W2", "b2")


@pytest.fixture
def shared_by(monkeypatch):
    """Makes that many threads share any work, however small."""

    def share(threads):
        monkeypatch.setattr(steps, "SHARED", 1)
        monkeypatch.setattr(steps, "NARROWEST", 1)
        blas = SimpleNamespace(info=lambda: [{"num_threads": threads}], limit=lambda limits: nullcontext())
        monkeypatch.setattr(steps, "_blas", lambda: blas)

    return share


def by_the_page(parameters, x, y, iterations, rate):
    losses = []
    for _ in range(iterations):
        loss, gradients = manual.loss_and_gradients(parameters, x, y)
        losses.append(loss)
        parameters = manual.update_parameters(parameters, gradients, rate)
    return parameters, losses


def assert_the_same(parameters, x, y, iterations=4, rate=0.5):
    trained, losses = manual.train(parameters, x, y, iterations=iterations, learning_rate=rate)
    expected, expected_losses = by_the_page(parameters, x, y, iterations, rate)
    units = 64 * float(np.finfo(x.dtype).eps)
    np.testing.assert_allclose(losses, expected_losses, rtol=units)
    assert losses.dtype == x.dtype
    for name in NAMES:
        assert (trained[name].dtype, trained[name].shape) == (expected[name].dtype, expected[name].shape)
        assert trained[name].flags.c_contiguous
        assert np.abs(trained[name] - expected[name]).max() <= units * max(1, np.abs(expected[name]).max()), name


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_the_steps_are_those_of_the_page(shared_by, threads):
    """To rounding: a bias is added inside the product, and sums are made of the threads' sums."""
    shared_by(threads)

    @settings(max_examples=25, deadline=None)
    @given(
        seed=st.integers(0, 2**32 - 1),
        sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(5, 200)),
        dtype=st.sampled_from([np.float64, np.float32]),
    )
    def check(seed, sizes, dtype):
        assert_the_same(*network(seed, *sizes, dtype=dtype))

    check()


def test_a_share_that_is_left_out_is_noticed(shared_by, monkeypatch):
    shared_by(2)
    right = steps._Share.differentiate

    def differentiate(share):
        loss = right(share)
        if share.x[0, 0] != x[0, 0]:
            share.gradient[:] = 0
        return loss

    monkeypatch.setattr(steps._Share, "differentiate", differentiate)
    parameters, x, y = network(3, 3, 4, 1, 40)
    with pytest.raises(AssertionError):
        assert_the_same(parameters, x, y)


def test_large_work_is_shared_and_blas_is_left_as_it_was(monkeypatch):
    """BLAS has one thread meanwhile, and as many as before afterwards."""
    parameters, x, y = network(0, 300, 300, 1, 600, dtype=np.float32)
    seen, right = set(), steps._Share.differentiate

    def blas():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    def differentiate(share):
        seen.add((get_ident(), *blas()))
        return right(share)

    monkeypatch.setattr(steps._Share, "differentiate", differentiate)
    monkeypatch.setattr(steps, "SHARED", 10**7)
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        assert_the_same(parameters, x, y, 2)
        assert blas() == before
    assert len(seen) == 2
    assert {count for _, *counts in seen for count in counts} == {1}


def test_a_training_beside_another_leaves_the_setting_alone(shared_by):
    shared_by(2)
    with steps._threads(10**12, 10**6) as first, steps._threads(10**12, 10**6) as second:
        assert (first, second) == (2, 1)
    with steps._threads(10**12, 10**6) as again:
        assert again == 2


@pytest.mark.parametrize(("operations", "examples"), [(10**6, 10**6), (10**12, 100)])
def test_small_work_and_few_examples_are_not_shared(operations, examples):
    with threadpool_limits(2, user_api="blas"), steps._threads(operations, examples) as threads:
        assert threads == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["the caller", "another"])
def test_an_error_in_any_thread_ends_them_all(shared_by, monkeypatch, error, where):
    shared_by(3)
    parameters, x, y = network(1, 3, 4, 1, 60)
    caller, right = get_ident(), steps._Share.differentiate

    def differentiate(share):
        if (get_ident() == caller) == (where == "the caller"):
            raise error("so it goes")
        return right(share)

    monkeypatch.setattr(steps._Share, "differentiate", differentiate)
    with pytest.raises(error, match="so it goes"):
        manual.train(parameters, x, y, iterations=5, learning_rate=0.1)


def test_error_states_of_the_caller_hold_in_all_threads(shared_by):
    shared_by(2)
    parameters, x, y = network(2, 3, 4, 1, 60)
    parameters["b2"] = np.array([[1000.0]])
    with np.errstate(under="raise"), pytest.raises(FloatingPointError):
        manual.train(parameters, x, y, iterations=1, learning_rate=0.1)
    manual.train(parameters, x, y, iterations=1, learning_rate=0.1)


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("label", [0.0, 1.0, 0.3])
def test_a_logit_of_zero_of_either_sign(zero, label):
    parameters = {
        "W1": np.ones((1, 1)),
        "b1": np.zeros((1, 1)),
        "W2": np.full((1, 1), zero),
        "b2": np.full((1, 1), zero),
    }
    x, y = np.array([[0.5, -0.5]]), np.full((1, 2), label)
    trained, losses = manual.train(parameters, x, y, iterations=1, learning_rate=1.0)
    assert losses[0] == pytest.approx(np.log(2), rel=1e-15)
    assert trained["b2"].item() == pytest.approx(label - 0.5, rel=1e-15)


@pytest.mark.parametrize(("logit", "label"), [(40.0, 1.0), (-40.0, 0.0)])
def test_small_derivatives_are_not_lost_beside_1(logit, label):
    parameters = {"W1": np.ones((1, 1)), "b1": np.zeros((1, 1)), "W2": np.zeros((1, 1)), "b2": np.full((1, 1), logit)}
    x, y = np.ones((1, 3)), np.full((1, 3), label)
    trained, losses = manual.train(parameters, x, y, iterations=1, learning_rate=1e18)
    assert losses[0] == pytest.approx(np.exp(-40), rel=1e-14)
    assert (trained["b2"] - logit).item() == pytest.approx((2 * label - 1) * 1e18 * np.exp(-40), rel=1e-13)


def test_the_loss_overflows_only_if_it_is_too_large():
    """Its terms add up to more than float32 holds; their mean does not."""
    parameters = {name: np.zeros((1, 1), np.float32) for name in NAMES} | {"b2": np.full((1, 1), 1e37, np.float32)}
    x, y = np.zeros((1, 1000), np.float32), np.zeros((1, 1000), np.float32)
    _, losses = manual.train(parameters, x, y, iterations=1, learning_rate=1.0)
    assert losses[0] == pytest.approx(1e37, rel=1e-5)


def test_threads_that_cannot_begin_do_not_leave_the_others_waiting(shared_by, monkeypatch):
    shared_by(3)
    parameters, x, y = network(1, 3, 4, 1, 60)
    submit = steps.ThreadPoolExecutor.submit

    def fails(pool, function, *arguments):
        if arguments[-1] == 2:
            raise RuntimeError("can't start new thread")
        return submit(pool, function, *arguments)

    monkeypatch.setattr(steps.ThreadPoolExecutor, "submit", fails)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        manual.train(parameters, x, y, iterations=5, learning_rate=0.1)
