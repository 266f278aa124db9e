"""A run of a bench as a picture."""

from compare.bench.picture import plot_bench
from tests.compare.bench.runs import a_cell, a_run


def test_a_picture_of_a_run(tmp_path):
    run = a_run(a_cell("a", bound=[1.0], manual=[2.0]), a_cell("b", bound=[3.0], autodiff=[1.0]))
    plot_bench(tmp_path / "run.svg", run)
    text = (tmp_path / "run.svg").read_text(encoding="utf-8")
    assert all(word in text for word in ("GEMM bound", "manual", "autodiff", "seconds per step"))


def test_ops_are_bars_and_sizes_are_a_curve(tmp_path):
    cells = [a_cell("gelu", manual=[1.0, 2.0], torch=[0.5, 0.7]), a_cell("dense", bound=[0.1], manual=[2.0, 3.0])]
    for kind, label in (("ops", "seconds per step"), ("shallow", "seconds per step")):
        plot_bench(tmp_path / f"{kind}.svg", a_run(*cells, kind=kind))
        text = (tmp_path / f"{kind}.svg").read_text(encoding="utf-8")
        assert all(word in text for word in ("gelu", "dense", "torch", label))
        assert ("FillBetweenPolyCollection" in text) is (kind == "shallow")
