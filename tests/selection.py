"""Which tests a run takes. `python -m pytest --all` takes all; without it, a run leaves out

- the tests that are marked as campaigns, each of which takes a second or more;
- of sweeps, which are tests with many rows, all but about a sixteenth of the rows.

Rows are chosen by a hash of their names, so that every run takes the same ones, from all ops, dtypes and layouts. The
first row is always taken. Tests that are named on the command line run with all their rows.
"""

import zlib
from collections.abc import Iterable

SHARE = 16  # one row of a sweep in this many


def left_out(items: Iterable) -> list:
    """The tests and rows that a run without `--all` leaves out."""
    seen, found = set(), []
    for item in items:
        test = item.nodeid.partition("[")[0]
        more_rows = item.get_closest_marker("sweep") and test in seen
        if item.get_closest_marker("campaign") or (more_rows and zlib.crc32(item.nodeid.encode()) % SHARE):
            found.append(item)
        seen.add(test)
    return found
