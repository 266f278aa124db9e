"""A run of a bench as a picture."""

from compare.bench.picture import plot_bench
from tests.compare.bench.runs import a_cell, a_run


def test_a_picture_of_a_run(tmp_path):
    run = a_run(a_cell("a", floor=[1.0], manual=[2.0]), a_cell("b", floor=[3.0], autodiff=[1.0]))
    plot_bench(tmp_path / "run.svg", run)
    text = (tmp_path / "run.svg").read_text(encoding="utf-8")
    assert all(word in text for word in ("floor", "manual", "autodiff", "seconds per step"))
