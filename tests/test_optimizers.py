"""Optimizers: each against its paper's recurrence in plain Python, both sides against each other, and their engine."""

import functools
import math
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

import autodiff.optimizers
import autodiff.schedules
import manual._blocks
import manual._threads
import manual.optimizers
import manual.schedules
from compare import Verdict, check_trajectory
from manual._trees import leaves_by_path, rebuilt, tree_map

SIDES = (manual.optimizers, autodiff.optimizers)
NAMES = list(manual.optimizers.OPTIMIZERS)
RATE = 0.03

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


def gradients_like(tree, steps, dtype, seed=0):
    """Gradients of very different sizes, and an entry that gets none at all."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        g = random.standard_normal(leaf.shape) * 10.0 ** random.integers(-3, 3, leaf.shape)
        g.flat[:1] = 0
        return g.astype(dtype)

    return [tree_map(draw, tree) for _ in range(steps)]


def start(dtype: DTypeLike = np.float64, seed=0):
    random = np.random.default_rng(seed)
    return {
        "layers": [
            {"weight": random.standard_normal((3, 4)).astype(dtype)},
            (random.standard_normal(5).astype(dtype),),
        ],
        "scale": np.asarray(random.standard_normal(), dtype),
        "none": None,
        "empty": np.zeros((0, 2), dtype),
    }


def run(optimizer, parameters, gradients, update=None):
    state = optimizer.initialize(parameters)
    for g in gradients:
        parameters, state = (update or optimizer.update)(parameters, g, state)
    return parameters, state


def flat(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def test_the_tables_are_alike():
    assert list(autodiff.optimizers.OPTIMIZERS) == NAMES == list(PAPERS)
    assert NAMES == ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]


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


# ------------------------------------------------------------------ one side against the other

SCHEDULE = {"warmup_steps": 5, "total_steps": 28}
MAXIMUM = 20.0  # most of the gradients are longer


def all_optimizers(side, schedules):
    rate = schedules.cosine_with_warmup(RATE, **SCHEDULE)
    return {name: make(rate) for name, make in side.OPTIMIZERS.items()}


def follow(dtype, steps, faults=None):
    """The judge on updates of all optimizers at once, each with a parameter of its own. `faults` replace updates."""
    by_hand = all_optimizers(manual.optimizers, manual.schedules)
    random = np.random.default_rng(2)
    parameters = {name: {"p": random.standard_normal((3, 4)).astype(dtype)} for name in NAMES}
    updates = {name: optimizer.update for name, optimizer in by_hand.items()} | (faults or {})

    return check_trajectory(
        step_of(updates, manual.optimizers.clip_by_global_norm),
        compiled_steps(),
        parameters,
        [(g,) for g in gradients_like(parameters, steps, dtype)],
        state={name: optimizer.initialize(parameters[name]) for name, optimizer in by_hand.items()},
    )


def step_of(updates, clip):
    def step(parameters, states, gradients):
        gradients = clip(gradients, MAXIMUM)
        both = {name: updates[name](parameters[name], gradients[name], states[name]) for name in NAMES}
        return {name: p for name, (p, _) in both.items()}, {name: state for name, (_, state) in both.items()}

    return step


@functools.cache
def compiled_steps():
    by_jax = all_optimizers(autodiff.optimizers, autodiff.schedules)
    updates = {name: optimizer.update for name, optimizer in by_jax.items()}
    return jax.jit(step_of(updates, autodiff.optimizers.clip_by_global_norm))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_sides_take_the_same_paths(dtype):
    report = follow(dtype, 30)
    assert report.verdict is Verdict.AGREE, str(report)
    assert report.steps == 30
    assert all(row.distance > 0 for row in report.rows if row.path.endswith(".p"))


def faulty(name, rule):
    """An update with `rule(p, g, *buffers, t, rate)` in place of the right one; state and rate are right."""
    rate = manual.schedules.cosine_with_warmup(RATE, **SCHEDULE)
    right = all_optimizers(manual.optimizers, manual.schedules)[name]

    def update(parameters, gradients, state):
        _, (step, *buffers) = right.update(parameters, gradients, state)
        t = int(step)
        p = rule(parameters["p"], gradients["p"], *(buffer["p"] for buffer in buffers), t, rate(t - 1))
        return {"p": p}, type(state)(step, *buffers)

    return update


def uncorrected_adam(p, g, m, v, t, rate):
    return p - rate * m / (np.sqrt(v) + 1e-8)


def coupled_adamw(p, g, m, v, t, rate):
    """The decay inside the quotient."""
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return p - rate * (m_hat + 0.01 * p) / (np.sqrt(v_hat) + 1e-8)


def nesterov_that_does_not_look_ahead(p, g, velocity, t, rate):
    return p - rate * velocity


def rmsprop_with_epsilon_inside(p, g, s, t, rate):
    return p - rate * g / np.sqrt(s + 1e-8)


def adagrad_in_the_papers_order(p, g, s, t, rate):
    """No fault."""
    return p - rate * g / (np.sqrt(s) + 1e-10)


def test_planted_faults_are_found():
    faults = {
        "adam": uncorrected_adam,
        "adamw": coupled_adamw,
        "nesterov": nesterov_that_does_not_look_ahead,
        "rmsprop": rmsprop_with_epsilon_inside,
    }
    rules = faults | {"adagrad": adagrad_in_the_papers_order}
    report = follow(np.float64, 4, {name: faulty(name, rule) for name, rule in rules.items()})
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_step == 2  # the first update has rate 0
    wrong = {row.path for row in report.rows if row.verdict is Verdict.DISAGREE}
    assert wrong == {f"{name}.p" for name in faults}
    assert next(d.kind for d in report.diagnoses if d.path == "adam.p") == "bias-correction"


# of (momentum's, adagrad's, ...) buffer, or of its root: what is missing from it is so many times the decay
SHARES = {"momentum": 1, "nesterov": 1, "adagrad": 1, "rmsprop": 0.1, "adam": 0.1}


def judged_with(name, ours, theirs):
    """The judge on one optimizer whose options differ between the sides."""
    parameters = start()
    by_hand = manual.optimizers.OPTIMIZERS[name](RATE, **ours)
    by_jax = autodiff.optimizers.OPTIMIZERS[name](RATE, **theirs)
    return check_trajectory(
        lambda p, state, g: by_hand.update(p, g, state),
        jax.jit(lambda p, state, g: by_jax.update(p, g, state)),
        parameters,
        [(g,) for g in gradients_like(parameters, 3, np.float64)],
        state=by_hand.initialize(parameters),
        free=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_decay_is_named_at_once(name):
    """Also where it is divided before it reaches the parameter."""
    assert judged_with(name, {"weight_decay": 0.1}, {"weight_decay": 0.1}).verdict is Verdict.AGREE
    for ours, theirs, sign, words in ((0.0, 0.1, -1, "is missing from"), (0.1, 0.0, 1, "is added to")):
        report = judged_with(name, {"weight_decay": ours}, {"weight_decay": theirs})
        assert (report.verdict, report.wrong_step) == (Verdict.DISAGREE, 1)
        assert {d.kind for d in report.diagnoses} == {"weight-decay"}
        cause = next(d for d in report.diagnoses if d.path == "layers.0.weight")
        if name in SHARES:
            assert cause.factor == pytest.approx(sign * 0.1 * SHARES[name])
            assert words in cause.message
        else:  # the update rule adds it to the step, times the rate
            assert cause.factor == pytest.approx(-sign * 0.1 * RATE)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("momentum", "beta"),
        ("adagrad", "epsilon"),
        ("rmsprop", "decay"),
        ("adam", "beta1"),
        ("adam", "beta2"),
    ],
)
def test_another_constant_is_no_decay(name, option):
    both = {"weight_decay": 0.1}
    report = judged_with(name, both | {option: 0.5}, both)
    assert report.verdict is Verdict.DISAGREE
    assert "weight-decay" not in {d.kind for d in report.diagnoses if not str(d.path).startswith("state.")}


# ------------------------------------------------------------------ dtypes, purity, memory


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("side", SIDES)
def test_work_keeps_its_dtype_whatever_the_constants(side, dtype):
    wide = np.float64(0.01)
    parameters = {"p": np.linspace(-1, 1, 12).reshape(3, 4).astype(dtype)}
    optimizer = side.adamw(lambda count: wide, beta1=np.float64(0.9), epsilon=np.float64(1e-5), weight_decay=wide)
    optimizer = side.clipped(optimizer, 1.0)
    update = jax.jit(optimizer.update) if side is autodiff.optimizers and dtype != np.float64 else optimizer.update
    after = run(optimizer, parameters, gradients_like(parameters, 2, dtype), update)
    dtypes = {np.asarray(leaf).dtype for leaf in jax.tree.leaves(after)}
    assert dtypes == {np.dtype(dtype), np.dtype(np.int32)}
    assert np.isfinite(flat(after[0])).all()


def test_float32_stays_float32_where_jax_has_64_bits():
    with jax.enable_x64(True):
        rate = autodiff.schedules.cosine_with_warmup(RATE, **SCHEDULE)
        optimizer = autodiff.optimizers.clipped(autodiff.optimizers.adamw(rate), 1.0)
        parameters = {"p": jax.numpy.ones((3, 4), np.float32)}
        after = jax.jit(optimizer.update)(parameters, parameters, optimizer.initialize(parameters))
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {np.dtype(np.float32), np.dtype(np.int32)}


def big(seed=0, dtype: DTypeLike = np.float32):
    """Leaves of size 0, (), less and more than a block of 1000 bytes, not contiguous, read-only."""
    random = np.random.default_rng(seed)
    tree = {
        "scalar": np.asarray(random.standard_normal(), dtype),
        "empty": np.zeros((3, 0), dtype),
        "small": random.standard_normal(7).astype(dtype),
        "long": random.standard_normal(1003).astype(dtype),
        "transposed": random.standard_normal((31, 29)).astype(dtype).T,
        "strided": random.standard_normal((40, 3, 10)).astype(dtype)[::2, :, ::-1],
        "frozen": random.standard_normal((20, 20)).astype(dtype),
    }
    tree["frozen"].flags.writeable = False
    return tree


def cut_small(monkeypatch, threads):
    monkeypatch.setattr(manual._blocks, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(manual._threads, "PARALLEL", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))


def same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()


def twice(optimizer, **options):
    parameters, state = big(), optimizer.initialize(big())
    for seed in (1, 2):
        parameters, state = optimizer.update(parameters, big(seed), state, **options)
    return parameters, state


@pytest.mark.parametrize("name", NAMES)
def test_blocks_threads_and_donation_change_no_bit(name, monkeypatch):
    optimizer = manual.optimizers.clipped(manual.optimizers.OPTIMIZERS[name](RATE, weight_decay=0.1), 1e3)
    whole = twice(optimizer)
    for threads in (1, 3):
        cut_small(monkeypatch, threads)
        same_bits(twice(optimizer), whole)
        same_bits(twice(optimizer, donate=True), whole)


@pytest.mark.parametrize("name", NAMES)
def test_pure_unless_donated(name):
    optimizer = manual.optimizers.OPTIMIZERS[name](RATE, weight_decay=0.1)
    parameters, gradients = big(), big(1)
    _, state = optimizer.update(parameters, gradients, optimizer.initialize(parameters))
    before = jax.tree.map(np.copy, (parameters, gradients, state))
    after = optimizer.update(parameters, gradients, state)
    same_bits((parameters, gradients, state), before)
    for ours in jax.tree.leaves(after):
        assert not any(np.shares_memory(ours, theirs) for theirs in jax.tree.leaves((parameters, gradients, state)))

    donated, donated_state = optimizer.update(parameters, gradients, state, donate=True)
    same_bits((donated, donated_state), after)
    same_bits(gradients, before[1])
    same_bits(parameters["frozen"], before[0]["frozen"])  # read-only, so copied
    assert np.shares_memory(donated["long"], parameters["long"])
    assert all(map(np.shares_memory, *(flat_buffers(s, "long") for s in (donated_state, state))))


def flat_buffers(state, name):
    return [buffer[name] for buffer in state[1:]]


@pytest.mark.parametrize("side", SIDES)
def test_leaves_are_matched_by_path_and_not_by_position(side):
    """JAX sorts the keys of dicts; NumPy code has them as they were written."""
    optimizer = side.momentum(1.0)
    p, g = {"b": np.zeros(1), "a": np.zeros(2)}, {"a": np.ones(2), "b": np.full(1, 2.0)}
    state = optimizer.initialize(p)._replace(velocity={"a": np.full(2, 30.0), "b": np.full(1, 40.0)})
    p, state = optimizer.update(p, g, state)
    for tree, sign in ((p, -1), (state.velocity, 1)):
        np.testing.assert_array_equal(tree["a"], sign * np.full(2, 28.0))
        np.testing.assert_array_equal(tree["b"], sign * np.full(1, 38.0))


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_may_be_the_parameter_itself(name):
    """That of |p|^2 / 2 is, and donation then writes to what it reads."""
    optimizer = manual.optimizers.OPTIMIZERS[name](RATE, weight_decay=0.1)
    p = np.random.default_rng(0).standard_normal((20, 30))
    pure = optimizer.update(p, p, optimizer.initialize(p))
    same_bits(optimizer.update(p, p, optimizer.initialize(p), donate=True), pure)


def test_jax_can_donate_what_initialize_gives():
    """Two fields of the state in one buffer could not be."""
    for name in NAMES:
        optimizer = autodiff.optimizers.OPTIMIZERS[name](RATE)
        parameters = jax.tree.map(jax.numpy.array, {"p": np.ones(3, np.float32)})
        state = optimizer.initialize(parameters)
        jax.jit(optimizer.update, donate_argnums=(0, 2))(parameters, {"p": np.ones(3, np.float32)}, state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((parameters, state)))


def test_threads_heed_the_callers_error_state(monkeypatch):
    cut_small(monkeypatch, 3)
    p = np.full(10_000, 1e200)
    with np.errstate(over="ignore"):
        manual.optimizers.adam(RATE).update(p, p, manual.optimizers.adam(RATE).initialize(p))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        manual.optimizers.adam(RATE).update(p, p, manual.optimizers.adam(RATE).initialize(p))


# ------------------------------------------------------------------ norms and clipping

SIZES = st.one_of(st.just(0.0), st.floats(1e-300, 1e300), st.floats(-1e300, -1e-300))


@given(st.lists(st.lists(SIZES, max_size=5), min_size=1, max_size=3))
def test_the_norm_neither_overflows_nor_vanishes(lists):
    tree = [np.array(entries, np.float64) for entries in lists]
    expected = math.hypot(*(entry for entries in lists for entry in entries))
    assert float(manual.optimizers.global_norm(tree)) == pytest.approx(expected, rel=1e-14)


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


def test_clipping_returns_memory_of_its_own():
    tree = {"a": np.ones(3, np.float32)}
    assert not np.shares_memory(manual.optimizers.clip_by_global_norm(tree, 10.0)["a"], tree["a"])


@pytest.mark.parametrize("side", SIDES)
def test_a_clipped_optimizer_is_clipping_and_then_the_optimizer(side):
    optimizer = side.sgd(RATE)
    p = g = {"a": np.full((3, 4), 2.0, np.float32)}  # of norm sqrt(48)
    for maximum in (5.0, 10.0):
        came, _ = side.clipped(optimizer, maximum).update(p, g, optimizer.initialize(p))
        np.testing.assert_allclose(came["a"], 2 - RATE * 2 * min(1, maximum / 48**0.5), rtol=1e-6)


# ------------------------------------------------------------------ trees

LEAF = st.integers(0, 3).map(lambda size: np.arange(float(size)))
TREES = st.recursive(
    LEAF | st.none(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text("ab", max_size=2), children, max_size=3)
        | children.map(lambda child: manual.optimizers.MomentumState(np.zeros((), np.int32), child))
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(TREES)
def test_trees_are_taken_apart_and_put_together(tree):
    leaves = leaves_by_path(tree)
    assert len(leaves) == len(jax.tree.leaves(tree))
    again = rebuilt(tree, iter(leaves.values()))
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    for path, leaf in leaves.items():
        found = again
        for key in path:
            found = getattr(found, key) if hasattr(found, "_fields") else found[key]
        assert found is leaf


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("side", SIDES)
def test_bad_constants(side):
    with pytest.raises(ValueError, match=r"learning_rate must be a finite number and at least 0, got -0\.1"):
        side.sgd(-0.1)
    with pytest.raises(ValueError, match="weight_decay must be a finite number and at least 0, got inf"):
        side.momentum(0.1, weight_decay=math.inf)
    with pytest.raises(ValueError, match=r"beta2 must be at least 0 and below 1, got 1\.0; it is the part of the past"):
        side.adam(0.1, beta2=1.0)
    with pytest.raises(ValueError, match="epsilon must be a finite number and at least 0, got nan"):
        side.rmsprop(0.1, epsilon=math.nan)
    for bad in (0.0, math.nan):
        with pytest.raises(ValueError, match="maximum must be a positive number, got"):
            side.clipped(side.sgd(0.1), bad)
    with pytest.raises(ValueError, match="maximum must be a positive number, got"):
        side.clip_by_global_norm([np.ones(2)], -1.0)


@pytest.mark.parametrize("side", SIDES)
def test_bad_trees(side):
    optimizer = side.momentum(0.1)
    parameters = {"layers": [{"weight": np.ones((2, 3))}, {"bias": np.ones(3)}]}
    state = optimizer.initialize(parameters)

    def update_with(weight, bias):
        return optimizer.update(parameters, {"layers": [weight, bias]}, state)

    with pytest.raises(ValueError, match=r"parameters has a leaf layers\.1\.bias and gradients has none"):
        update_with({"weight": np.ones((2, 3))}, {})
    with pytest.raises(ValueError, match=r"gradients has a leaf layers\.1\.gain and parameters has none"):
        update_with({"weight": np.ones((2, 3))}, {"bias": np.ones(3), "gain": np.ones(3)})
    with pytest.raises(
        ValueError, match=r"layers\.0\.weight: parameters has float64 \(2, 3\) and gradients has float64 "
    ):
        update_with({"weight": np.ones((3, 2))}, {"bias": np.ones(3)})
    with pytest.raises(ValueError, match=r"gradients has float32 \(3,\); shapes and dtypes must be equal\. Cast or"):
        update_with({"weight": np.ones((2, 3))}, {"bias": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"layers\.0 is int64; leaves must be floating-point arrays"):
        optimizer.initialize({"layers": [np.arange(3)]} if side is manual.optimizers else jax_integers())
    with pytest.raises(ValueError, match="the state has 2 fields; this optimizer's has step, first_moment, second_m"):
        side.adam(0.1).update(parameters, parameters, state)


def jax_integers():
    with jax.enable_x64(True):
        return {"layers": [jax.numpy.arange(3)]}


@pytest.mark.parametrize("side", SIDES)
def test_an_epsilon_that_rounds_to_zero_is_refused(side):
    """In float16 it would leave 0 / 0 where no gradient has come yet."""
    with pytest.raises(ValueError, match=r"epsilon is 1e-08, which float16 \(a\) rounds to 0\. Give a larger one"):
        side.adam(0.1).initialize({"a": np.ones(2, np.float16)})
    side.adam(0.1, epsilon=0.0).initialize({"a": np.ones(2, np.float16)})
    side.adam(0.1, epsilon=1e-7).initialize({"a": np.ones(2, np.float16)})
