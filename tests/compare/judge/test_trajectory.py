"""Training runs: drift and error told apart, faults found at the step and in the parameter that have them."""

from itertools import repeat

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import autodiff
import manual
from compare import TrajectoryMismatch, Verdict, assert_trajectory_agrees, check_trajectory
from compare.errors import BadInput
from compare.judge.evaluation.steps import both_leaves
from compare.judge.reports.trajectory_report import Curve
from compare.judge.trajectory import _perturbed
from tests.helpers import network

RATE = 0.5
STEPS = 60


def manual_step(parameters, x, y):
    _, gradients = manual.loss_and_gradients(parameters, x, y)
    return manual.update_parameters(parameters, gradients, RATE)


@jax.jit
def autodiff_step(parameters, x, y):
    _, gradients = autodiff.loss_and_gradients(parameters, x, y)
    return autodiff.update_parameters(parameters, gradients, RATE)


def check(step, dtype=np.float64, steps=STEPS):
    parameters, x, y = network(0, 3, 4, 2, 20, dtype=dtype)
    return check_trajectory(step, autodiff_step, parameters, repeat((x, y), steps))


@pytest.mark.parametrize(("dtype", "drift"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_right_steps_agree(dtype, drift):
    report = check(manual_step, dtype)
    assert report.verdict is Verdict.AGREE
    assert report.steps == STEPS
    assert 0 < report.largest_drift < drift
    assert report.first_wrong is None
    assert "AGREE: 60 steps are the same" in str(report)
    assert report.share.steps == report.drift.steps == list(range(1, STEPS + 1))
    assert 0 < max(report.share.values) < 1
    assert report.share.values[-1] == max(row.drift / row.tolerance for row in report.rows)
    assert report.to_dict()["share"]["values"] == report.share.values


def from_call(number, wrong):
    """Right before the call of that number and `wrong` from then on. Each step but the first calls twice."""
    calls = 0

    def step(parameters, x, y):
        nonlocal calls
        calls += 1
        return (wrong if calls >= number else manual_step)(parameters, x, y)

    return step


def frozen(parameters, x, y):
    return manual_step(parameters, x, y) | {"b1": parameters["b1"]}


def stale(parameters, x, y):
    """W1's step is computed with the W2 of after the update."""
    updated = manual_step(parameters, x, y)
    return updated | {"W1": manual_step(parameters | {"W2": updated["W2"]}, x, y)["W1"]}


def one_entry(parameters, x, y):
    updated = manual_step(parameters, x, y)
    W1 = updated["W1"].copy()
    W1[1, 2] += 1e-9 * (W1[1, 2] - parameters["W1"][1, 2])
    return updated | {"W1": W1}


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("step", "number", "leaf"),
    [(frozen, 1, "b1"), (stale, 1, "W1"), (one_entry, 1, "W1"), (from_call(60, frozen), 31, "b1")],
)
def test_planted_faults_are_found_at_their_step_and_parameter(step, number, leaf):
    report = check(step)
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == leaf
    assert report.wrong_step == number
    assert f"DISAGREE: step {number}, {leaf}: " in str(report)


@pytest.mark.campaign
def test_a_frozen_parameter_never_passes_however_small_its_steps():
    """Steps below one unit in the last place look right one by one; the drift gives them away."""

    def crawl(parameters):
        return parameters + 1e-8 * np.sign(parameters)

    report = check_trajectory(lambda p: p, crawl, np.array([1.0], np.float32), repeat((), 50))
    assert report.rows[0].distance == 0  # 1e-8 is lost in float32: nothing moved, and nothing is claimed
    report = check_trajectory(lambda p: p, lambda p: p + 4e-16, np.array([1.0]), repeat((), 5000))
    assert report.verdict is not Verdict.AGREE


def test_chaos_is_no_fault():
    """The logistic map doubles differences at each step: every step is right, the runs are not comparable."""

    def logistic_map(x):
        return 3.9 * x * (1 - x)

    def the_same_otherwise(x):
        return 3.9 * (x * (1 - x))

    report = check_trajectory(the_same_otherwise, logistic_map, np.array([0.3]), repeat((), 200))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.wrong_step is None


def calm_at_first(i, x):
    """Halved for sixty steps, in which a move of the start vanishes; the logistic map from then on."""
    return jnp.where(i < 60, (x + 0.3) / 2, 3.9 * x * (1 - x))


def calm_and_otherwise(i, x):
    return np.where(i < 60, (x + 0.3) / 2, 3.9 * (x - x * x))


@pytest.mark.sweep
@pytest.mark.parametrize("steps", [100, 160, 200])
def test_chaos_that_begins_late_is_no_fault_either(steps):
    """A run that is moved at the start only is back with the reference before the chaos begins."""

    def stepping(step):
        return lambda p, i: {"i": p["i"], "x": step(i, p["x"])}

    start = {"i": np.array([0.0]), "x": np.linspace(0.2, 0.9, 16)}
    report = check_trajectory(
        stepping(calm_and_otherwise), jax.jit(stepping(calm_at_first)), start, zip(map(np.float64, range(steps)))
    )
    assert report.verdict is not Verdict.DISAGREE
    assert (report.verdict is Verdict.AGREE) == (steps == 100)
    assert steps == 100 or "as a perturbed reference run" in str(report)


def test_a_fault_in_the_midst_of_chaos_is_found():
    def late(p, i):
        return calm_and_otherwise(i, p) + (i == 150) * 1e-12

    batches = zip(map(np.float64, range(200)))
    report = check_trajectory(late, lambda p, i: calm_at_first(i, p), np.array([0.3, 0.8]), batches)
    assert (report.verdict, report.wrong_step) == (Verdict.DISAGREE, 151)


def test_the_perturbed_run_moves_by_a_unit_in_the_last_place_and_keeps_signs():
    """It moves by as much as the sides differ, but at most by a unit in the last place, or it would hide errors."""
    random, place = np.random.default_rng(0), np.finfo(float).eps
    run = ({"w": np.full(100, 2.0), "n": np.full(100, 2.0), "v": np.zeros(100)}, {"count": np.array(3)})
    ours = ({"w": np.full(100, 1.25), "n": np.full(100, 1.0), "v": np.full(100, 1e-6)}, {"count": np.array(4)})
    theirs = ({"w": np.full(100, 1.0), "n": np.full(100, 1.0), "v": np.zeros(100)}, {"count": np.array(3)})
    moved, state = _perturbed(run, both_leaves(ours), both_leaves(theirs), random)
    assert set(moved["w"]) == {2 - 2 * place, 2 + 2 * place}
    assert (moved["n"] == 2).all()
    assert (moved["v"] == 0).all()
    assert state["count"] == 3


def test_what_is_not_finite_is_not_agreement():
    with np.errstate(over="ignore"):
        report = check_trajectory(lambda p: p * 1e200, lambda p: p * 1e200, np.array([1.0]), repeat((), 5))
    assert report.verdict is Verdict.INCONCLUSIVE
    report = check_trajectory(lambda p: p * np.nan, lambda p: p * 2, np.array([1.0]), repeat((), 5))
    assert report.verdict is Verdict.DISAGREE


@pytest.mark.parametrize("wrong", [lambda p: {"a": p["a"]}, lambda p: p | {"b": p["b"].astype(np.float32)}])
def test_structure_and_dtype_come_first(wrong):
    start = {"a": np.ones(2), "b": np.ones(3)}
    report = check_trajectory(wrong, lambda p: p, start, repeat((), 3))
    assert report.verdict is Verdict.DISAGREE
    assert report.first_wrong == "b"
    assert report.steps == 1


def test_no_batches_is_an_error():
    with pytest.raises(ValueError, match="batches is empty"):
        check(manual_step, steps=0)


def test_batches_may_be_a_generator_and_differ():
    parameters, x, y = network(0, 3, 4, 2, 20)
    batches = ((x[:, i : i + 5], y[:, i : i + 5]) for i in range(0, 20, 5))
    assert_trajectory_agrees(manual_step, autodiff_step, parameters, batches)


def test_the_assertion_and_the_report():
    parameters, x, y = network(0, 3, 4, 2, 20)
    with pytest.raises(TrajectoryMismatch, match="b1") as caught:
        assert_trajectory_agrees(frozen, autodiff_step, parameters, repeat((x, y), 3))
    report = caught.value.report
    assert report.to_dict()["wrong_step"] == 1
    assert "<table>" in report._repr_html_()
    with pytest.raises(TypeError, match=r"look at report\.verdict"):
        bool(report)


def test_records_stay_bounded_however_long_the_run():
    curve = Curve(capacity=100)
    for step in range(1, 100_001):
        curve.add(step, float(step))
    assert len(curve.steps) < 100
    assert curve.steps == [int(value) for value in curve.values]
    assert np.ptp(np.diff(curve.steps)) == 0  # evenly spaced
    assert curve.steps[-1] > 95_000


def test_steps_judged_by_themselves_need_no_free_runs():
    parameters, x, y = network(0, 3, 4, 2, 20)
    report = check_trajectory(manual_step, autodiff_step, parameters, repeat((x, y), 5), free=False)
    assert report.verdict is Verdict.AGREE
    assert report.largest_drift == 0
    assert "5 steps are the same, each compared alone" in str(report)
    assert report.to_dict()["free"] is False
    wrong = check_trajectory(frozen, autodiff_step, parameters, repeat((x, y), 5), free=False)
    assert (wrong.verdict, wrong.wrong_step, wrong.first_wrong) == (Verdict.DISAGREE, 1, "b1")


def test_chaos_does_not_matter_to_steps_judged_by_themselves():
    """The larger the slope the further rounding carries two free runs apart: 200 steps of x -> 4 x (1 - x) for all."""
    start = {"x": np.array([0.3, 0.6, 0.2])}

    def step(p):
        return {"x": 4 * p["x"] * (1 - p["x"])}

    assert check_trajectory(step, jax.jit(step), start, repeat((), 200)).verdict is Verdict.INCONCLUSIVE
    assert check_trajectory(step, jax.jit(step), start, repeat((), 200), free=False).verdict is Verdict.AGREE


def test_some_entries_of_each_leaf_may_stand_for_all():
    parameters, x, y = network(0, 3, 40, 2, 20)

    def off(parameters, x, y):
        updated = manual_step(parameters, x, y)
        return updated | {"W1": updated["W1"] * (1 + 1e-12)}

    for step, verdict in ((manual_step, Verdict.AGREE), (off, Verdict.DISAGREE)):
        report = check_trajectory(step, autodiff_step, parameters, repeat((x, y), 5), free=False, entries=10)
        assert report.verdict is verdict
        assert [row.shape for row in report.rows] == [(40, 3), (2, 40), (40, 1), (2, 1)]


@pytest.mark.parametrize("count", [0.0, 0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("returned", [lambda t: t, float])
def test_numbers_of_python_in_a_state_have_no_dtype_of_their_own(dtype, count, returned):
    def by_hand(p, s):
        t = returned(s["t"] + 1)
        return (p * (1 - 0.1**t)).astype(dtype), {"t": t if isinstance(count, float) else int(t)}

    def by_jax(p, s):
        return (p * (1 - 0.1 ** (s["t"] + 1))).astype(p.dtype), {"t": s["t"] + 1}

    report = check_trajectory(by_hand, by_jax, np.ones(3, dtype), repeat((), 5), state={"t": count})
    assert report.verdict is Verdict.AGREE


def test_an_array_of_another_dtype_in_a_state_is_still_a_fault():
    def by_hand(p, s):
        return p * p.dtype.type(0.5), {"m": (s["m"] + p).astype(np.float64)}

    def by_jax(p, s):
        return p * 0.5, {"m": s["m"] + p}

    report = check_trajectory(by_hand, by_jax, np.ones(3, np.float32), repeat((), 2), state={"m": np.zeros(3, "f")})
    assert (report.verdict, report.first_wrong) == (Verdict.DISAGREE, "state.m")


@pytest.mark.sweep
@pytest.mark.parametrize("state", [{"t": 0}, {"t": 0, "lr": 0.1}, {"t": 0, "done": False}, {"t": np.int64(0)}])
def test_numbers_of_python_may_come_back_from_a_compiled_step(state):
    """JAX makes them shorter integers, or floats of its own."""

    def by_hand(p, s):
        return p - np.float32(0.1) * p, s | {"t": s["t"] + 1}

    report = check_trajectory(
        by_hand, jax.jit(lambda p, s: (p - 0.1 * p, s | {"t": s["t"] + 1})), np.ones(3, "f"), repeat((), 5), state=state
    )
    assert report.verdict is Verdict.AGREE
    stuck = check_trajectory(
        lambda p, s: (by_hand(p, s)[0], s),
        jax.jit(lambda p, s: (p - 0.1 * p, s | {"t": s["t"] + 1})),
        np.ones(3, "f"),
        repeat((), 5),
        state=state,
    )
    assert (stuck.verdict, stuck.first_wrong) == (Verdict.DISAGREE, "state.t")


def test_a_state_that_both_sides_return_as_numbers_of_python():
    def step(p, s):
        return p * p.dtype.type(0.9), {"lr": 0.1}

    report = check_trajectory(step, step, np.ones(3, "f"), repeat((), 5), state={"lr": 0.1})
    assert report.verdict is Verdict.AGREE


def test_an_integer_among_float32_parameters_leaves_them_float32():
    random = np.random.default_rng(0)
    start = {"w": random.standard_normal(50).astype("f"), "n": np.int32(0)}

    def by_hand(p, x):
        return {"w": p["w"] - np.float32(0.1) * (x.T @ (x @ p["w"])) / np.float32(30), "n": p["n"] + 1}

    def by_jax(p, x):
        return {"w": p["w"] - 0.1 * jnp.mean(x * (x @ p["w"])[:, None], axis=0), "n": p["n"] + 1}

    batches = [(random.standard_normal((30, 50)).astype("f"),)] * 10
    assert check_trajectory(by_hand, by_jax, start, batches).verdict is Verdict.AGREE

    def wrong(p, x):
        return by_hand(p, x) | {"w": by_hand(p, x)["w"] * np.float32(1.0001)}

    broken = check_trajectory(
        wrong, by_jax, start, batches, loss_and_gradients=lambda p, x: (0.0, p), loss=lambda p, x: jnp.sum(p["w"])
    )
    assert (broken.verdict, broken.first_wrong, broken.gradients) == (Verdict.DISAGREE, "w", None)
    assert "could not be checked" in str(broken)  # an integer has no gradient; the fault is told all the same


def test_large_integers_are_compared_as_integers():
    def by_hand(p, s):
        return p, s + np.uint64(2)

    with jax.enable_x64(True):
        start = np.uint64(2**60)
        report = check_trajectory(by_hand, lambda p, s: (p, s + jnp.uint64(1)), np.ones(2), repeat((), 3), state=start)
    assert report.verdict is Verdict.DISAGREE


def test_names_that_parameters_and_state_share_are_refused():
    start, state = {"w": np.ones(2), "state": {"m": np.ones(2)}}, {"m": np.zeros(2)}
    with pytest.raises(BadInput, match=r"a parameter is called 'state\.m'"):
        check_trajectory(lambda p, s: (p, s), lambda p, s: (p, s), start, repeat((), 2), state=state)
    with pytest.raises(BadInput, match="must be real"):
        check_trajectory(lambda p: p, lambda p: p, np.ones(2, complex), repeat((), 2))


def test_a_run_that_diverges_on_both_sides_is_no_fault():
    """Where float64 still has numbers, float32 has none; which entries are lost first is chance."""

    def step(numbers):
        def step(p, x):
            a = numbers.tanh(x @ p)
            return p + 5 * x.T @ (a * numbers.exp(numbers.abs(p).max()))

        return step

    x = np.random.default_rng(0).standard_normal((20, 4)).astype("f")
    with np.errstate(all="ignore"):
        report = check_trajectory(step(np), step(jnp), np.full((4, 1), 0.1, "f"), repeat((x,), 40))
        assert report.verdict is Verdict.INCONCLUSIVE
        lost = check_trajectory(
            lambda p, x: np.full_like(p, np.nan), step(jnp), np.full((4, 1), 0.1, "f"), repeat((x,), 40)
        )
    assert lost.verdict is Verdict.DISAGREE


@pytest.mark.sweep
@pytest.mark.parametrize("error", [0.0, 1e-3])
def test_a_bias_below_the_last_place_is_not_called_agreement(error):
    """Steps so small that one of them is hardly stored: only the drift tells that the rate is wrong."""
    random = np.random.default_rng(0)
    x, start = random.standard_normal((20, 6)).astype("f"), random.standard_normal(6).astype("f")

    def by_hand(p, x):
        return p - np.float32(1e-5 * (1 + error)) * (x.T @ (x @ p))

    report = check_trajectory(by_hand, jax.jit(lambda p, x: p - 1e-5 * (x.T @ (x @ p))), start, repeat((x,), 1500))
    assert report.verdict is (Verdict.INCONCLUSIVE if error else Verdict.AGREE)


@pytest.mark.parametrize("narrow", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_momentum_narrower_than_the_parameters_is_held_to_its_own_rounding(narrow, wrong):
    random = np.random.default_rng(0)
    x, start = random.standard_normal((20, 6)).astype("f"), random.standard_normal(6).astype("f")

    def by_hand(p, m, x):
        m = (np.float32(0.45 if wrong else 0.9) * m.astype(np.float32) + x.T @ (x @ p)).astype(narrow)
        return p - np.float32(1e-3) * m.astype(np.float32), m

    def by_jax(p, m, x):
        m = (0.9 * m.astype(p.dtype) + (x.T @ (x @ p))).astype(m.dtype)
        return p - 1e-3 * m.astype(p.dtype), m

    report = check_trajectory(by_hand, jax.jit(by_jax), start, repeat((x,), 20), state=np.zeros(6, narrow))
    assert (report.verdict is Verdict.DISAGREE) == wrong
