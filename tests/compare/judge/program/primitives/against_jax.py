"""Rules held to JAX: each operation of a traced function is done by its rule and by JAX, and the results compared."""

import jax
import numpy as np
from jax.extend import core


def held_to_jax(rules, function, *arguments, signs):
    """The names of all rules that were used.

    Numbers need not be bit-equal, because sums are taken in another order. Where `signs` are compared, those of zeros
    are: they show whether a number was moved, and decide where one is sorted to.
    """
    with jax.enable_x64(True):
        traced = jax.make_jaxpr(function)(*arguments)
        return _held(rules, signs, traced.jaxpr, traced.consts, jax.tree.leaves(arguments))[1]


def _held(rules, signs, jaxpr, constants, arguments):
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], map(np.asarray, [*constants, *arguments]), strict=True))
    used = set()

    def read(atom):
        return np.asarray(atom.val) if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in ("jit", "custom_jvp_call"):
            inner = equation.params["jaxpr" if name == "jit" else "call_jaxpr"]
            expected, inner_used = _held(rules, signs, inner.jaxpr, inner.consts, inputs)
            used |= inner_used
        else:
            expected = equation.primitive.bind(*inputs, **equation.primitive.get_bind_params(equation.params))
            expected = [np.asarray(x) for x in (expected if equation.primitive.multiple_results else [expected])]
        if name in rules:
            used.add(name)
            for actual, right in zip(outputs(rules[name], equation, inputs), expected, strict=True):
                same(actual, right, signs)
        values.update(zip(equation.outvars, expected, strict=True))
    return [read(atom) for atom in jaxpr.outvars], used


def outputs(rule, equation, inputs):
    """What a rule computes. Its inputs are read-only, so that one that writes to them raises."""
    inputs = [np.asarray(value) for value in inputs]
    for value in inputs:
        value.flags.writeable = False
    with np.errstate(all="ignore"):  # as the interpreter does once for a program
        result = rule(*inputs, **equation.params)
    return result if equation.primitive.multiple_results else [result]


def same(actual, expected, signs=False):
    assert isinstance(actual, np.ndarray)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, expected)
        return
    tolerance = 1e-2 if expected.dtype.itemsize == 2 else 1e-12  # 16-bit sums are rounded at other times
    if expected.dtype.itemsize == 2:
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    if signs and expected.dtype.kind == "f":
        zeros = (expected == 0) & (actual == 0)
        np.testing.assert_array_equal(np.signbit(actual)[zeros], np.signbit(expected)[zeros])


def traced_equation(name, cases, seed=0):
    """The first equation of a primitive that the cases trace, and random inputs of it."""
    for function, *arguments in cases(seed):
        with jax.enable_x64(True):
            traced = jax.make_jaxpr(function)(*arguments)
        for equation in _equations(traced.jaxpr):
            if equation.primitive.name == name:
                values = [numbers(seed + i, *atom.aval.shape) for i, atom in enumerate(equation.invars)]
                return equation, [
                    value if np.issubdtype(atom.aval.dtype, np.inexact) else np.zeros(atom.aval.shape, atom.aval.dtype)
                    for value, atom in zip(values, equation.invars, strict=True)
                ]
    raise AssertionError(f"no case traces {name}")


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield from _equations(equation.params["jaxpr"].jaxpr) if equation.primitive.name == "jit" else [equation]


def first_output(rule, equation, inputs, dtype):
    """What a rule makes of floating-point inputs in another dtype than the one that was traced."""
    floating = [value.dtype == np.float64 for value in inputs]
    cast = [value.astype(dtype) if other else value for value, other in zip(inputs, floating, strict=True)]
    return outputs(rule, equation, cast)[0]


def keeps_dtype(rule, equation, inputs, dtype):
    """Inputs of a dtype give a result of that dtype, which is the result in float64 of the same numbers."""
    result = first_output(rule, equation, inputs, dtype)
    assert result.dtype == dtype
    rounded = [np.real(value.astype(dtype)).astype(value.dtype) for value in inputs]
    exact = first_output(rule, equation, rounded, float)
    np.testing.assert_allclose(result.astype(complex), exact, rtol=0.02, atol=0.02)


def numbers(seed, *shape, special=False):
    """Normal numbers, or a few that are often equal: zeros of both signs, infinities and NaN among them."""
    rng = np.random.default_rng(seed)
    if special:
        return rng.choice([0.0, -0.0, 1.0, -2.0, 3.0, np.inf, -np.inf, np.nan], shape)
    return rng.normal(size=shape)
