"""What a row says of an operation is so; and an operation without a row is done by JAX, moved, and named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive as JaxPrimitive
from jax.interpreters import ad, mlir

from compare import Verdict, check_gradients
from compare.judge.evaluation.finite_differences import complex_step
from compare.judge.program.inputs import Inputs
from compare.judge.program.primitives import TABLE
from compare.judge.program.primitives.row import UNKNOWN, Kind, Moves, Primitive, Rounds
from compare.judge.program.trace import Program, traced
from compare.judge.roundoff.perturbation import Noise, RoundingNoise

# ------------------------------------------------------------------------------------------------ all rows


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_row_does_not_contradict_itself(name):
    row = TABLE[name]
    assert row.evaluate is None or row.control is None
    assert (row.kind is Kind.PROGRAM) == (row.control is not None) == (row.rounds is Rounds.WITHIN)
    if row.rounds is Rounds.SQUARES:
        assert row.evaluate is not None
        assert row.kind is Kind.LINEAR
    if row.kind in (Kind.COMPARISON, Kind.DISCRETE):
        assert row.rounds is Rounds.EXACTLY
        assert not row.analytic
    if row.kind is Kind.NONSMOOTH:
        assert not row.analytic  # as it is written, though it may have a continuation
    if row.slope is not None:
        assert row.kind is Kind.SMOOTH


SLOPES = sorted(name for name, row in TABLE.items() if row.slope is not None)


@settings(max_examples=30, deadline=None)
@given(x=st.lists(st.floats(-3, 3, allow_subnormal=False), min_size=6, max_size=6))
def test_slopes_are_derivatives_but_for_their_sign(x):
    for name in SLOPES:
        values = np.array(x) if name != "log1p" else np.abs(x)
        slope, evaluate = TABLE[name].slope, TABLE[name].evaluate
        assert slope is not None
        assert evaluate is not None
        step = 1e-6
        by_differences = (evaluate(values + step) - evaluate(values - step)) / (2 * step)
        np.testing.assert_allclose(np.abs(slope(values)), np.abs(by_differences), rtol=1e-6, atol=1e-8, err_msg=name)


UFUNCS = sorted(name for name, row in TABLE.items() if row.ufunc is not None)


@pytest.mark.parametrize("name", UFUNCS)
def test_a_ufunc_writes_what_the_row_evaluates(name):
    row = TABLE[name]
    assert row.evaluate is not None
    assert row.ufunc is not None
    inputs = np.random.default_rng(0).uniform(0.1, 3, (row.ufunc.nin, 50))
    with np.errstate(invalid="ignore"):  # arccos of 2
        expected = row.evaluate(*inputs)
        np.testing.assert_array_equal(row.ufunc(*inputs, out=inputs[0]), expected)
    np.testing.assert_array_equal(inputs[0], expected)


def test_the_functions_that_saturate_have_slopes():
    assert {"tanh", "logistic", "exp", "erf", "atan", "expm1", "log1p"} <= set(SLOPES)


ALONE = sorted(
    name
    for name, row in TABLE.items()
    if (row.analytic or row.continued) and row.kind in (Kind.SMOOTH, Kind.NONSMOOTH) and hasattr(lax, name)
)
TAKES = {"integer_pow": lambda x: lax.integer_pow(x, 3), "pow": lambda x: lax.pow(x, 1.5 + 0 * x)}
TAKES |= {"div": lambda x: 1.5 / x, "max": lambda x: lax.max(x, 0.4 + 0 * x), "min": lambda x: lax.min(x, 0.4 + 0 * x)}
TAKES |= {"clamp": lambda x: lax.clamp(0.3, x, 0.5), "reduce_prod": lambda x: jnp.prod(x), "cumprod": lax.cumprod}
TAKES |= {"acosh": lambda x: lax.acosh(1 + x)}


@pytest.mark.parametrize("name", ALONE)
def test_complex_steps_through_a_row_are_its_derivative(name):
    function = TAKES.get(name) or getattr(lax, name)
    x, direction = np.array([0.25, 0.45, 0.75]), np.array([1.0, -0.5, 2.0])
    with jax.enable_x64(True):
        program = traced(lambda x: jnp.sum(function(x) * jnp.arange(1.0, 4.0)), x)
        assert name in {step.name for step in program.plan}
        stepped = complex_step(program, Inputs(x), {"value": direction})
        _, gradient = program.gradient(x)
    assert stepped == pytest.approx(gradient["value"] @ direction, rel=1e-12)


# --------------------------------------------------------------------------------- an operation without a row


def unknown_operation(name):
    """x -> x**3, which JAX knows and the table does not."""
    primitive = JaxPrimitive(name)
    primitive.def_impl(lambda x: jnp.asarray(x) * x * x)
    primitive.def_abstract_eval(lambda x: ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(primitive, mlir.lower_fun(lambda x: x * x * x, multiple_results=False))
    ad.defjvp(primitive, lambda t, x: 3 * x * x * t)
    return primitive.bind


cubed = unknown_operation("cubed")
X = np.array([0.5, -1.25, 2.0])


def by_hand(x, factor=3.0):
    return np.sum(x**3), (factor * x**2).astype(x.dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_operation_that_nobody_knows_is_done_by_jax_as_it_was_traced(dtype):
    x = X.astype(dtype) / 3
    with jax.enable_x64(dtype is np.float64):
        program = Program(cubed, x)
    value = program(x)
    assert value.dtype == np.float64
    np.testing.assert_array_equal(value, (x * x * x).astype(float))  # rounded as the dtype rounds
    assert program.unknown == ["cubed"]


def test_it_is_moved_as_its_inputs_and_its_result_are_rounded():
    """x**3 errs by three times what x does."""
    with jax.enable_x64(True):
        program = Program(cubed, X)
        unit = 2.0**-24
        found = [program(X, rule=RoundingNoise(Noise(100, k, unit))) / X**3 - 1 for k in range(200)]
    np.testing.assert_allclose(np.std(found, axis=0), (3**2 + 1) ** 0.5 * unit, rtol=0.25)


def test_a_check_judges_what_it_does_not_know():
    def loss(x):
        return jnp.sum(cubed(x))

    assert check_gradients(by_hand, loss, X).verdict is Verdict.AGREE
    report = check_gradients(lambda x: by_hand(x, 3.001), loss, X)
    assert report.verdict is Verdict.DISAGREE
    assert report.wrong_side == "manual"
    narrow = X.astype(np.float32)
    assert check_gradients(by_hand, loss, narrow).verdict is Verdict.AGREE
    assert check_gradients(lambda x: by_hand(x, 3.001), loss, narrow).verdict is Verdict.DISAGREE


def test_no_complex_step_goes_through_it():
    with jax.enable_x64(True):
        assert complex_step(traced(lambda x: jnp.sum(cubed(x)), X), Inputs(X), {"value": X}) is None
        program = traced(lambda x: jnp.sum(x * cubed(jnp.ones(3))), X)
        assert complex_step(program, Inputs(X), {"value": X}) == pytest.approx(X.sum())


def test_a_row_taken_out_of_the_table_leaves_a_right_answer(monkeypatch):
    """A lax operation that lost its row is an operation that nobody knows, forward and backward."""
    monkeypatch.delitem(TABLE, "tanh")
    monkeypatch.delitem(TABLE, "dot_general")
    weights = np.random.default_rng(0).normal(size=(3, 3))

    def right(x, w):
        h = np.tanh(w @ x)
        return np.sum(h * h), w.T @ (2 * h * (1 - h * h))

    def wrong(x, w):
        return right(x, w)[0], right(x, w)[1] * [1, 1, 1.001]

    with jax.enable_x64(True):
        program = traced(lambda x, w: jnp.sum(jnp.tanh(w @ x) ** 2), X, weights)
    assert program.unknown == ["dot_general", "tanh"]
    for hand, verdict in ((right, Verdict.AGREE), (wrong, Verdict.DISAGREE)):
        assert check_gradients(hand, program.function, X, weights).verdict is verdict


def test_what_is_said_of_an_operation_that_nobody_knows_is_safe():
    assert Primitive(moves=Moves.INPUTS) == UNKNOWN
    assert UNKNOWN.rounds is Rounds.RESULT
    assert not UNKNOWN.analytic
    assert UNKNOWN.continued is None
