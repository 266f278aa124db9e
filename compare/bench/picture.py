"""Draws a run of a bench: times over sizes or, for ops, a group of bars for each op."""

from pathlib import Path
from typing import Any

from compare.bench.results import Bench, quartiles
from compare.bench.workloads import BOUND, shown
from compare.files import write_figure

THICK = 0.8  # the share of the distance between two groups that the bars of a group take up


def plot_bench(path: Path, run: Bench) -> None:
    """Draw the median seconds per step of every contestant, with the interquartile range of its rounds.

    Args:
        path: the file of the figure; its suffix determines the format.
        run: the results.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for cell in run.cells for name in cell.finished()))
    bars, count = run.settings["kind"] == "ops", len(run.cells)
    size = (9, 1.2 + 0.14 * count * (len(names) + 1)) if bars else (1.2 * count + 6, 6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names):
        at = [j for j, cell in enumerate(run.cells) if name in cell.finished()]
        low, middle, high = zip(*(quartiles(run.cells[j].measured[name].rounds) for j in at), strict=True)
        color = "k" if name == BOUND else f"C{i % 10}"
        if bars:
            thick = THICK / len(names)
            places = [j + (i + 0.5) * thick - THICK / 2 for j in at]
            axes.barh(
                places, middle, thick, xerr=_ends(low, middle, high), color=color, label=shown(name), ecolor="0.5"
            )
        else:
            axes.plot(
                at, middle, f"{color}--" if name == BOUND else f"{color}-", marker="o", markersize=4, label=shown(name)
            )
            axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    labels = [cell.size for cell in run.cells]
    if bars:
        axes.set_yticks(range(count), labels)
        axes.set_ylim(count - 0.4, -0.6)  # the first at the top
        axes.set(xscale="log", xlabel="seconds per step")
    else:
        axes.set_xticks(range(count), labels, rotation=30, ha="right")
        axes.set(yscale="log", ylabel="seconds per step")
    axes.set_title(f"{run.settings['dtype']} on {run.environment['processor']}")
    axes.grid(alpha=0.3, axis="x" if bars else "both")
    axes.legend(bbox_to_anchor=(1, 1), loc="upper left", frameon=False)
    write_figure(path, figure)


def _ends(low: Any, middle: Any, high: Any) -> list[list[float]]:
    """The distances of the lower and the upper quartile from each median, as matplotlib takes them."""
    return [
        [m - end for m, end in zip(middle, low, strict=True)],
        [end - m for m, end in zip(middle, high, strict=True)],
    ]
