"""Compilation for programs that are run a few times: most of a check of a small problem is XLA's optimization."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

SMALL = 2**16  # entries of the largest array, up to which optimizing takes longer than it saves in a few runs
UNOPTIMIZED = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit(function, **options)`, optimized only if an argument is large. Results differ in rounding at most."""
    optimized = jax.jit(function, **options)
    seen: set[Any] = set()

    @functools.cache
    def quick() -> Callable[..., Any]:
        return jax.jit(function, compiler_options=_known_options(), **options)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        leaves = jax.tree.leaves(args)
        largest = max((getattr(leaf, "size", 1) for leaf in leaves), default=1)
        known = tuple((getattr(leaf, "shape", ()), getattr(leaf, "dtype", None)) for leaf in leaves)
        if known not in seen:
            seen.add(known)
            make_room()
        return (quick() if largest <= SMALL and _on_cpu() else optimized)(*args)

    return call


def _on_cpu() -> bool:
    """Whether JAX works on a CPU just now; of a GPU's programs, these options make the compilation no faster."""
    chosen = jax.config.values["jax_default_device"]  # a device, a platform's name, or None
    return getattr(chosen, "platform", chosen or jax.default_backend()) == "cpu"


@functools.cache
def _known_options() -> dict[str, Any]:
    """Those of UNOPTIMIZED that this version of XLA knows: they are no stable interface, and refused if unknown."""
    known = {}
    for name, value in UNOPTIMIZED.items():
        try:
            jax.jit(lambda x: x, compiler_options={name: value}).lower(1.0).compile()
        except Exception:  # of a type that is not public
            continue
        known[name] = value
    return known


MAPS, MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


def make_room() -> None:
    """Forget all compiled programs if there is hardly room for another one.

    Each takes several maps of memory, of which Linux allows a process 65,530. A process that checks some thousand
    problems of different shapes would come to that, and XLA ends a process that gets no more.
    """
    if MAPS.exists() and MOST_MAPS.exists() and MAPS.read_bytes().count(b"\n") > int(MOST_MAPS.read_text()) // 2:
        jax.clear_caches()
