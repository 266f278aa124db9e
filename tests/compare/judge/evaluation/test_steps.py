"""A step is called on copies, asked for what it owes, and watched."""

from typing import Any

import jax
import numpy as np
import pytest

from compare import Verdict, check_trajectory
from compare.errors import BadInput
from compare.judge.evaluation.steps import Careful

RANDOM = np.random.default_rng(0)
W = RANDOM.standard_normal(5)
X = RANDOM.standard_normal((20, 5))


def gradient(w, x):
    return 2 * x.T @ (x @ w) / len(x)


def by_hand(w, x):
    return w - 0.1 * gradient(w, x)


by_jax = jax.jit(by_hand)


def check(step, reference: Any = by_jax, start: Any = W, batches=((X,),) * 5, **options):
    return check_trajectory(step, reference, start, batches, **options)


def spoils_its_batch(w, x, rate=0.1):
    updated = w - rate * gradient(w, x)
    x *= 0
    return updated


@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_the_callers_data_stay_what_they_are(rate):
    """Also when the step is wrong, and called again to find out why."""
    w, x = W.copy(), X.copy()
    report = check(lambda w, x: spoils_its_batch(w, x, rate), start=w, batches=[(x,)] * 5)
    assert report.verdict is Verdict.DISAGREE
    np.testing.assert_array_equal(w, W)
    np.testing.assert_array_equal(x, X)
    assert [note.kind for note in report.side_effects] == ["modifies-arguments"]
    assert "it modifies its data: batch[0]. Work on a copy." in " ".join(str(report).split())
    assert report.wrong_step == (None if rate == 0.1 else 1)


def test_an_update_in_place_is_no_fault_and_is_mentioned():
    def in_place(w, x):
        w -= 0.1 * gradient(w, x)
        return w

    report = check(in_place)
    assert report.verdict is Verdict.AGREE
    assert [(note.kind, note.path) for note in report.side_effects] == [("updates-in-place", "parameters")]
    assert "Note: it updates in place: parameters." in str(report)
    assert report.to_dict()["side_effects"][0]["kind"] == "updates-in-place"
    assert check(by_hand).side_effects == []


def counts_its_calls():
    calls = 0

    def step(w, x, t):
        nonlocal calls
        calls += 1
        return w - 0.1 / calls * gradient(w, x)

    return step


def keeps_its_velocity():
    velocity = np.zeros(5)

    def step(w, x, t):
        nonlocal velocity
        velocity = 0.9 * velocity + gradient(w, x)
        return w - 0.1 * velocity

    return step


def draws_its_noise():
    random = np.random.default_rng(0)
    return lambda w, x, t: by_hand(w, x) * (1 + 1e-6 * random.standard_normal(5))


@pytest.mark.parametrize("make", [counts_its_calls, keeps_its_velocity, draws_its_noise])
@pytest.mark.parametrize("free", [True, False])
def test_a_step_that_keeps_state_is_told_so_and_not_blamed(make, free):
    batches = [(X, float(t)) for t in range(1, 6)]
    decaying = make is counts_its_calls

    def reference(w, x, t):
        return w - 0.1 / (t if decaying else 1) * gradient(w, x)

    report = check(make(), reference, batches=batches, free=free)
    if decaying and not free:
        assert report.verdict is Verdict.AGREE  # asked once at every step, it is right
        return
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.wrong_step is None
    assert "it returns different results for the same arguments" in str(report)
    assert "pass the state as `state=`" in " ".join(str(report).split())


def test_a_wrong_step_that_answers_the_same_is_blamed():
    report = check(lambda w, x: w - 0.11 * gradient(w, x))
    assert (report.verdict, report.wrong_step, report.side_effects) == (Verdict.DISAGREE, 1, [])


def test_state_that_is_passed_is_no_secret():
    def step(w, velocity, x):
        velocity = 0.9 * velocity + gradient(w, x)
        return w - 0.1 * velocity, velocity

    assert check(step, jax.jit(step), state=np.zeros(5)).verdict is Verdict.AGREE


RETURNS = [
    (lambda w, x: None, {}, "manual_step returned None instead of the parameters, an array of shape (5,). Return"),
    (
        lambda w, x: (w,),
        {},
        "manual_step returned a tuple of 1 instead of the parameters, an array of shape (5,). Return",
    ),
    (lambda w, x: w.tolist(), {}, "manual_step returned a list of 5 instead of"),
    (
        lambda w, s, x: w,
        {"state": np.zeros(5)},
        "with state=, manual_step must return (parameters, state), but it returned an array of shape (5,).",
    ),
    (lambda w, s, x: (w, None), {"state": np.zeros(5)}, "manual_step returned None instead of the state, an array"),
]


@pytest.mark.parametrize(("step", "options", "message"), RETURNS)
def test_what_is_no_step_is_refused_in_a_sentence(step, options, message):
    with pytest.raises(BadInput) as caught:
        check(step, **options)
    assert str(caught.value).startswith(message)


def test_the_other_side_is_refused_by_its_name():
    with pytest.raises(BadInput, match=r"^autodiff_step returned a dict with v instead of the parameters, an array"):
        check(by_hand, lambda w, x: {"v": w})


def test_a_batch_that_is_no_tuple_is_refused():
    with pytest.raises(BadInput, match=r"^batch 1 is an array of shape \(20, 5\); each must be a tuple of arguments"):
        check(by_hand, batches=[X])
    assert check(by_hand, batches=[[X], (X,)]).verdict is Verdict.AGREE


def test_a_float32_step_that_names_its_dtype_is_judged():
    """The measurement of a step's rounding runs it in float64, where its loop must still begin as it does."""
    x = X.astype(np.float32)

    def reference(w, x):
        total, _ = jax.lax.scan(lambda h, row: (h + row @ w, None), jax.numpy.zeros((), "float32"), x)
        return w - jax.numpy.float32(0.01) * total * x.sum(axis=0)

    def step(w, x, rate=0.01):
        return w - np.float32(rate) * (x.sum(axis=0) @ w) * x.sum(axis=0)

    start, batches = W.astype(np.float32), [(x,)] * 5
    assert check(step, reference, start, batches).verdict is Verdict.AGREE
    assert check(lambda w, x: step(w, x, 0.0101), reference, start, batches).verdict is Verdict.DISAGREE


def test_a_step_that_raises_elsewhere_is_not_possible_there():
    before = {"w": np.ones(2)}, {}
    assert Careful(lambda both, x: 1 / 0).if_possible(before, np.ones(2)) is None
    (after, _) = Careful(lambda both, x: ({"w": both[0]["w"] + x}, {})).if_possible(before, np.ones(2))
    assert after["w"].tolist() == [2.0, 2.0]
