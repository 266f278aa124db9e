"""A sweep is a test with many rows. A run takes about a third of them, and `python -m pytest --all` takes all.

Rows are chosen by a hash of their names, so that a run takes the same rows everywhere, and rows of every op, dtype and
layout. The first row is always taken. A test that is named on the command line runs with all its rows.
"""

import zlib
from collections.abc import Iterable

SHARE = 3  # one row in this many


def left_out(items: Iterable) -> list:
    """The rows of sweeps that a run without `--all` does not take."""
    seen, found = set(), []
    for item in items:
        if item.get_closest_marker("sweep"):
            test = item.nodeid.partition("[")[0]
            if test in seen and zlib.crc32(item.nodeid.encode()) % SHARE:
                found.append(item)
            seen.add(test)
    return found
