"""The load by other processes during a measurement, which may make the measured time longer."""

import os
from pathlib import Path

STAT = Path("/proc/stat")
SHORT = 0.1  # seconds; the counters advance in steps of 10 ms per core, which is too coarse for a shorter time


def busy() -> float | None:
    """The seconds of work of all cores since the machine started, or None if the system does not report them.

    On Linux, the first line of /proc/stat has the ticks of user, nice, system, idle, iowait, irq, softirq and steal
    (proc(5)). idle and iowait are not work. In a container, the file counts the work of the whole machine, which is
    what we need, because other containers slow down a measurement as well.
    """
    try:
        first, *ticks = STAT.read_text(encoding="ascii").splitlines()[0].split()
    except (OSError, IndexError):
        return None
    if first != "cpu" or len(ticks) < 8:
        return None
    worked = [int(ticks[i]) for i in (0, 1, 2, 5, 6, 7)]
    return sum(worked) / os.sysconf("SC_CLK_TCK")


def others(before: float | None, after: float | None, own: float, seconds: float) -> float | None:
    """The number of cores that other processes kept busy.

    Args:
        before, after: the results of `busy` at the beginning and the end of the measurement.
        own: the processor time of the measured process in seconds.
        seconds: the duration of the measurement.

    Returns:
        The number of cores, or None if the system does not report it or the measurement was too short.
    """
    if before is None or after is None or seconds < SHORT or after - before < own / 2:
        return None  # some containers count less than the processor time of the process itself
    return max(after - before - own, 0.0) / seconds
