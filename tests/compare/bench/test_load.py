"""What others do meanwhile: read off the system, less what the measured process did itself."""

import os
import time

import pytest

from compare.bench import load
from compare.bench.load import busy, others


def test_the_load_of_others_is_what_is_left():
    assert others(10.0, 13.0, own=1.0, seconds=2.0) == 1.0
    assert others(10.0, 10.9, own=1.0, seconds=2.0) == 0.0  # ticks are coarse
    assert others(10.0, 10.02, own=1.0, seconds=2.0) is None  # the system counts less than the process had
    assert others(10.0, 10.01, own=0.005, seconds=0.02) is None  # shorter than the ticks can tell
    assert others(None, 3.0, own=0.0, seconds=1.0) is None


def test_the_ticks_of_the_system_are_read(tmp_path, monkeypatch):
    stat = tmp_path / "stat"
    monkeypatch.setattr(load, "STAT", stat)
    assert busy() is None
    stat.write_text("cpu  1 2 3 1000 1000 4 5 6 7 8\ncpu0 9 9 9 9 9 9 9 9\n")
    assert busy() == (1 + 2 + 3 + 4 + 5 + 6) / os.sysconf("SC_CLK_TCK")
    for other in ("", "cpu 1 2\n", "intr 1 2 3 4 5 6 7 8 9\n"):
        stat.write_text(other)
        assert busy() is None


@pytest.mark.skipif(not load.STAT.exists(), reason="Linux only")
def test_work_of_ours_is_counted_by_the_system():
    before, begun = busy(), time.process_time()
    while time.process_time() - begun < 0.1:
        pass
    after = busy()
    assert before is not None
    assert after is not None
    assert after - before >= 0.08
