"""Second order by hand: against JAX, complex steps, differences, and the judge; and the faults that it has to name."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autodiff
import compare
import manual
import manual.shallow
from compare.suite.shallow import shallow_loss
from tests.helpers import network, on_device

NAMES = ("W1", "b1", "W2", "b2")
sizes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 7))


def direction(seed, parameters):
    random = np.random.default_rng(seed + 1000)
    return {name: random.standard_normal(value.shape).astype(value.dtype) for name, value in parameters.items()}


def on_side(side, trees):
    return trees if side is manual else jax.tree.map(on_device, trees)


def inner(left, right):
    return sum(np.sum(left[name] * right[name]) for name in NAMES)


def moved(parameters, vector, step):
    return {name: value + step * vector[name] for name, value in parameters.items()}


def complex_gradient(p, x, y):
    """The gradient, by formulas that take complex numbers and share no code with either side."""
    m, a1 = x.shape[1], np.tanh(p["W1"] @ x + p["b1"])
    dz2 = (1 / (1 + np.exp(-p["W2"] @ a1 - p["b2"])) - y) / m
    dz1 = (p["W2"].T @ dz2) / np.cosh(p["W1"] @ x + p["b1"]) ** 2
    sums = {"b1": dz1.sum(axis=1, keepdims=True), "b2": dz2.sum(axis=1, keepdims=True)}
    return {"W1": dz1 @ x.T, "W2": dz2 @ a1.T} | sums


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=sizes)
def test_the_product_is_the_complex_step_of_the_gradient(seed, sizes):
    parameters, x, y = network(seed, *sizes)
    vector = direction(seed, parameters)
    product = manual.hessian_vector_product(parameters, vector, x, y)
    along = complex_gradient(moved(parameters, vector, 1e-30j), x, y)
    for name in NAMES:
        np.testing.assert_allclose(product[name], along[name].imag / 1e-30, rtol=1e-10, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=sizes)
def test_the_hessian_is_symmetric_and_the_product_linear(seed, sizes):
    parameters, x, y = network(seed, *sizes)
    u, v = direction(seed, parameters), direction(seed + 1, parameters)
    product = partial(manual.hessian_vector_product, parameters, x=x, y=y)
    assert inner(u, product(vector=v)) == pytest.approx(inner(v, product(vector=u)), rel=1e-9, abs=1e-11)
    both = product(vector=moved(u, v, 3.0))
    for name in NAMES:
        expected = product(vector=u)[name] + 3 * product(vector=v)[name]
        np.testing.assert_allclose(both[name], expected, rtol=1e-9, atol=1e-12)


def test_the_product_is_what_differences_of_the_gradient_by_hand_say():
    parameters, x, y = network(3, 3, 4, 2, 6)
    vector, h = direction(3, parameters), 1e-5
    product = manual.hessian_vector_product(parameters, vector, x, y)
    (_, after), (_, before) = (manual.loss_and_gradients(moved(parameters, vector, s), x, y) for s in (h, -h))
    for name in NAMES:
        np.testing.assert_allclose(product[name], (after[name] - before[name]) / (2 * h), rtol=1e-6, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=sizes)
def test_jvp_is_the_loss_and_the_gradient_along_the_vector(seed, sizes):
    parameters, x, y = network(seed, *sizes)
    vector = direction(seed, parameters)
    loss, along = manual.jvp(parameters, vector, x, y)
    expected, gradients = manual.loss_and_gradients(parameters, x, y)
    assert loss == expected
    assert along == pytest.approx(inner(gradients, vector), rel=1e-10, abs=1e-13)


@pytest.mark.sweep
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("sizes", [(3, 4, 2, 6), (1, 1, 1, 1), (30, 16, 1, 101)])
def test_both_sides_agree_and_stay_in_their_dtype(sizes, dtype):
    parameters, x, y = network(0, *sizes, dtype=dtype)
    vector = direction(0, parameters)
    held = jax.tree.map(on_device, (parameters, vector))
    rtol = 1e-11 if dtype == np.float64 else 1e-4
    for name in ("jvp", "hessian_vector_product"):
        ours = getattr(manual, name)(parameters, vector, x, y)
        theirs = getattr(autodiff, name)(*held, x, y)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=rtol * 1e-2), ours, theirs)
        assert {np.asarray(leaf).dtype for leaf in jax.tree.leaves((ours, theirs))} == {np.dtype(dtype)}


# -------------------------------------------------------------------------------------------- the judge


def along_by_jax(parameters, vector, x, y):
    """<gradient, vector>, whose gradient is the product of the Hessian and the vector."""
    gradients = jax.grad(shallow_loss)(parameters, x, y)
    return sum(jnp.sum(gradients[name] * vector[name]) for name in NAMES)


def judged(product, dtype=np.float64):
    parameters, x, y = network(5, 3, 4, 2, 6, dtype=dtype)
    vector = direction(5, parameters)

    def by_hand(parameters, vector, x, y):
        return manual.jvp(parameters, vector, x, y)[1], product(parameters, vector, x, y)

    return compare.check_gradients(by_hand, along_by_jax, parameters, vector, x, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_judge_agrees_through_the_gradient_of_the_gradient_along_the_vector(dtype):
    report = judged(manual.hessian_vector_product, dtype)
    assert report.verdict is compare.Verdict.AGREE, str(report)


def mutated(name, old, new):
    """The page with a piece of the text of one of its functions replaced."""
    scope = dict(vars(manual.shallow))
    for function in ("_forward_along", "_backward_along", "hessian_vector_product"):
        source = inspect.getsource(inspect.unwrap(getattr(manual.shallow, function)))
        if function == name:
            assert source.count(old) == 1
            source = source.replace(old, new)
        exec(source, scope)
    return scope["hessian_vector_product"]


FIRST, SECOND = {"W1", "b1"}, {"W2", "b2"}
FAULTS = {
    "no second derivative of tanh": (" - 2 * dA1 * A1 * RA1", "", "_backward_along", FIRST),
    "a second derivative of tanh without its 2": (" - 2 * dA1", " - dA1", "_backward_along", FIRST),
    "weights that stay on the way back": (" + RW2.T @ dZ2", "", "_backward_along", FIRST),
    "activations that stay in dW2": (" + dZ2 @ RA1.T", "", "_backward_along", {"W2"}),
    "no average": ("\n    RdZ2 = RA2 / m", "\n    RdZ2 = RA2", "_backward_along", FIRST | SECOND),
    "activations that stay on the way forward": (" + W2 @ RA1", "", "_forward_along", FIRST | SECOND),
    "weights that stay on the way forward": ("RW2 @ A1 + ", "", "_forward_along", FIRST | SECOND),
    "a bias that stays": (" + Rb1", "", "_forward_along", FIRST | SECOND),
    "no slope of the sigmoid": ("A2 * (1 - A2) * RZ2", "RZ2", "_forward_along", FIRST | SECOND),
    "no slope of tanh": ("(1 - A1**2) * RZ1", "RZ1", "_forward_along", FIRST | SECOND),
}


@pytest.mark.sweep
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_where_it_is(fault):
    old, new, function, wrong = FAULTS[fault]
    report = judged(mutated(function, old, new))
    assert report.verdict is compare.Verdict.DISAGREE
    assert {row.path for row in report.rows if row.verdict is compare.Verdict.DISAGREE} == wrong


def test_the_same_in_another_order_is_no_fault():
    product = mutated("_backward_along", "- 2 * dA1 * A1 * RA1", "- A1 * (RA1 * (dA1 + dA1))")
    assert judged(product).verdict is compare.Verdict.AGREE


# -------------------------------------------------------------------------------------------- conduct


def test_intermediates_are_derivatives_of_the_gradients_on_the_way():
    parameters, x, y = network(1, 3, 4, 2, 6)
    vector, h = direction(1, parameters), 1e-5
    along: dict[str, np.ndarray] = {}
    manual.hessian_vector_product(parameters, vector, x, y, intermediates=along)
    seen: list[dict[str, np.ndarray]] = [{}, {}]
    for step, marks in zip((h, -h), seen, strict=True):
        there = moved(parameters, vector, step)
        manual.backpropagation(there, manual.forward_propagation(x, there)[1], x, y, intermediates=marks)
    assert along.keys() == seen[0].keys()
    for name, value in along.items():
        np.testing.assert_allclose(value, (seen[0][name] - seen[1][name]) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("side", [manual, autodiff])
@pytest.mark.parametrize("name", ["jvp", "hessian_vector_product"])
def test_a_vector_that_is_not_like_the_parameters_is_refused(side, name):
    parameters, x, y = network(2, 3, 4, 1, 6)
    vector = direction(2, parameters)
    shapeless = vector | {"b1": vector["b1"][:, 0]}
    narrow = vector | {"W2": vector["W2"].astype(np.float32)}
    for wrong in (shapeless, narrow, {key: vector[key] for key in ("W1", "b1", "W2")}):
        with pytest.raises(ValueError, match="vector"):
            getattr(side, name)(*on_side(side, (parameters, wrong)), x, y)
    with pytest.raises(ValueError, match="x has 6 examples"):
        getattr(side, name)(*on_side(side, (parameters, vector)), x, y[:, :1])


def test_labels_are_cast_and_nothing_is_modified():
    parameters, x, y = network(4, 3, 4, 2, 6, dtype=np.float32)
    vector = direction(4, parameters)
    for array in (*parameters.values(), *vector.values(), x, y):
        array.setflags(write=False)
    expected = manual.hessian_vector_product(parameters, vector, x, y)
    for name, value in manual.hessian_vector_product(parameters, vector, x, y.astype(int)).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("side", [manual, autodiff])
def test_saturation_is_finite_and_silent(side):
    parameters, x, y = network(3, 5, 6, 3, 40, scale=1000)
    vector = direction(3, parameters)
    held = on_side(side, (parameters, vector))
    with np.errstate(all="raise", under="ignore"):
        product = side.hessian_vector_product(*held, x, y)
    assert all(np.isfinite(np.asarray(value)).all() for value in product.values())
