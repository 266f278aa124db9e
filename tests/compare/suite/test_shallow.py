"""The notebook's network as a check takes it: the same loss and gradients, and a fault is located among its values."""

from typing import Any

import jax
import numpy as np
import pytest

import manual
from compare import Verdict, check_gradients
from compare.platform import precise
from compare.suite.shallow import shallow_by_hand, shallow_loss
from tests.helpers import network, on_device

POINT = network(seed=3, n_x=3, n_h=4, n_y=2, m=5)


def test_it_is_the_loss_and_the_gradients_of_both_sides():
    parameters, x, y = POINT
    loss, gradients, intermediates = shallow_by_hand(parameters, x, y)
    right, expected = manual.loss_and_gradients(parameters, x, y)
    assert loss == right
    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(gradients[name], value)
    with precise(x):
        parameters = {name: on_device(value) for name, value in parameters.items()}
        x_there, y_there = on_device(x), on_device(y)
        assert float(shallow_loss(parameters, x_there, y_there)) == pytest.approx(float(loss), rel=1e-14)
        reference = jax.grad(shallow_loss)(parameters, x_there, y_there)
    np.testing.assert_allclose(intermediates["Z1"] @ x.T, reference["W1"], rtol=1e-12)
    np.testing.assert_allclose(intermediates["Z2"].sum(axis=1, keepdims=True), reference["b2"], rtol=1e-12)


def test_a_fault_is_located_at_the_value_that_goes_wrong_first(monkeypatch):
    right = manual.backpropagation

    def without_derivative(parameters, cache, x, y, *, intermediates):
        gradients = right(parameters, cache, x, y, intermediates=intermediates)
        dZ1 = intermediates["A1"]  # the factor 1 - A1**2 is missing
        intermediates["Z1"] = dZ1
        return gradients | {"W1": dZ1 @ x.T, "b1": dZ1.sum(axis=1, keepdims=True)}

    options: dict[str, Any] = {"probes": False, "references": False}
    assert check_gradients(shallow_by_hand, shallow_loss, *POINT, **options).verdict is Verdict.AGREE
    monkeypatch.setattr(manual, "backpropagation", without_derivative)
    report = check_gradients(shallow_by_hand, shallow_loss, *POINT, **options)
    assert report.verdict is Verdict.DISAGREE
    assert (report.first_wrong, report.diagnoses[0].kind) == ("Z1", "missing-factor")
    assert {row.path for row in report.rows if row.verdict is Verdict.DISAGREE} == {"Z1", "W1", "b1"}
