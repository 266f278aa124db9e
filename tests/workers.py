"""The number of test workers: the number of cores, limited by memory."""

import os
from pathlib import Path

from compare.environment import usable_cores

A_WORKER = 3 * 2**29  # bytes, 1.5 GiB: JAX, and the programs that the tests of one file compile
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")


def workers() -> int:
    return max(1, min(usable_cores(), available_memory() // A_WORKER))


def available_memory() -> int:
    """Bytes of memory that new programs may use: what Linux reports, or else half of the physical memory.

    The limit of a container applies, too.
    """
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if MEMINFO.exists():
        lines = dict(line.split(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
        found = 1024 * int(lines["MemAvailable"].split()[0])
    allowed = CGROUP.read_text(encoding="ascii").strip() if CGROUP.exists() else "max"
    return found if allowed == "max" else min(found, int(allowed))
