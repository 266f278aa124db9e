"""Describes the machine and the software of a measurement, so that others can repeat it."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from threadpoolctl import threadpool_info

CPUINFO = Path("/proc/cpuinfo")


def environment() -> dict[str, str]:
    """The processor, cores, BLAS, versions and date, and the device and precision that JAX uses at the moment."""
    return {
        "processor": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": name_of(*jax.device_put(0.0).devices()),  # the default device
        "JAX's products": jax.config.values["jax_default_matmul_precision"] or "the device's default precision",
        "BLAS": blas(),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "JAX": jax.__version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def name_of(device: Any) -> str:
    """The platform of a JAX device, and for accelerators the model."""
    return device.platform if device.platform == "cpu" else f"{device.platform} ({device.device_kind})"


def processor() -> str:
    """The processor's name, from /proc/cpuinfo on Linux, sysctl on macOS, and Python elsewhere."""
    if CPUINFO.exists():
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        names = (value for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name")
        name = next(names, "")
    elif platform.system() == "Darwin":
        result = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        name = result.stdout
    else:
        name = platform.processor()
    return " ".join(name.split()) or platform.machine() or "unknown"


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> str:
    """The number of usable cores, such as "2", or "2 of 8" if the process may not use all of them."""
    present, usable = os.cpu_count() or 1, usable_cores()
    return str(present) if usable == present else f"{usable} of {present}"


def blas() -> str:
    """The name and version of NumPy's BLAS: the loaded library, or that of NumPy's build if none can be found."""
    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    loaded.sort(key=lambda library: "numpy" not in library["filepath"])  # SciPy may have loaded another one
    if not loaded:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]  # a dict in this mode
        return f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
    library, threads = loaded[0], loaded[0]["num_threads"]
    kernels = f" for {library['architecture']}" if library.get("architecture") else ""
    if kernels and os.environ.get("OPENBLAS_CORETYPE"):  # not OpenBLAS's own choice, which may be twice as fast
        kernels += " (OPENBLAS_CORETYPE is set)"
    return f"{library['internal_api']} {library['version']}{kernels}, {threads} thread{'s' if threads > 1 else ''}"
