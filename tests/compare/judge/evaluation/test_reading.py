"""What a caller passes is read once, into one form for both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.errors import BadInput, Untraceable
from compare.judge.evaluation.complex_parts import Parts
from compare.judge.evaluation.reading import argument, argument_names, of_its_own, read


def by_hand(w, x, mode):
    assert mode == "sum"
    return float(np.sum(np.real(w * x))), np.conj(x) + 0 * w


def reference(w, x, mode):
    return jnp.sum(jnp.real(w * x)) if mode == "sum" else jnp.nan


def as_read(parameters, *args, loss=reference, convention="jax", static=()):
    return read(by_hand, loss, parameters, args, convention=convention, static=static, labels={"x": "the data"})


def test_arrays_are_copied_and_what_cannot_be_traced_is_bound():
    w = np.ones(3)
    function, loss, inputs = as_read(w, jnp.arange(3.0), "sum")
    assert inputs.names == ("w", "x")
    assert inputs.labels == {"x": "the data"}
    assert type(inputs.args[0]) is np.ndarray
    assert inputs.parameters is not w
    assert function(inputs.parameters, *inputs.args)[0] == loss(inputs.parameters, *inputs.args) == 3


def test_complex_parameters_are_split_on_both_sides():
    function, loss, inputs = as_read(np.array([1 + 2j, 3 - 1j]), np.array([1.0, 1j]), "sum")
    assert isinstance(inputs.parameters, Parts)
    assert list(inputs.leaves) == ["real", "imag"]
    value, gradients = function(inputs.parameters, *inputs.args)
    with jax.enable_x64(True):
        right, expected = jax.value_and_grad(loss)(inputs.parameters, *inputs.args)
    assert value == float(right)
    np.testing.assert_array_equal(gradients.real, expected.real)
    np.testing.assert_array_equal(gradients.imag, -expected.imag)  # the function does not return JAX's convention


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((), np.ones(3), "sum"), {}, "parameters holds no arrays"),
        ((np.arange(3), np.ones(3), "sum"), {}, "must be floating-point numbers, got int64 at value"),
        ((np.ones(3), np.ones(3), "sum"), {"static": ["y"]}, "static names 'y', but the arguments are x, mode"),
        ((np.ones(3), np.ones(3), "sum"), {"convention": "torch"}, "convention must be 'jax' or 'conjugate'"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, options, message):
    with pytest.raises(BadInput, match=message):
        as_read(*arguments, **options)


def test_an_object_is_no_argument():
    with pytest.raises(TypeError, match="args must be arrays, numbers or trees of them, got <object"):
        argument(object())
    assert argument(2.5) == 2.5


def test_names_are_those_of_the_function_as_far_as_it_has_some():
    assert argument_names(by_hand, 2) == ["w", "x", "mode"]
    assert argument_names(lambda *all_of_them: None, 1) == ["parameters", "argument 1"]


def test_the_hand_written_loss_is_a_reference_if_it_can_be_traced():
    inputs = np.ones(2), np.arange(2.0)
    loss = of_its_own(lambda w, x: (np.sum(w * x), x))
    assert jax.jit(loss)(*inputs) == 1
    for function in (lambda w, x: w * x, lambda w, x: (None, x), lambda w, x: (w.no_such_attribute, x)):
        with pytest.raises(Untraceable):
            jax.make_jaxpr(of_its_own(function))(*inputs)
