"""The independent opinions, held to derivatives that are known."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from compare import Verdict, check_gradients
from compare.judge.evaluation.finite_differences import (
    STEPS,
    along_entry,
    complex_step,
    derivative,
    hand_losses,
    random_direction,
    reference_losses,
    ridders,
    slope_along,
)
from compare.judge.evaluation.side_effects import Watched
from compare.judge.program.inputs import Inputs
from compare.judge.program.trace import traced
from compare.judge.roundoff.tolerance import unit_roundoff

UNIT = unit_roundoff(np.float64)
W = np.array([0.3, -1.1, 0.7, 2.0])
D = np.array([1.0, -1.0, 1.0, 1.0])
POINT = Inputs(W)


def cubic(w):
    return jnp.sum(w**3)


def by_hand(loss, inputs=POINT):
    """A hand-written loss along lines through the point, and its unit roundoff."""
    return hand_losses(Watched(lambda w: (loss(w), None)), inputs, inputs.dtype)


def opinion(gradient, losses=None, unit=UNIT):
    losses = losses or by_hand(lambda w: np.sum(w**3))[0]
    return derivative(losses, {"value": D}, {"value": gradient}, unit, float(np.sum(W**3)), UNIT)


# ---------------------------------------------------------------------------------------- Ridders


@pytest.mark.parametrize(
    ("function", "right"),
    [
        (np.sin, 1.0),
        (np.exp, 1.0),
        (lambda h: np.tanh(h + 0.5), 1 - np.tanh(0.5) ** 2),
        (lambda h: 1 / (1 - h), 1.0),
        (lambda h: h**7 - 3 * h, -3.0),
        (np.cos, 0.0),
    ],
)
def test_ridders_knows_the_derivative_and_how_well(function, right):
    steps = 2.0**-5 * 2.0 ** -np.arange(STEPS)
    slope, error = ridders(np.stack([function(steps), function(-steps)]), steps)
    assert slope == pytest.approx(right, abs=1e-11)
    assert abs(slope - right) <= 10 * error + 1e-14
    assert error < 1e-10


def test_ridders_does_not_trust_what_is_not_finite():
    steps = 2.0**-5 * 2.0 ** -np.arange(STEPS)
    _, error = ridders(np.full((2, STEPS), np.inf), steps)
    assert error == np.inf


# ------------------------------------------------------------------------- a gradient and its loss


def test_a_right_gradient_fits_and_one_that_is_off_by_a_millionth_does_not():
    right = 3 * W**2
    assert opinion(right).consistent
    for wrong in (right * (1 + 1e-6), -right, right + np.array([0, 0, 1e-5, 0]), 0 * right, np.full(4, np.nan)):
        assert not opinion(wrong).consistent


def test_the_taylor_remainder_falls_with_the_square_of_the_step_only_for_the_right_gradient():
    assert opinion(3 * W**2).taylor_slope == pytest.approx(2, abs=0.05)
    assert opinion(-3 * W**2).taylor_slope == pytest.approx(1, abs=0.05)


def test_the_probability_of_a_miss_is_stated_and_small():
    assert 0 < (opinion(3 * W**2).miss or 0) < 1e-6
    assert opinion(0 * W).miss is None  # a gradient of zero has no size to compare with


def test_a_coarse_loss_makes_a_coarse_opinion():
    """A loss known to seven digits cannot refute an error of a millionth."""
    losses, unit = by_hand(lambda w: np.float32(np.sum(w**3))), unit_roundoff(np.float32)
    assert opinion(3 * W**2, losses[0], unit).consistent
    assert opinion(3 * W**2 * (1 + 1e-6), losses[0], unit).consistent
    assert not opinion(6 * W**2, losses[0], unit).consistent


@pytest.mark.parametrize("works_in_float64", [True, False])
def test_a_float32_loss_is_evaluated_in_float64_if_it_works_there(works_in_float64):
    def loss(w, x):
        if not works_in_float64 and w.dtype != np.float32:
            raise TypeError("float32 only")
        asked.append((w.dtype, x.dtype))
        return np.sum(w**3) + 0 * x, None

    asked = []
    narrow = Inputs(W.astype(np.float32), (np.array(1, np.float32),))
    losses, unit = hand_losses(Watched(loss), narrow, narrow.dtype)
    dtype = np.dtype(np.float64 if works_in_float64 else np.float32)
    assert unit == unit_roundoff(dtype)
    np.testing.assert_allclose(losses({"value": D}, np.array([0.0])), np.sum(W**3), rtol=1e-6)
    assert set(asked) == {(dtype, dtype)}


def test_the_losses_of_both_sides_are_the_same_function():
    steps = np.array([0.1, -0.1, 0.01])
    with jax.enable_x64(True):
        by_jax = reference_losses(traced(cubic, W), POINT)({"value": D}, steps)
    losses, _ = by_hand(lambda w: np.sum(w**3))
    np.testing.assert_allclose(by_jax, losses({"value": D}, steps), rtol=1e-14)


# ------------------------------------------------------------------------------------- directions


PARAMETERS = {"a": np.array([[1.0, -3.0], [0.5, 2.0]]), "b": np.zeros(3), "n": np.arange(2)}


def test_a_random_direction_has_the_size_of_each_leaf_and_spares_what_is_not_asked_for():
    direction = random_direction(PARAMETERS, seed=3)
    assert len(set(np.abs(direction["a"]).ravel())) == 1
    assert np.abs(direction["a"][0, 0]) == pytest.approx(np.sqrt(np.mean(PARAMETERS["a"] ** 2)))
    assert (np.abs(direction["b"]) == 1e-3).all()  # also zeros can be moved
    assert not direction["n"].any()
    only = random_direction(PARAMETERS, seed=3, only={"b"})
    assert not only["a"].any()
    assert only["b"].all()


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_narrow_leaves_are_moved_as_well(dtype):
    leaf = np.array([1.0, -2.0, 0.5]).astype(dtype)
    size = np.sqrt(np.mean(np.square(leaf.astype(np.float64))))
    np.testing.assert_allclose(np.abs(random_direction({"w": leaf}, seed=3)["w"]), size)
    assert along_entry({"w": leaf}, "w", (1,))["w"].tolist() == pytest.approx([0, size, 0])


def test_directions_are_fresh_for_every_leaf_and_seed_and_can_be_had_again():
    twins = {"a": np.ones(64), "b": np.ones(64)}
    first, again, other = (random_direction(twins, seed) for seed in (0, 0, 1))
    assert (first["a"] != first["b"]).any()
    assert (first["a"] != other["a"]).any()
    np.testing.assert_array_equal(first["a"], again["a"])


def test_the_direction_of_one_entry():
    direction = along_entry(PARAMETERS, "a", (1, 0))
    assert np.argwhere(direction["a"]).tolist() == [[1, 0]]
    assert not direction["b"].any()
    gradient = jax.tree.map(lambda leaf: np.full(leaf.shape, 2.0), PARAMETERS)
    assert slope_along(gradient, direction) == 2 * direction["a"][1, 0]


# ----------------------------------------------------------------------------------- complex steps


def log_sigmoid_network(w, x):
    return -jnp.sum(jax.nn.log_sigmoid(w @ jnp.tanh(x * w[0]) + jnp.log1p(jnp.exp(w[1]))))


def relu_network(w, x):
    return jnp.sum(jnp.maximum(w * x, 0) + jnp.abs(w) + jnp.where(w > 0, w**2, w))


def slope(gradient):
    return slope_along(gradient, {"value": D})


def stepped(loss, *args):
    with jax.enable_x64(True):
        return complex_step(traced(loss, W, *args), Inputs(W, args), {"value": D})


def counting_network(w, x):
    """Decisions look at the real part, and counts stay what they are."""
    index = jnp.argmax(x) + jnp.sum(jnp.arange(4) > 2) - jnp.floor(w[3]).astype(int)
    return w[index] ** 3 + jnp.sum(jnp.where(jnp.round(w) > 0, jnp.clip(w, -1, 1) * x, jnp.minimum(w, x)))


@pytest.mark.sweep
@pytest.mark.parametrize("loss", [cubic, log_sigmoid_network, relu_network, counting_network])
def test_complex_steps_are_exact_to_rounding(loss):
    args = () if loss is cubic else (np.array([0.4, -0.2, 1.5, 0.9]),)
    with jax.enable_x64(True):
        right = slope({"value": jax.grad(loss)(W, *args)})
    assert stepped(loss, *args) == pytest.approx(right, rel=1e-14)


@pytest.mark.parametrize(
    "loss",
    [
        lambda w: jnp.sum(jnp.linalg.norm(w[:, None] @ w[None, :], ord=2)),
        lambda w: jnp.sum(jnp.sort(w)[:2]),
        lambda w: jax.lax.fori_loop(0, 3, lambda i, s: s + jnp.sum(w), 0.0),
        lambda w: jnp.sum(jnp.abs(jnp.exp(1j * w)) * w),
        lambda w: jnp.sum(jax.random.gamma(jax.random.key(0), 2 + w**2)),
    ],
    ids=["svd", "sort", "loop", "complex numbers of its own", "an operation that nobody knows"],
)
def test_complex_steps_say_nothing_of_what_they_cannot_continue(loss):
    assert stepped(loss) is None


def test_complex_steps_see_a_fault_that_differences_cannot():
    right = 3 * W**2
    exact = stepped(cubic)
    assert exact is not None
    assert abs(slope({"value": right}) - exact) < 1e-14
    assert abs(slope({"value": right * (1 + 1e-12)}) - exact) > 1e-12
    assert opinion(right * (1 + 1e-12)).consistent


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize("c", [3.0, np.float32(3), np.ones(1)])
def test_narrow_parameters_beside_a_wider_argument_change_smoothly(dtype, c):
    """Rounded at every step, the loss would be a staircase, and its differences would contradict the gradient."""
    w = np.random.default_rng(0).normal(size=8).astype(dtype)

    def by_hand(p, c, factor=1.0):
        wide = p.astype(np.float32)
        return np.float32(np.sum(c * np.sin(wide))), (factor * c * np.cos(wide)).astype(p.dtype)

    def loss(p, c):
        return jnp.sum(c * jnp.sin(p.astype(jnp.float32)))

    assert check_gradients(by_hand, loss, w, c).verdict is Verdict.AGREE
    wrong = check_gradients(functools.partial(by_hand, factor=-1.0), loss, w, c)
    assert (wrong.verdict, wrong.wrong_side) == (Verdict.DISAGREE, "manual")


@pytest.mark.parametrize("c", [2, 2.0])
def test_a_number_as_argument_beside_a_kernel_of_float32(c):
    def by_hand(p, c):
        assert p.dtype == np.float32
        return np.float32(np.sum(p**2)) * np.float32(c), np.float32(2.2) * p * np.float32(c)

    report = check_gradients(by_hand, lambda p, c: jnp.sum(p**2) * c, np.linspace(1, 2, 9, dtype=np.float32), c)
    assert (report.verdict, report.wrong_side) == (Verdict.DISAGREE, "manual")
