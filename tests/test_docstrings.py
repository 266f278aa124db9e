"""What the catalog's docstrings must say: what is cached and why, what happens at a kink or a tie, and a source."""

import importlib
import inspect
import pkgutil
import re
from typing import NamedTuple

import numpy as np
import pytest

import autodiff.optimizers
import manual
import manual.optimizers
from manual.activations import ACTIVATIONS, OutputCache, relu, relu_backward, tanh, tanh_backward
from manual.losses import LOSSES
from manual.pooling import max_pool2d, max_pool2d_backward
from manual.recurrent import rnn, rnn_backward

MODULES = {
    module.name: importlib.import_module(f"manual.{module.name}")
    for module in pkgutil.iter_modules(manual.__path__)
    if not module.name.startswith("_") and module.name != "fast"
}
OPS = {op: rule for name, module in MODULES.items() for op, rule in getattr(module, name.upper(), {}).items()}
OPS = {op: rule for op, rule in OPS.items() if isinstance(rule, tuple)}  # schedules and optimizers are no pairs
CACHES = {
    f"{name}.{own}": value
    for name, module in MODULES.items()
    for own, value in vars(module).items()
    if own.endswith("Cache") and value.__module__ == module.__name__
}


def says_why(cache):
    """It has a docstring of its own, where Python would list the fields, and gives a reason."""
    doc = inspect.getdoc(cache) or ""
    return not doc.startswith(f"{cache.__name__}(") and bool(re.search(r"\b(because|so that|costs|needed)\b", doc))


def names_a_source(*functions):
    """In one docstring, `Source:` and then a year."""
    return any(re.search(r"\bSource: .*?\b(1[89]|20)\d\d\b", inspect.getdoc(f) or "", re.DOTALL) for f in functions)


def speaks_of_kinks(*functions):
    return any(re.search(r"\b(nonsmooth|kink|ties?)\b", inspect.getdoc(f) or "") for f in functions)


def has_a_kink(op, *targets, **options):
    """Whether the slopes on both sides of a point differ: by at least 0.01, where a smooth function's do by about h."""
    h, at = 1e-5, np.linspace(-2, 2, 17)

    def values(points):
        return np.array([op(np.array([[x]]), *targets, **options)[0].item() for x in points])

    left, here, right = values(at - h), values(at), values(at + h)
    return bool((np.abs((right - here) - (here - left)) / h > 0.01).any())


# ------------------------------------------------------------------------------------- the catalog


def test_the_catalog_is_found():
    assert {"relu", "dense", "conv2d", "layer_norm", "lstm", "attention", "cross_entropy", "max_pool2d"} < set(OPS)
    assert {"shallow.Cache", "network.LayerCache", "transformer.BlockCache", "losses.ErrorCache"} < set(CACHES)
    assert len(OPS) >= 38
    assert len(CACHES) >= 30


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_says_what_it_keeps_and_why(name):
    assert says_why(CACHES[name]), inspect.getdoc(CACHES[name])


@pytest.mark.parametrize("op", OPS)
def test_an_op_names_its_source(op):
    assert names_a_source(*OPS[op])


@pytest.mark.parametrize("side", [manual.optimizers, autodiff.optimizers])
def test_an_optimizer_names_its_source(side):
    for name, make in side.OPTIMIZERS.items():
        assert names_a_source(make), name
    assert names_a_source(side.clip_by_global_norm)


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_an_activation_says_what_it_does_at_its_kinks(op):
    options = {"elu": {"alpha": 0.5}}.get(op, {})
    kinked = op != "swiglu" and has_a_kink(ACTIVATIONS[op][0], **options)
    assert kinked == (op in ("relu", "leaky_relu", "elu", "selu"))
    assert speaks_of_kinks(*ACTIVATIONS[op]) or not kinked


@pytest.mark.parametrize("op", LOSSES)
def test_a_loss_says_what_it_does_at_its_kinks(op):
    target = np.array([0]) if op == "cross_entropy" else np.array([[1.0]])
    kinked = has_a_kink(LOSSES[op][0], target)
    assert kinked == (op in ("mean_absolute_error", "hinge"))
    assert speaks_of_kinks(*LOSSES[op]) or not kinked


def test_other_ops_with_kinks_and_ties_say_so():
    assert speaks_of_kinks(max_pool2d, max_pool2d_backward)
    assert speaks_of_kinks(rnn, rnn_backward)


# ---------------------------------------------------------------------------------- planted faults


def test_what_says_too_little_is_found():
    class SilentCache(NamedTuple):
        x: np.ndarray

    class IdleCache(NamedTuple):
        """The input and its shape."""

        x: np.ndarray

    def unsourced(x):
        """y = x. Source: the internet."""

    def undated(x):
        """y = x, as of 1986."""

    assert not says_why(SilentCache)
    assert not says_why(IdleCache)
    assert says_why(OutputCache)
    assert not names_a_source(unsourced)
    assert not names_a_source(undated, unsourced)
    assert names_a_source(tanh, tanh_backward)
    assert not speaks_of_kinks(tanh, tanh_backward)
    assert speaks_of_kinks(relu, relu_backward)
    assert has_a_kink(lambda x: (np.abs(x - 0.5) ** 1.001, None))
    assert not has_a_kink(lambda x: (np.abs(x - 0.5) ** 3, None))
