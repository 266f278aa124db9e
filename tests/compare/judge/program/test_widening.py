"""A float32 program in float64 is the same program: its draws, loops, casts and derivative rules are its own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import autodiff
import manual
from compare import Verdict, check_gradients
from compare.judge.program.interpreter import widened
from compare.judge.program.widening import Program, as_it_is_now
from compare.judge.roundoff.tolerance import measure

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((20, 5)).astype(np.float32)
W = RANDOM.standard_normal(5).astype(np.float32)


def dropped(w, x, key):
    return jnp.mean(((x * jax.random.bernoulli(jax.random.PRNGKey(key), 0.3, x.shape)) @ w) ** 2)


def normal(w, x, key):
    return jnp.sum(w * jax.random.normal(jax.random.key(key), w.shape, jnp.float32))


def looping(w, x, key):
    total, _ = lax.scan(lambda h, row: (h + row @ w, None), jnp.zeros((), jnp.float32), x)
    counted = lax.fori_loop(0, key, lambda i, h: h * jnp.float32(0.5) + i, total)
    return lax.cond(total > 0, lambda h: h**2, lambda h: jnp.float32(3) * h, counted) + lax.while_loop(
        lambda h: h < 100, lambda h: 2 * h, jnp.float32(1)
    )


def cast(w, x, key):
    return jnp.mean(lax.reduce_precision((x @ w).astype(jnp.float32), 8, 23) ** 2).astype("float32")


def solved(w, x, key):
    return jnp.sum(jnp.linalg.solve(x[:5], w)) + jnp.fft.rfft(w).real.sum() + jnp.linalg.slogdet(x[:5])[1]


@jax.custom_jvp
def tripled(x):
    return x


tripled.defjvp(lambda primals, tangents: (tripled(primals[0]), 3 * tangents[0].astype(jnp.float32)))


@jax.custom_vjp
def sevenfold(x, n):
    return x * n


sevenfold.defvjp(lambda x, n: (x * n, n), lambda n, g: (jnp.float32(7) * g, None))


def ruled(w, x, key):
    return jnp.sum(sevenfold(tripled(jax.nn.softplus(w)), key) + jax.nn.relu(w))


@pytest.mark.parametrize("loss", [dropped, normal, looping, cast, solved, ruled])
def test_in_float64_it_does_the_same_and_rounds_less(loss):
    program = as_it_is_now(loss, W, X, 3)
    narrow = jax.value_and_grad(loss)(W, X, 3) if loss is not looping else (loss(W, X, 3), W)
    with jax.enable_x64(True):
        args = widened((W, X))
        wide = jax.value_and_grad(program)(*args, 3) if loss is not looping else (program(*args, 3), args[0])
    for ours, right in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(wide[0], narrow[0])


def test_derivative_rules_are_those_of_their_author():
    program = as_it_is_now(ruled, W, X, 3)
    with jax.enable_x64(True):
        gradient = jax.grad(program)(*widened((W, X)), 3)
    np.testing.assert_allclose(gradient, 21 / (1 + np.exp(-widened(W))) + (W > 0), rtol=1e-12)


def test_what_is_narrower_than_the_arguments_stays_narrow():
    def rounded(w):
        return jnp.sum(w.astype(jnp.bfloat16).astype(jnp.float32))

    with jax.enable_x64(True):
        assert as_it_is_now(rounded, W)(widened(W)) == pytest.approx(float(np.sum(W.astype(jnp.bfloat16), dtype="d")))
    narrow = W.astype(jnp.bfloat16)
    with jax.enable_x64(True):  # and what is as fine as they are does not
        assert as_it_is_now(rounded, narrow)(widened(W)) == pytest.approx(float(np.sum(W, dtype="d")), rel=1e-12)


def test_with_arguments_of_its_own_dtypes_it_is_the_function():
    program = Program(dropped, W, X, 7)
    assert program(W, X, 7) == dropped(W, X, 7)
    assert program(W, X, 7).dtype == np.float32


def test_other_shapes_are_traced_as_the_first_were():
    program, narrow = Program(dropped, W, X, 7), float(dropped(W, X[:4], 7))
    with jax.enable_x64(True):
        assert program(*widened((W, X[:4])), 7) == pytest.approx(narrow, rel=1e-5)
        wide_w, wide_x = widened((W, X[:4]))
        assert dropped(wide_w, wide_x, 7) != pytest.approx(narrow, rel=1e-1)  # which draws other numbers


def test_a_function_that_reads_another_global_is_another_program():
    factor = [2.0]

    def loss(w):
        return factor[0] * jnp.sum(w)

    first = as_it_is_now(loss, W)
    assert as_it_is_now(loss, W) is first
    factor[0] = 3.0
    assert as_it_is_now(loss, W) is not first


def by_hand_dropped(w, x, key, keep=0.3, at=None):
    mask = np.asarray(jax.random.bernoulli(jax.random.PRNGKey(key if at is None else at), keep, x.shape))
    dropped_x = x * mask
    z = dropped_x @ w
    return np.mean(z**2), 2 * dropped_x.T @ z / np.float32(len(x))


def by_hand_looping(w, x, factor=2.0):
    total = np.float32(0)
    for row in x:
        total = total + row @ w
    return total * total, np.float32(factor) * total * x.sum(axis=0)


def loop(w, x):
    total, _ = lax.scan(lambda h, row: (h + row @ w, None), jnp.zeros((), jnp.float32), x)
    return total * total


def by_hand_cast(w, x, factor=2.0):
    z = x @ w
    return np.mean(z**2), np.float32(factor) * x.T @ z / np.float32(len(x))


@pytest.mark.parametrize(
    ("right", "wrong", "loss", "args"),
    [
        (by_hand_dropped, lambda *a: by_hand_dropped(*a, at=8), dropped, (X, 7)),
        (by_hand_looping, lambda *a: by_hand_looping(*a, factor=2.001), loop, (X,)),
        (by_hand_cast, lambda *a: by_hand_cast(*a, factor=2.001), lambda w, x: cast(w, x, 0), (X,)),
    ],
    ids=["dropout", "scan", "cast"],
)
def test_float32_losses_that_name_their_dtype_are_judged(right, wrong, loss, args):
    assert check_gradients(right, loss, W, *args).verdict is Verdict.AGREE
    assert check_gradients(wrong, loss, W, *args).verdict is Verdict.DISAGREE


def test_noise_reaches_what_a_derivative_rule_hides():
    """slogdet has one, and its value is as good as the LU factors of a matrix of condition 1e10 are."""
    hilbert = 1 / (np.arange(8)[:, None] + np.arange(8) + 1.0)
    _, allowed = measure(lambda a: jnp.linalg.slogdet(a)[1], hilbert, dtype=np.float64, gradient=True)
    assert 1e-7 < allowed[0] < 1e-2


def test_a_float32_program_with_arrays_of_its_own_is_widened_inside_another_trace():
    """Where a constant is made float64 while JAX traces something else, it must not stay behind there."""
    table = np.arange(5, dtype=np.float32)
    program = Program(lambda w: jnp.sum(w * jnp.asarray(table) + jnp.where(w > 0, w, 0.0)), W)
    with jax.enable_x64(True):
        first = jax.jit(program)(widened(W))
        assert jax.jit(jax.grad(program))(widened(W)).dtype == first.dtype == np.float64


def test_constants_are_what_float32_makes_of_them_and_so_do_not_contradict_the_gradient():
    """0.9 and 0.1 add up to 1 only to float32's rounding, and the largest logit that is taken out comes back so far."""
    targets = np.array([0, 1, 2, 3, 4])
    logits = RANDOM.standard_normal((5, 5)).astype(np.float32)

    def by_hand(z, targets):
        loss, cache = manual.losses.cross_entropy(z, targets, label_smoothing=0.1)
        return loss, manual.losses.cross_entropy_backward(np.float32(1), cache)

    report = check_gradients(by_hand, partial(autodiff.losses.cross_entropy, label_smoothing=0.1), logits, targets)
    assert report.verdict is Verdict.AGREE


@pytest.mark.parametrize("kinds", [("float64", "float32"), ("float32", "bfloat16"), ("float32", "float16")])
@pytest.mark.parametrize("wrong", [False, True])
def test_work_that_is_narrow_on_both_sides_is_held_to_its_own_rounding(kinds, wrong):
    """Data that both sides scale in their own, narrower dtype; a fault of a tenth is seen all the same."""
    wide, narrow = map(jnp.dtype, kinds)
    random = np.random.default_rng(0)
    w, x = random.standard_normal(6).astype(wide), random.standard_normal((9, 6)).astype(narrow)

    def by_hand(w, x):
        z = (x / narrow.type(3)).astype(wide)
        r = z @ w
        return np.sum(r * r) / 2, z.T @ r * wide.type(1.1 if wrong else 1)

    def by_jax(w, x):
        return jnp.sum(((x / 3).astype(w.dtype) @ w) ** 2) / 2

    report = check_gradients(by_hand, by_jax, w, x)
    assert report.verdict is (Verdict.DISAGREE if wrong else Verdict.AGREE), str(report)
