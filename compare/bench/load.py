"""What others do on the machine meanwhile, by which a measured time may be longer than the work takes."""

import os
from pathlib import Path

STAT = Path("/proc/stat")
SHORT = 0.1  # seconds; in less, ticks of 10 ms on each core are too coarse


def busy() -> float | None:
    """Seconds that the machine's cores have worked since it started, all together. None where it does not tell.

    Linux: proc(5), /proc/stat, whose first line has the ticks of user, nice, system, idle, iowait, irq, softirq and
    steal; idle and iowait are no work. In a container it is the whole machine's, and that is what is asked for.
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
    """Cores that others kept busy; None where the system does not tell, or the time is too short for its ticks.

    Args:
        before, after: What `busy` said at the ends of the time.
        own: Seconds of processor time that the measured process itself had.
        seconds: How long it was.
    """
    if before is None or after is None or seconds < SHORT or after - before < own / 2:
        return None  # a system that counts much less than the process itself had, as in some containers, does not tell
    return max(after - before - own, 0.0) / seconds
