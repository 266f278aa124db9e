"""Small programs are compiled without optimization, and compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare import compiling
from compare.compiling import SMALL, compiled


def power(exponent, x):
    return jnp.sum(jnp.tanh(x) ** exponent)


@pytest.mark.parametrize("size", [3, SMALL + 1])
def test_small_and_large_agree_with_jax(size):
    x = np.linspace(-1, 1, size, dtype=np.float32)
    ours = compiled(power, static_argnums=0)(2, x)
    np.testing.assert_allclose(ours, jax.jit(power, static_argnums=0)(2, x), rtol=1e-5)


def test_only_what_is_small_goes_without_optimization(monkeypatch):
    chosen = []
    original = jax.jit

    def spied(function, compiler_options=None, **options):
        def call(*args):
            chosen.append(bool(compiler_options))
            return original(function, **options)(*args)

        return call

    compiling._known_options()  # found before jit is watched
    monkeypatch.setattr(jax, "jit", spied)
    double = compiled(lambda x: x * 2)
    double(np.ones(SMALL))
    double(np.ones(SMALL + 1))
    double(1.0)
    assert chosen == [True, False, True]


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(compiling, "UNOPTIMIZED", {"xla_no_such_option": 1, "xla_backend_optimization_level": 0})
    assert compiling._known_options.__wrapped__() == {"xla_backend_optimization_level": 0}
