"""Freed memory is kept for the next array, so that its pages need not be asked for again."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
{first}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        arrays = [np.full(1 << 19, 1.0) for _ in range(5)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def faults(first):
    # Without the user's settings, and with small pages, which can be counted.
    environment = {"PATH": "/usr/bin:/bin", "NUMPY_MADVISE_HUGEPAGE": "0"}
    command = [sys.executable, "-c", SCRIPT.format(first=first)]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other ways")
def test_importing_manual_fast_ends_the_asking():
    assert faults("") > 1000  # 10 times 5 arrays of 4 MiB
    assert faults("import manual.fast") < 100
