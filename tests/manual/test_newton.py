"""Newton's method in a trust region: its inner search on parabolas, its steps on real data, both sides."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff
import autodiff.newton
import manual
import manual.newton
from compare.suite.datasets import load
from tests.helpers import on_device

SIDES = [(manual.newton, np.asarray), (autodiff.newton, on_device)]
IDS = ["manual", "autodiff"]


def parabola(seed, n, *, lowest):
    """g, and H with eigenvalues between `lowest` and 2."""
    random = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(random.standard_normal((n, n)))
    values = np.linspace(lowest, 2, n)
    return random.standard_normal(n), (basis * values) @ basis.T


def value(g, H, p):
    return g @ p + p @ H @ p / 2


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 8),
    lowest=st.floats(-2, 1).map(lambda value: round(value, 9)),  # the length below must not overflow
    radius=st.floats(1e-3, 1e3),
)
def test_the_search_stays_in_its_region_and_is_no_worse_than_steepest_descent(seed, n, lowest, radius):
    g, H = parabola(seed, n, lowest=lowest)
    p, products = manual.newton.conjugate_gradients(g, lambda v: H @ v, radius)
    assert np.linalg.norm(p) <= radius * (1 + 1e-9)
    assert products <= n
    curvature = g @ H @ g
    longest = radius / np.linalg.norm(g)
    length = min(g @ g / curvature, longest) if curvature > 0 else longest
    cauchy = value(g, H, -length * g)  # the best along -g
    assert value(g, H, p) <= cauchy + 1e-9 * abs(cauchy)


@pytest.mark.parametrize(("newton", "asarray"), SIDES, ids=IDS)
def test_within_the_region_it_solves_the_equation_as_far_as_it_is_asked_to(newton, asarray):
    g, H = parabola(1, 6, lowest=0.5)
    g = 1e-12 * g  # near a minimum, it is asked for much
    p, _ = newton.conjugate_gradients(asarray(g), lambda v: asarray(H) @ v, 1.0)
    np.testing.assert_allclose(p, np.linalg.solve(H, -g), rtol=1e-5)


@pytest.mark.parametrize(("newton", "asarray"), SIDES, ids=IDS)
@pytest.mark.parametrize("curvature", [-1.0, 0.0])
def test_a_direction_that_falls_for_ever_is_followed_to_the_border(newton, asarray, curvature):
    g = np.array([3.0, -4.0])
    p, products = newton.conjugate_gradients(asarray(g), lambda v: curvature * v, 2.0)
    np.testing.assert_allclose(p, -2 * g / 5, rtol=1e-12)
    assert products == 1


@pytest.mark.parametrize(("newton", "asarray"), SIDES, ids=IDS)
def test_where_the_gradient_is_0_it_stays(newton, asarray):
    p, products = newton.conjugate_gradients(asarray(np.zeros(3)), lambda v: v, 1.0)
    assert not np.any(p)
    assert products == 0


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    lowest=st.sampled_from([-1.5, -0.3, 0.3, 1.0]),
    radius=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_both_searches_take_the_same_path(seed, lowest, radius):
    g, H = parabola(seed, 4, lowest=lowest)
    ours, our_products = manual.newton.conjugate_gradients(g, lambda v: H @ v, radius)
    theirs, their_products = autodiff.newton.conjugate_gradients(on_device(g), lambda v: H @ v, radius)
    assert our_products == their_products
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def test_the_border_is_met_from_any_place_within():
    p, d = np.array([0.6, 0.0]), np.array([1e-9, 0.0])
    for sign in (1, -1):
        tau = manual.newton._to_the_border(p, sign * d, 1.0)
        assert tau > 0
        assert np.linalg.norm(p + tau * sign * d) == pytest.approx(1, rel=1e-12)


# ----------------------------------------------------------------------------------------- on real data


def trained(side, steps):
    """On the breast cancer data; the losses before each step, and after the last, and the products taken."""
    problem = load("breast-cancer")
    x, y = problem.train_x, problem.train_y
    parameters, radius, losses, products = side.initialize_parameters(x.shape[0], 8, 1), 1.0, [], 0
    losses.append(float(side.loss_and_gradients(parameters, x, y)[0]))
    for _ in range(steps):
        step = side.newton.newton_step(
            side.loss_and_gradients, side.hessian_vector_product, parameters, (x, y), radius=radius
        )
        parameters, radius, loss, taken = step
        losses.append(float(loss))
        products += taken
    return parameters, np.array(losses), products


def test_it_falls_faster_by_step_than_gradient_descent():
    """From the first step on at the rates that these data are trained with here, and in the end at any."""
    steps = 15
    _, losses, _ = trained(manual, steps)
    problem = load("breast-cancer")
    x, y = problem.train_x, problem.train_y
    start = manual.initialize_parameters(x.shape[0], 8, 1)
    assert np.all(np.diff(losses) <= 0)
    for rate in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0):
        _, of_descent = manual.train(start, x, y, iterations=steps + 1, learning_rate=rate)
        assert losses[-1] < of_descent[-1]
        assert rate > 0.3 or np.all(losses[1:] < of_descent[1:])


@pytest.mark.campaign
def test_both_sides_take_the_same_steps():
    ours, our_losses, our_products = trained(manual, 6)
    theirs, their_losses, their_products = trained(autodiff, 6)
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-10)
    assert our_products == their_products
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-8, atol=1e-10)
        assert value.dtype == np.asarray(theirs[name]).dtype == np.float64


# ------------------------------------------------------------------------------------------- the region


def quartic(side):
    """J = sum of w^4 - w^2, whose Hessian is negative around 0."""
    array = np if side is manual else jnp

    def loss_and_gradients(p):
        w = p["w"]
        return array.sum(w**4 - w**2), {"w": 4 * w**3 - 2 * w}

    return loss_and_gradients, lambda p, v: {"w": (12 * p["w"] ** 2 - 2) * v["w"]}


@pytest.mark.parametrize("side", [manual, autodiff], ids=IDS)
def test_the_region_grows_where_the_parabola_is_right_and_shrinks_where_it_is_not(side):
    functions, start = quartic(side), {"w": np.array([[0.1], [-0.05]])}
    right = side.newton.newton_step(*functions, start, (), radius=0.1)
    assert right.radius == 0.2
    assert not np.allclose(right.parameters["w"], start["w"])
    wrong = side.newton.newton_step(*functions, start, (), radius=10.0)
    assert wrong.radius == 2.5
    np.testing.assert_array_equal(wrong.parameters["w"], start["w"])
    assert float(wrong.loss) == pytest.approx(float(functions[0](start)[0]))
    capped = side.newton.newton_step(*functions, start, (), radius=0.1, largest_radius=0.15)
    assert capped.radius == 0.15


@pytest.mark.parametrize("side", [manual, autodiff], ids=IDS)
def test_a_loss_that_is_nan_there_is_not_stepped_to(side):
    loss_and_gradients, product = quartic(side)

    def broken(p):
        loss, gradients = loss_and_gradients(p)
        return (loss if np.abs(np.asarray(p["w"])).max() < 0.2 else loss * np.nan), gradients

    start = {"w": np.array([0.1])}
    step = side.newton.newton_step(broken, product, start, (), radius=1.0)
    assert step.radius == 0.25
    np.testing.assert_array_equal(step.parameters["w"], start["w"])


@pytest.mark.parametrize("side", [manual, autodiff], ids=IDS)
@pytest.mark.parametrize(("radius", "largest"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_an_impossible_radius_is_refused(side, radius, largest):
    functions = quartic(side)
    message = f"radius must be positive and at most largest_radius, got {radius} and {largest}"
    with pytest.raises(ValueError, match=message):
        side.newton.newton_step(*functions, {"w": np.ones(2)}, (), radius=radius, largest_radius=largest)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("side", [manual, autodiff], ids=IDS)
def test_a_step_keeps_the_dtype_and_its_arguments(side, dtype):
    start = {"w": np.array([[0.1, 0.3]], dtype)}
    start["w"].setflags(write=False)
    step = side.newton.newton_step(*quartic(side), start, (), radius=0.1)
    assert np.asarray(step.parameters["w"]).dtype == dtype
    assert step.parameters["w"].shape == (1, 2)
