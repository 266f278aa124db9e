"""Who takes part in a bench, and who is refused."""

import pytest

from compare.bench import workloads
from compare.bench.workloads import Workload, contestants
from compare.errors import BadInput
from manual.fast import _threads
from tests.compare.bench.runs import OWN


def test_the_products_default_precision_is_a_contestant_where_it_differs():
    assert "autodiff-fast" not in contestants(Workload("shallow", "2x3x4"))
    assert "autodiff-fast" in contestants(Workload("shallow", "2x3x4", platform="gpu"))


def test_who_is_not_installed_is_left_out_unless_asked_for():
    workload = Workload(OWN, "any")
    assert "absent" not in contestants(workload)
    assert "absent" in workload.module.able(workload)
    with pytest.raises(
        BadInput, match=r"absent needs a_package_that_nobody_has, which is not installed: .venv/bin/pip install"
    ):
        contestants(workload, ["manual", "absent"])
    assert contestants(Workload("shallow", "2x3x4"), ["manual", "bound"]) == ["manual"]
    with pytest.raises(BadInput, match="autodiff-fast is timed on accelerators only"):
        contestants(Workload("shallow", "2x3x4"), ["autodiff-fast", "manual"])
    with pytest.raises(
        BadInput, match=r"no contestant for shallow is called 'numpy'; there are manual, manual-fast, autodiff"
    ):
        contestants(Workload("shallow", "2x3x4"), ["numpy"])


def test_only_what_is_fast_keeps_its_threads_and_only_while_it_runs():
    def run(steps):
        return steps, _threads._kept.get() is not None

    for package, kept in (("manual", False), ("manual.fast", True)):
        assert workloads.of_package(package, workloads.Runner(run, dict)).run(3) == (3, kept)
    assert _threads._kept.get() is None
