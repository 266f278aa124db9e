"""The notebook's network: both sides against each other, against finite differences and complex steps."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import autodiff
import autodiff.shallow
import compare
import manual
import manual.fast
from compare.suite.shallow import shallow_loss
from tests.helpers import network, on_device

NAMES = ("W1", "b1", "W2", "b2")


def complex_step_gradient(parameters, x, y):
    """dJ/dQ = Im J(Q + ih) / h, exact to rounding: a third opinion that shares no code with either side."""

    def loss(p):
        z2 = p["W2"] @ np.tanh(p["W1"] @ x + p["b1"]) + p["b2"]
        a2 = 1 / (1 + np.exp(-z2))
        return np.sum(-y * np.log(a2) - (1 - y) * np.log(1 - a2)) / x.shape[1]

    gradients = {name: np.empty_like(value) for name, value in parameters.items()}
    for name, value in parameters.items():
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            gradients[name][index] = loss(parameters | {name: moved}).imag / 1e-30
    return gradients


sizes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 7))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=sizes)
def test_hand_derived_gradients_equal_complex_steps(seed, sizes):
    parameters, x, y = network(seed, *sizes)
    _, gradients = manual.loss_and_gradients(parameters, x, y)
    for name, expected in complex_step_gradient(parameters, x, y).items():
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-11, atol=1e-14)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sizes", [(3, 4, 2, 6), (4, 4, 4, 4), (1, 1, 1, 1), (30, 16, 1, 101)])
def test_both_sides_agree(sizes, dtype):
    parameters, x, y = network(0, *sizes, dtype=dtype)
    compare.assert_gradients_agree(manual.loss_and_gradients, shallow_loss, parameters, x, y)
    reference = autodiff.loss_and_gradients(jax.tree.map(on_device, parameters), x, y)
    ours = manual.loss_and_gradients(parameters, x, y)
    rtol = 1e-12 if dtype == np.float64 else 1e-4
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=rtol * 1e-2), ours, reference)


def test_intermediates_are_the_gradients_of_the_intermediates():
    parameters, x, y = network(1, 3, 4, 2, 6)
    _, cache = manual.forward_propagation(x, parameters)
    steps: dict[str, np.ndarray] = {}
    manual.backpropagation(parameters, cache, x, y, intermediates=steps)
    with jax.enable_x64(True):
        d_a1 = jax.grad(lambda a: autodiff.compute_loss(parameters["W2"] @ a + parameters["b2"], y))(cache.A1)
        d_z2 = jax.grad(lambda z: autodiff.compute_loss(z, y))(cache.Z2)
    np.testing.assert_allclose(steps["Z2"], d_z2, rtol=1e-13)
    np.testing.assert_allclose(steps["A1"], d_a1, rtol=1e-12)
    np.testing.assert_allclose(steps["Z1"], np.asarray(d_a1) / np.cosh(cache.Z1) ** 2, rtol=1e-12)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_everything_stays_in_its_dtype_and_on_both_sides(dtype):
    parameters, x, y = network(2, 3, 4, 2, 6, dtype=dtype)
    for side in (manual, autodiff):
        held = parameters if side is manual else jax.tree.map(on_device, parameters)
        loss, gradients = side.loss_and_gradients(held, x, y)
        trained, losses = side.train(held, x, y, iterations=3, learning_rate=np.float64(0.1))  # type: ignore[arg-type]  # a NumPy scalar must not promote
        prediction, cache = side.forward_propagation(x, held)
        everything = [loss, losses, prediction, *cache, *gradients.values(), *trained.values()]
        assert {np.asarray(array).dtype for array in everything} == {np.dtype(dtype)}
        assert side.predict(x, held).dtype == np.int32


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("side", [manual, autodiff])
def test_saturation_is_finite_and_silent(side, dtype):
    parameters, x, y = network(3, 5, 6, 3, 40, scale=1000, dtype=dtype)
    held = parameters if side is manual else jax.tree.map(on_device, parameters)
    with np.errstate(all="raise", under="ignore"):
        loss, gradients = side.loss_and_gradients(held, x, y)
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())


@given(
    z=hnp.arrays(np.float64, (2, 3), elements=st.floats(allow_nan=False, allow_infinity=False)),
    y=hnp.arrays(np.float64, (2, 3), elements=st.sampled_from([0.0, 1.0])),
)
def test_loss_is_finite_for_finite_logits_and_never_negative(z, y):
    with np.errstate(over="ignore"):  # two outputs near the largest float do sum to infinity
        loss = manual.compute_loss(z / 4, y)
    assert np.isfinite(loss)
    assert loss >= 0


@given(hnp.arrays(np.float64, 5, elements=st.floats(-700, 700)))
def test_sigmoid_is_a_probability_and_symmetric(z):
    a = manual.sigmoid(z)
    assert ((a > 0) & (a <= 1)).all()
    np.testing.assert_allclose(a + manual.sigmoid(-z), 1, rtol=0, atol=2.3e-16)
    np.testing.assert_allclose(a, 1 / (1 + np.exp(-z)), rtol=1e-15)


def test_loss_keeps_the_tail_that_cancels():
    # log(1 + e^-40) is 4e-18; the plain formula finds log(1 - A2) = -inf or 0 here
    assert manual.compute_loss(np.array([[40.0]]), np.array([[1.0]])) == pytest.approx(np.exp(-40), rel=1e-12)
    assert manual.compute_loss(np.array([[-40.0]]), np.array([[0.0]])) == pytest.approx(np.exp(-40), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_same_seed_is_the_same_network(dtype):
    ours = manual.initialize_parameters(3, 4, 2, seed=7, scale=0.3, dtype=dtype)
    theirs = autodiff.initialize_parameters(3, 4, 2, seed=7, scale=0.3, dtype=dtype)
    assert ours.keys() == theirs.keys()
    for name in NAMES:
        assert ours[name].tobytes() == np.asarray(theirs[name]).tobytes()
        assert ours[name].dtype == dtype
    assert not np.array_equal(ours["W1"], manual.initialize_parameters(3, 4, 2, seed=8, scale=0.3)["W1"])
    assert not ours["b1"].any()


def test_inputs_are_never_modified():
    parameters, x, y = network(4, 3, 4, 2, 6)
    for array in (*parameters.values(), x, y):
        array.setflags(write=False)  # writing to one now raises
    before = {name: value.copy() for name, value in parameters.items()}
    held = jax.tree.map(on_device, parameters)
    manual.train(parameters, x, y, iterations=3, learning_rate=1.0)
    autodiff.train(held, x, y, iterations=3, learning_rate=1.0)  # donates buffers, but not the caller's
    for name in NAMES:
        assert np.array_equal(before[name], parameters[name])
        assert np.array_equal(before[name], held[name])


@pytest.mark.sweep
@pytest.mark.parametrize("label", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("logit", [-800.0, -40.0, -1e-3, -0.0, 0.0, 1e-3, 40.0, 800.0])
def test_the_loss_of_jax_has_the_right_derivative_everywhere(logit, label):
    """At 0, where a branch is chosen, and far out, where sigmoid(z) - y cancels."""
    with jax.enable_x64(True):
        derivative = jax.grad(autodiff.compute_loss)(np.full((1, 1), logit), np.full((1, 1), label)).item()
    tail = np.exp(-abs(logit)) / (1 + np.exp(-abs(logit)))
    expected = (1 - label) - tail if logit > 0 else tail - label
    if label == (logit > 0):  # the right label: what is left is the tail itself
        expected = -tail if logit > 0 else tail
    assert derivative == pytest.approx(expected, rel=1e-14, abs=0)


@pytest.mark.sweep
@pytest.mark.parametrize("iterations", [1, 1024, 1025, 2500])
def test_autodiff_trains_for_any_number_of_iterations(iterations):
    parameters, x, y = network(6, 2, 3, 1, 10)
    ours, our_losses = manual.train(parameters, x, y, iterations=iterations, learning_rate=0.1)
    held = jax.tree.map(on_device, parameters)
    theirs, their_losses = autodiff.train(held, x, y, iterations=iterations, learning_rate=0.1)
    assert their_losses.shape == (iterations,)
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-11)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-12)


def test_one_compilation_serves_every_number_of_iterations(monkeypatch):
    traced = []
    loss = autodiff.shallow._loss
    monkeypatch.setattr("autodiff.shallow._loss", lambda *args: (traced.append(1), loss(*args))[1])
    parameters, x, y = network(6, 2, 5, 1, 11)
    held = jax.tree.map(on_device, parameters)
    autodiff.train(held, x, y, iterations=1, learning_rate=0.1)
    once = len(traced)
    assert once > 0
    for iterations in (2, 50, 1030):
        autodiff.train(held, x, y, iterations=iterations, learning_rate=0.2)
    assert len(traced) == once


@pytest.mark.parametrize("side", [manual, autodiff])
def test_neural_net_learns_the_moons(side):
    from sklearn.datasets import make_moons

    x, labels = make_moons(n_samples=200, noise=0.1, random_state=0)
    x, y = np.asarray(x).T, np.asarray(labels).reshape(1, -1)  # integer labels, as they come
    parameters, losses = side.neural_net(x, y, 8, iterations=2000, learning_rate=2.0, seed=1)
    losses = np.asarray(losses)  # compared outside JAX, whose 64-bit types are off here
    assert losses[-1] < 0.05 < losses[0]
    predicted = side.predict(x, parameters)
    assert predicted.shape == y.shape
    assert set(np.unique(predicted)) == {0, 1}
    assert np.mean(np.asarray(predicted) == y) > 0.97


def test_the_fast_loop_ends_at_the_page_s_parameters():
    _, x, y = network(1, 3, 4, 2, 50)
    ours, losses = manual.neural_net(x, y, 4, iterations=100)
    for fast, fast_losses in (
        manual.neural_net(x, y, 4, iterations=100, ops=manual.fast),
        manual.fast.shallow.neural_net(x, y, 4, iterations=100),
    ):
        np.testing.assert_allclose(fast_losses, losses, rtol=1e-12)
        for name in NAMES:
            np.testing.assert_allclose(fast[name], ours[name], rtol=1e-10, atol=1e-13)


def test_both_neural_nets_end_at_the_same_parameters():
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 50)).astype(np.float32)
    y = (x.sum(axis=0, keepdims=True) > 0).astype(int)
    ours, our_losses = manual.neural_net(x, y, 4, iterations=100)
    theirs, their_losses = autodiff.neural_net(x, y, 4, iterations=100)
    assert our_losses.dtype == their_losses.dtype == np.float32
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-5)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


BAD_SHAPES = [
    ((3, 5), (1, 4), 2, r"x has 5 examples \(columns\) and y has 4; they must be equal"),
    ((3, 0), (1, 0), 2, r"x has shape \(3, 0\): there are no examples"),
    ((3, 5), (5,), 2, r"y must be matrices whose columns are examples; got shapes \(3, 5\) and \(5,\)"),
    ((3, 5), (1, 5), 0, "hidden_size must be at least 1, got 0"),
    ((3, 5), (1, 5), -2, "hidden_size must be at least 1, got -2"),
]


@pytest.mark.parametrize(("x", "y", "hidden", "message"), BAD_SHAPES)
@pytest.mark.parametrize("side", [manual, autodiff])
def test_bad_shapes_are_refused(side, x, y, hidden, message):
    with pytest.raises(ValueError, match=message):
        side.layer_structure(np.ones(x), np.ones(y), hidden)
    with pytest.raises(ValueError, match=message):
        side.neural_net(np.ones(x), np.ones(y), hidden)


@pytest.mark.parametrize("side", [manual, autodiff])
def test_one_label_is_not_spread_over_all_examples(side):
    parameters = side.initialize_parameters(3, 2, 1)
    with pytest.raises(ValueError, match="x has 5 examples"):
        side.loss_and_gradients(parameters, np.ones((3, 5)), np.ones((1, 1)))


def test_integer_labels_promote_nothing():
    parameters, x, y = network(7, 3, 4, 2, 6, dtype=np.float32)
    loss, gradients = manual.loss_and_gradients(parameters, x, y.astype(int))
    assert loss.dtype == gradients["W1"].dtype == np.float32


@pytest.mark.parametrize(("iterations", "rate"), [(0, 1.0), (-1, 1.0), (5, 0.0), (5, -0.1), (5, float("nan"))])
@pytest.mark.parametrize("side", [manual, autodiff])
def test_training_needs_positive_settings(side, iterations, rate):
    message = f"iterations and learning_rate must be positive, got {iterations} and {rate}"
    with pytest.raises(ValueError, match=message):
        side.neural_net(np.ones((2, 3)), np.ones((1, 3)), 2, iterations=iterations, learning_rate=rate)


@pytest.mark.campaign
def test_float64_survives_whatever_jax_is_configured_to():
    """In a fresh process, where 64-bit types are off as JAX ships."""
    script = (
        "import autodiff, jax, numpy as np\n"
        "p, losses = autodiff.neural_net(np.ones((2, 3)), np.ones((1, 3)), 2, iterations=2)\n"
        "assert losses.dtype == np.float64 and p['W1'].dtype == np.float64\n"
        "assert not jax.config.jax_enable_x64\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


@pytest.mark.sweep
@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint32, np.int8, np.int64, np.float32])
def test_labels_may_be_of_any_kind(kind):
    parameters, x, y = network(3, 3, 4, 2, 12)
    labels, held = y.astype(kind), jax.tree.map(on_device, parameters)
    # By hand, signatures ask for numbers.
    for side, start in ((manual, parameters), (autodiff, held))[kind is bool :]:
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15),
            side.loss_and_gradients(start, x, labels),
            manual.loss_and_gradients(parameters, x, y),
        )
        _, losses = side.train(start, x, labels, iterations=3, learning_rate=0.5)
        np.testing.assert_allclose(
            losses, manual.train(parameters, x, y, iterations=3, learning_rate=0.5)[1], rtol=1e-12
        )


@pytest.mark.sweep
@pytest.mark.parametrize("steps", [1, 4, 5, 8, 11])
def test_a_block_in_runs_is_a_block_step_by_step(steps):
    """As accelerators have it, with runs of 4: none, whole ones, and what is left of one."""
    _, x, y = network(3, 3, 4, 2, 12)

    def trained(run):
        parameters = jax.tree.map(jnp.array, network(3, 3, 4, 2, 12)[0])
        return autodiff.shallow._train_block(parameters, x, y, 0.5, steps, run=run)

    with jax.enable_x64(True):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15), trained(4), trained(1))
        assert np.count_nonzero(trained(4)[1]) == steps
