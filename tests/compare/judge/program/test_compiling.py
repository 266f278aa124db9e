"""Small programs are compiled without optimization, and compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.judge.program import compiling
from compare.judge.program.compiling import SMALL, compiled
from compare.platform import on_platform


def power(exponent, x):
    return jnp.sum(jnp.tanh(x) ** exponent)


@pytest.mark.parametrize("size", [3, SMALL + 1])
def test_small_and_large_agree_with_jax(size):
    x = np.linspace(-1, 1, size, dtype=np.float32)
    ours = compiled(power, static_argnums=0)(2, x)
    np.testing.assert_allclose(ours, jax.jit(power, static_argnums=0)(2, x), rtol=1e-5)


@pytest.fixture
def chosen(monkeypatch):
    """Whether each program was compiled without optimization."""
    seen = []
    original = jax.jit

    def spied(function, compiler_options=None, **options):
        def call(*args):
            seen.append(bool(compiler_options))
            return original(function, **options)(*args)

        return call

    compiling._known_options()  # found before jit is watched
    monkeypatch.setattr(jax, "jit", spied)
    return seen


def test_only_what_is_small_goes_without_optimization(chosen):
    with on_platform("cpu"):
        double = compiled(lambda x: x * 2)
        double(np.ones(SMALL))
        double(np.ones(SMALL + 1))
        double(1.0)
    assert chosen == [True, False, True]


def test_it_depends_on_the_device_that_is_worked_on_and_not_on_those_that_there_are(chosen, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    double = compiled(lambda x: x * 2)
    with on_platform("cpu"):
        double(1.0)
    double(1.0)
    assert chosen == [True, False]


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "UNOPTIMIZED", {"xla_no_such_option": 1, "xla_backend_optimization_level": 0})
    assert compiling._known_options.__wrapped__() == {"xla_backend_optimization_level": 0}


# ---------------------------------------------------------------------------------- room for programs


@pytest.fixture
def few_maps(monkeypatch, tmp_path):
    """As if Linux allowed a process 10 maps of memory; how many it has is what the test writes."""
    monkeypatch.setattr(compiling, "MAPS", tmp_path / "maps")
    monkeypatch.setattr(compiling, "MOST_MAPS", tmp_path / "most")
    (tmp_path / "most").write_text("10\n")
    return tmp_path / "maps"


def test_programs_are_forgotten_when_there_is_hardly_room_for_another(few_maps, monkeypatch):
    cleared = []
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(True))
    program = compiled(power, static_argnums=0)
    few_maps.write_text("a map\n" * 5)
    program(2, np.ones(3))
    assert not cleared
    few_maps.write_text("a map\n" * 6)
    program(2, np.ones(3))  # is there already
    assert not cleared
    program(2, np.ones(4))
    assert cleared


def test_where_maps_are_not_told_nothing_is_forgotten(monkeypatch, tmp_path):
    monkeypatch.setattr(compiling, "MAPS", tmp_path / "nothing")
    monkeypatch.setattr(jax, "clear_caches", lambda: pytest.fail("there was no need"))
    compiling.make_room()
