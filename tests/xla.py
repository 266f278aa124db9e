"""XLA's optimizations are off in tests, where a compiled program runs once or twice and they would cost time.

XLA reads its flags only once, when JAX first uses a device. Processes that tests start compile with JAX's own flags,
unless a test sets these by the fixture `quickly`. A value of XLA_FLAGS in the environment takes precedence everywhere:
with `XLA_FLAGS= make test`, everything is compiled as it is for users.
"""

import os

import jax

QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
QUICKLY += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def compile_quickly() -> None:
    """Sets the flags for this process, without a lasting change of its environment."""
    if "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = QUICKLY
        try:
            jax.devices()
        finally:
            del os.environ["XLA_FLAGS"]


def quick_environment() -> dict[str, str]:
    """The environment for a subprocess whose tests do not depend on XLA's optimizations."""
    return {"XLA_FLAGS": QUICKLY, **os.environ}
