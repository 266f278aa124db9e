"""Tests of `tests.workers`: `make test` starts no more workers than memory allows."""

import pytest

from tests import workers

GIB = 2**30


@pytest.mark.parametrize(
    ("cores", "gib", "count"),
    [(8, 16, 8), (8, 11.9, 7), (8, 4, 2), (2, 64, 2), (8, 1.6, 1), (8, 0.2, 1), (1, 0, 1)],
)
def test_there_is_a_worker_for_each_core_and_one_and_a_half_gib(monkeypatch, cores, gib, count):
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    monkeypatch.setattr(workers, "available_memory", lambda: int(gib * GIB))
    assert workers.workers() == count


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with 12 GiB, whose files with memory limits are written by the test."""
    monkeypatch.setattr(workers, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(workers, "CGROUP", tmp_path / "memory.max")
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 3 * 2**20, "SC_PAGE_SIZE": 4096}.__getitem__)
    return tmp_path


def test_where_nobody_says_what_is_available_half_is_left_to_others(machine):
    assert workers.available_memory() == 6 * GIB


@pytest.mark.parametrize(("allowed", "gib"), [(None, 9), ("max\n", 9), (f"{4 * GIB}\n", 4), (f"{40 * GIB}\n", 9)])
def test_linux_says_what_is_available_and_a_container_what_is_allowed(machine, allowed, gib):
    (machine / "meminfo").write_text(f"MemTotal: 12582912 kB\nMemFree: 77 kB\nMemAvailable: {9 * 2**20} kB\n")
    if allowed:
        (machine / "memory.max").write_text(allowed)
    assert workers.available_memory() == gib * GIB


def test_this_machine_can_be_asked():
    assert workers.available_memory() > 2**20
    assert workers.workers() >= 1


def test_xdist_asks_for_it(monkeypatch, pytestconfig):
    if not pytestconfig.pluginmanager.hasplugin("xdist"):
        pytest.skip("pytest-xdist is not loaded")
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    monkeypatch.setattr(workers, "workers", lambda: 77)
    assert pytestconfig.hook.pytest_xdist_auto_num_workers(config=pytestconfig) == 77
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "3")  # somebody knows better
    assert pytestconfig.hook.pytest_xdist_auto_num_workers(config=pytestconfig) == 3
