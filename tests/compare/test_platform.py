"""Platform and precision hold inside the `with`, and nothing is left of them outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compare.errors import BadInput
from compare.platform import PLATFORMS, on_platform, precise

NARROW = np.ones(3, np.float32)
WIDE = np.ones(3, np.float64)


def state():
    """JAX's configuration as it holds here, `with` blocks included."""
    return [setting(name) for name in ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_device")]


def setting(name):
    return getattr(jax.config, name)  # by name, because the configuration does not declare its attributes


def lacking(platform):
    try:
        jax.devices(platform)
    except RuntimeError:
        return True
    return False


# ------------------------------------------------------------------------------------------- platform


def test_arrays_are_made_on_the_platform_and_the_default_returns_afterwards():
    before = state()
    with on_platform("cpu") as device:
        assert device == jax.devices("cpu")[0]
        assert jnp.ones(3).devices() == {device}
        assert jax.jit(lambda x: x + 1)(1.0).devices() == {device}
    assert state() == before


def test_an_error_inside_passes_through_and_the_default_returns():
    before = state()
    # A RuntimeError is also what JAX raises for a missing platform; this one has nothing to do with it.
    with pytest.raises(RuntimeError, match="from inside"), on_platform("cpu"):
        raise RuntimeError("from inside")
    assert state() == before


@pytest.mark.parametrize("platform", ["", "CPU", "cuda", "quantum", "cpu,gpu"])
def test_an_unknown_platform_lists_what_exists(platform):
    with (
        pytest.raises(BadInput, match=r"no platform is called '.*'.*here are cpu, gpu, tpu\.") as caught,
        on_platform(platform),
    ):
        pass
    assert repr(platform) in str(caught.value)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform_is_there_or_is_refused_with_what_is_there(platform):
    if not lacking(platform):
        with on_platform(platform) as device:
            assert device in jax.devices(platform)
        return
    with (
        pytest.raises(BadInput, match=rf"no {platform} .*: \w+"),
        on_platform(platform),
    ):
        pass


def test_what_the_machine_has_is_listed(monkeypatch):
    class Device:
        def __init__(self, platform):
            self.platform = platform

    def devices(platform=None):
        if platform is None:
            return [Device("tpu"), Device("cpu"), Device("cpu")]
        raise RuntimeError(f"Unknown backend {platform}")

    monkeypatch.setattr(jax, "devices", devices)
    with (
        pytest.raises(
            BadInput, match=r"this machine has no gpu that JAX can use; it sees: cpu, tpu\..*install JAX's plugin"
        ),
        on_platform("gpu"),
    ):
        pass


def test_a_jax_that_cannot_start_at_all_is_refused(monkeypatch):
    """What happens where the environment variable JAX_PLATFORMS names something that does not exist."""

    def devices(platform=None):
        raise RuntimeError("Unable to initialize backend 'nonsense'")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(jax, "local_devices", lambda backend: devices(backend))
    with pytest.raises(BadInput, match="no cpu that JAX can use"), on_platform("cpu"):
        pass


# ------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize(
    ("trees", "wide"),
    [
        pytest.param((), False, id="nothing"),
        pytest.param((NARROW,), False, id="float32"),
        pytest.param(({"a": [NARROW, np.ones(2, np.int32)]}, ()), False, id="a tree of narrow arrays"),
        pytest.param((WIDE,), True, id="float64"),
        pytest.param((NARROW, {"a": [NARROW, (WIDE,)]}), True, id="one float64 leaf deep inside"),
        pytest.param((np.ones((), np.float64),), True, id="float64 without axes"),
        # A plain number follows the arrays it meets; it must not make a float32 function a float64 one.
        pytest.param((NARROW, 0.1), False, id="float32 and a plain number"),
    ],
)
def test_64_bit_types_are_on_only_for_64_bit_arrays(trees, wide):
    before = state()
    with precise(*trees):
        assert jnp.ones(3).dtype == (np.float64 if wide else np.float32)
        assert setting("jax_default_matmul_precision") == "highest"
    assert state() == before
    assert jnp.ones(3).dtype == np.float32


def test_products_keep_every_bit_of_float32():
    # 1 + 2**-20 is 1 where factors are rounded to 10 bits, as some accelerators do by default.
    a = np.full((4, 4), 1 + 2.0**-20, np.float32)
    with precise(a):
        product = np.asarray(jnp.asarray(a) @ jnp.asarray(a))
    np.testing.assert_array_equal(product, (a.astype(float) @ a).astype(np.float32))


def test_precision_returns_after_an_error_and_after_nesting():
    before = state()
    with precise(WIDE), precise(NARROW):
        # The inner block leaves 64-bit types as it finds them.
        assert jnp.ones(3).dtype == np.float64
    assert state() == before
    with pytest.raises(ZeroDivisionError), precise(WIDE):
        raise ZeroDivisionError
    assert state() == before
