"""Runs of a bench made up for the tests, and the work of single contestants."""

from dataclasses import replace

import numpy as np

from compare.bench.results import Bench, Cell
from compare.bench.turns import Measured, Outcome
from compare.bench.workloads import contestants

OWN = "tests.compare.bench.contestants"


def outcome_of(workload, name, steps=3):
    runner = workload.module.CONTESTANTS[name].prepare(workload)
    runner.run(steps)
    return {key: np.asarray(value, np.float64).reshape(-1) for key, value in runner.outcome().items()}


def reference_of(workload, steps=3):
    """By hand, in float64."""
    workload = replace(workload, dtype="float64")
    runner = workload.module.CONTESTANTS["manual"].prepare(workload)
    before = {key: np.asarray(value, np.float64).reshape(-1).copy() for key, value in runner.outcome().items()}
    runner.run(steps)
    return Outcome({key: np.asarray(value).reshape(-1) for key, value in runner.outcome().items()}, before)


def installed(workload):
    return [name for name in contestants(workload) if name != "torch-compiled"]  # which takes a minute to compile


def a_cell(size="1x2x3", flops=1000, **rounds):
    return Cell(size, "about", flops, {name: Measured(r, 0.5, None, 2**20, None, 0.0) for name, r in rounds.items()})


def a_run(*cells, kind="shallow", environment=None):
    sizes = [cell.size for cell in cells]
    settings = {"kind": kind, "dtype": "float32", "threads": None, "platform": "cpu", "options": {}}
    return Bench(settings, environment or {"processor": "one", "date": "today"}, sizes, list(cells))
