"""Update rules by name."""

import inspect

import numpy as np
import pytest

import autodiff.optimizers
from compare.check.optimizers import ALIASES, NAMES, update_rule
from compare.errors import BadInput


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_every_rule_is_made_by_its_name(name):
    rule = update_rule(f"{name}:lr=0.01")
    parameters, gradients = {"w": np.ones(3, np.float32)}, {"w": np.full(3, 2, np.float32)}
    expected = getattr(autodiff.optimizers, name)(0.01)
    state = rule.initialize(parameters)
    moved, same = (one.update(parameters, gradients, state)[0]["w"] for one in (rule, expected))
    np.testing.assert_array_equal(moved, same)
    assert (moved < 1).all()


def test_constants_go_by_the_names_that_others_use():
    known = {name for rule in NAMES for name in inspect.signature(getattr(autodiff.optimizers, rule)).parameters}
    assert set(ALIASES.values()) <= known
    update_rule("adamw: lr=0.1, eps=1e-6, wd=0.1, beta1=0.8")


def test_gradients_are_clipped_if_that_is_asked():
    parameters, gradients = {"w": np.ones(2), "b": np.zeros(2)}, {"w": np.array([3.0, 0]), "b": np.array([0, 4.0])}
    for maximum, scale in ((1, 0.2), (10, 1)):
        rule = update_rule(f"sgd:lr=1,clip={maximum}")
        moved, _ = rule.update(parameters, gradients, rule.initialize(parameters))
        np.testing.assert_allclose(moved["w"], [1 - 3 * scale, 1], rtol=1e-6)
        np.testing.assert_allclose(moved["b"], [0, -4 * scale], rtol=1e-6)


BAD = {
    "sgd:lr=1,clip=0": "maximum must be a positive number",
    "adamm:lr=1": "Is it adam?",
    "": "knows sgd",
    "sgd": "needs lr=VALUE",
    "sgd:lr": "each as NAME=VALUE, got 'lr'",
    "sgd:lr=fast": "must be a number, got 'fast'",
    "sgd:lr=0.1,foo=1": "takes learning_rate",
    "adam:lr=-1": "at least 0",
    "adam:lr=nan": "finite",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(BadInput, match=BAD[text]):
        update_rule(text)
