"""What a test compiles runs once or twice, so XLA's optimizations cost more time than they save.

XLA reads its flags when JAX first asks for a device, and never again: so processes that the tests start have JAX's own
unless a test gives them these (the fixture `quickly`). Who sets XLA_FLAGS has theirs everywhere: with
`XLA_FLAGS= make test` all is compiled as it is for users.
"""

import os

import jax

QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
QUICKLY += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def compile_quickly() -> None:
    """In this process, whose environment stays as it is."""
    if "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = QUICKLY
        try:
            jax.devices()
        finally:
            del os.environ["XLA_FLAGS"]


def quick_environment() -> dict[str, str]:
    """For a process whose tests are not of what XLA makes of a program."""
    return {"XLA_FLAGS": QUICKLY, **os.environ}
