"""A run of a bench as a picture."""

from pathlib import Path

from compare.bench.results import Bench, quartiles
from compare.files import write_figure


def plot_bench(path: Path, run: Bench) -> None:
    """Seconds per step of every contestant over the sizes, the middle half of its rounds as a band."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for cell in run.cells for name in cell.finished()))
    figure = Figure(figsize=(1.2 * len(run.cells) + 6, 6), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names):
        at = [j for j, cell in enumerate(run.cells) if name in cell.finished()]
        low, middle, high = zip(*(quartiles(run.cells[j].measured[name].rounds) for j in at), strict=True)
        style = "k--" if name == "floor" else f"C{i % 10}-"
        axes.plot(at, middle, style, marker="o", markersize=4, label=name)
        axes.fill_between(at, low, high, color=style[:-1] if style[0] == "C" else "k", alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_xticks(range(len(run.cells)), [cell.size for cell in run.cells], rotation=30, ha="right")
    axes.set(ylabel="seconds per step", title=f"{run.settings['dtype']} on {run.environment['processor']}")
    axes.grid(alpha=0.3)
    axes.legend(bbox_to_anchor=(1, 1), loc="upper left", frameon=False)
    write_figure(path, figure)
