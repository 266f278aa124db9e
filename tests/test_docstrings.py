"""Docstrings of the catalog: each op names its source, and each cache has a docstring; signatures have shapes."""

import importlib
import inspect
import pkgutil
import re
from typing import NamedTuple

import numpy as np
import pytest
from jaxtyping import Float

import autodiff.optimizers
import manual
import manual.optimizers
from compare.suite.ops import catalog
from manual.activations import tanh, tanh_backward

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


def names_a_source(*functions):
    """Whether one of the docstrings has `Source:`, followed by a year."""
    return any(re.search(r"\bSource: .*?\b(1[89]|20)\d\d\b", inspect.getdoc(f) or "", re.DOTALL) for f in functions)


def has_its_own_docstring(cache):
    """Whether a NamedTuple has a docstring that is not the list of fields that Python generates."""
    return not (inspect.getdoc(cache) or f"{cache.__name__}(").startswith(f"{cache.__name__}(")


def without_a_type(function):
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.annotation is inspect.Parameter.empty]


# ------------------------------------------------------------------------------------- the catalog


def test_the_catalog_is_found():
    assert {"relu", "dense", "conv2d", "layer_norm", "lstm", "attention", "cross_entropy", "max_pool2d"} < set(OPS)
    assert {"shallow.Cache", "network.LayerCache", "transformer.BlockCache", "losses.ErrorCache"} < set(CACHES)


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_has_a_docstring_of_its_own(name):
    assert has_its_own_docstring(CACHES[name])


@pytest.mark.parametrize("op", OPS)
def test_an_op_names_its_source(op):
    assert names_a_source(*OPS[op])


@pytest.mark.parametrize("op", OPS)
def test_every_argument_of_an_op_has_a_type(op):
    """The types hold the shapes, which tests check at every call."""
    for function in (*OPS[op], catalog()[op].function):
        assert without_a_type(function) == []


@pytest.mark.parametrize("side", [manual.optimizers, autodiff.optimizers])
def test_an_optimizer_names_its_source(side):
    for name, make in side.OPTIMIZERS.items():
        assert names_a_source(make), name
    assert names_a_source(side.clip_by_global_norm)


# ---------------------------------------------------------------------------------- planted faults


def test_what_says_too_little_is_found():
    class SilentCache(NamedTuple):
        x: np.ndarray

    def unsourced(x):
        """y = x. Source: the internet."""

    def undated(x: Float[np.ndarray, "batch n"], y, *, z=1):
        """y = x, as of 1986."""

    assert not has_its_own_docstring(SilentCache)
    assert not names_a_source(unsourced)
    assert not names_a_source(undated, unsourced)
    assert names_a_source(tanh, tanh_backward)
    assert without_a_type(undated) == ["y", "z"]
