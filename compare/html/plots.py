"""Drawings for pages: Matplotlib's SVG with the colors and fonts of the page, in its light and in its dark form.

A drawing is made with placeholder colors, which are then replaced by the color variables of the style sheet. Text in a
drawing stays text. The same data always give exactly the same markup.
"""

import io
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from compare.html.page import Html

COLORS = {"ink": "#010101", "soft": "#020202", "line": "#030303", "link": "#040404", "good": "#050505"}
COLORS |= {"bad": "#060606", "manual": "#070707", "autodiff": "#080808", "paper": "#090909"}
INK, SOFT, LINE, LINK, GOOD, BAD, MANUAL, AUTODIFF, PAPER = COLORS.values()
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"

CLOSE = 6.0  # Lines that are nearer than this, in points, look like one line.
CLASSES = (MANUAL, AUTODIFF)
GRID = 121  # the number of grid points along each axis of a plane


class Curve(NamedTuple):
    """A line in a drawing: its name, its values and its color."""

    name: str
    values: Any
    color: str


STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "backproof",
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # names may hold dollar signs
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "axes.titlecolor": SOFT,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def drawing(width: float = 7.4, height: float = 3.0) -> Iterator[tuple[Any, Callable[[str, str], Html]]]:
    """A Matplotlib figure of this size in inches, and a function `finish(prefix, label)` that turns it into Html.

    Every id in the drawing begins with `prefix`, which must be unique on a page. `label` describes the drawing for
    screen readers.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):  # restores the caller's settings
        figure = Figure(figsize=(width, height))
        figure.subplots_adjust(0.55 / width, 0.45 / height, 1 - 0.06 / width, 1 - 0.27 / height)  # room for labels

        def finish(prefix: str, label: str) -> Html:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
            return _for_a_page(buffer.getvalue(), prefix, label)

        yield figure, finish


def _for_a_page(svg: bytes, prefix: str, label: str) -> Html:
    """The drawing as an element of a page: without metadata and style sheet, with the page's colors and unique ids."""
    root = ElementTree.fromstring(svg)
    for child in list(root):
        if child.tag == f"{SVG}metadata" or child.find(f"{SVG}style") is not None:  # the page has a style sheet
            root.remove(child)
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', ElementTree.tostring(root, encoding="unicode")))
    for node in root.iter():
        node.tag = node.tag.removeprefix(SVG)
        node.tail = None
        node.text = (node.text or "").strip() or None
        name = node.attrib.pop("id", None)
        for key, value in list(node.attrib.items()):
            if value := _rewritten(key, value, prefix):
                node.set(key, value)
            else:
                del node.attrib[key]
        if name in used:
            node.set("id", f"{prefix}-{name}")
        if XLINK in node.attrib:
            node.set("href", f"#{prefix}-{node.attrib.pop(XLINK).removeprefix('#')}")
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return Html(ElementTree.tostring(root, encoding="unicode"))


def _rewritten(key: str, value: str, prefix: str) -> str:
    """An attribute's value with the page's fonts and colors, unique ids and short numbers. It may be empty."""
    value = re.sub(r"font-family: [^;]*; |font: (?=[\d.]+px)|rotate\(-0 [^)]*\)", "", value)
    value = re.sub(r"^([\d.]+px) [^;]*", r"font-size: \1", value).replace("url(#", f"url(#{prefix}-")
    if key in ("d", "x", "y"):
        value = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
        value = re.sub(r"\s*([A-Za-z])\s*", r"\1", value).strip()
    for name, stand_in in COLORS.items():
        value = value.replace(stand_in, f"var(--{name})")
    return value


# ---------------------------------------------------------------------------------------------- drawings


def two_curves(axes: Any, steps: Any, first: Curve, second: Curve) -> None:
    """Draw two curves, each labeled with its name where they are furthest apart.

    The first is drawn as a broad line with the second on top, so that both are visible where they coincide.

    Args:
        axes: Where to draw.
        steps: The values on the horizontal axis.
        first: The curve below.
        second: The curve on top.
    """
    first, second = (curve._replace(values=_finite(curve.values)) for curve in (first, second))
    for curve, style in ((first, {"linewidth": 5, "alpha": 0.4}), (second, {})):
        axes.plot(steps, curve.values, color=curve.color, marker="o" if len(steps) == 1 else "", **style)
    set_scale(axes, np.concatenate([first.values, second.values]))
    _over_steps(axes)
    begin, end = len(steps) // 6, max(2 * len(steps) // 3, len(steps) // 6 + 1)  # where a label has room
    gaps = np.nan_to_num((_places(axes, steps, second.values) - _places(axes, steps, first.values))[begin:end, 1])
    furthest = int(np.argmax(np.abs(gaps)))
    upper, lower = (second, first) if gaps[furthest] > 0 else (first, second)
    if abs(gaps[furthest]) < CLOSE:
        together = Curve(f"{first.name} and {second.name}", upper.values, INK)
        name_line(axes, steps, begin + furthest, together)
    else:
        name_line(axes, steps, begin + furthest, upper)
        floor = _places(axes, steps, lower.values)[begin + furthest, 1] - axes.bbox.ymin
        room = abs(gaps[furthest]) > 4 * CLOSE
        name_line(axes, steps, begin + furthest, lower, above=bool(floor < 2 * CLOSE and room))


def name_line(axes: Any, steps: Any, at: int, curve: Curve, *, above: bool = True) -> None:
    """Label a line with its name. Beside a falling line there is room above to the right and below to the left.

    Args:
        axes: Where to draw.
        steps: The values on the horizontal axis.
        at: The index of the step at which the label is put.
        curve: The line.
        above: Whether the label goes above the line.
    """
    side, ha, va = (4, "left", "bottom") if above else (-4, "right", "top")
    place = {"xytext": (side, side), "textcoords": "offset points", "ha": ha, "va": va}
    axes.annotate(curve.name, (steps[at], curve.values[at]), color=curve.color, fontweight="bold", **place)


def _places(axes: Any, steps: Any, values: Any) -> np.ndarray:
    """The coordinates of points on the drawing, (n, 2)."""
    axes.autoscale_view()  # sets the limits of the axes, which Matplotlib else does only when it draws
    return axes.transData.transform(np.column_stack([steps, values]))


def share_of_tolerance(axes: Any, steps: Any, shares: Any) -> None:
    """Draw a drift as a fraction of its tolerance, with a line at 1, below which both sides agree."""
    over = bool((shares > 1).any())
    shares = np.where(np.isfinite(shares) & (shares > 0), shares, np.nan)
    drawn = shares[np.isfinite(shares)]
    axes.plot(steps, shares, color=BAD if over else GOOD, marker="o" if drawn.size == 1 else "")
    scale_by_powers(axes)
    axes.set_ylim(min([0.01, *drawn]) / 3, max([5, *drawn]) * 2)
    _over_steps(axes)
    axes.axhline(1, color=INK, linewidth=1)
    axes.text(0.995, 1.15, "tolerance", transform=axes.get_yaxis_transform(), ha="right", color=INK)
    if drawn.size:
        lately = np.flatnonzero(np.isfinite(shares))[-max(drawn.size // 8, 1) :]  # the label goes above this part
        place = {"xytext": (0, 5), "textcoords": "offset points", "ha": "right", "fontweight": "bold"}
        axes.annotate("drift", (steps[lately[-1]], shares[lately].max()), color=BAD if over else GOOD, **place)


def _over_steps(axes: Any) -> None:
    axes.margins(x=0.01)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("step", loc="right")


def _finite(values: Any) -> np.ndarray:
    """The values, with NaN for those that are not finite: Matplotlib leaves a gap there."""
    values = np.asarray(values, float)
    return np.where(np.isfinite(values), values, np.nan)


def set_scale(axes: Any, values: Any) -> None:
    """Use a logarithmic axis for positive values that span two powers of ten. Else begin at 0, if no value is below."""
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 100 * values.min():
        scale_by_powers(axes)
    elif values.size and values.min() >= 0:
        axes.set_ylim(bottom=0)


def scale_by_powers(axes: Any) -> None:
    """Use a logarithmic axis, with labels in plain text: 10⁻³, and ordinary numbers near 1."""
    axes.set_yscale("log")

    def written(value: float, _: int) -> str:
        exponent = round(np.log10(value))
        if abs(exponent) <= 2:
            return f"{value:g}"
        return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))

    axes.yaxis.set_major_formatter(written)
    axes.yaxis.set_minor_formatter(lambda value, position: "")


def boundary(axes: Any, x: Any, y: Any, filled: Any, dashed: Any) -> None:
    """Draw examples of two classes, the probability by one side as colors, and the boundary by the other as a dashed
    line.

    Args:
        axes: Where to draw.
        x: The examples, (2, m).
        y: Their classes, 0 or 1.
        filled: The side whose probability is drawn in color: `points (2, n) -> probability of class 1 (n,)`.
        dashed: The side whose boundary, at probability 1/2, is drawn as a dashed line.
    """
    low, high = x.min(axis=1), x.max(axis=1)
    margin = 0.12 * (high - low)
    ends = zip(low - margin, high + margin, strict=True)
    across, up = np.meshgrid(*(np.linspace(a, b, GRID) for a, b in ends))
    points = np.stack([across.ravel(), up.ravel()])
    by_hand, by_jax = (side(points).reshape(across.shape) for side in (filled, dashed))
    for levels, color in ((np.linspace(0.5, 0, 6), CLASSES[0]), (np.linspace(0.5, 1, 6), CLASSES[1])):
        for near, far in itertools.pairwise(levels):
            bounds = sorted((near, far))
            axes.contourf(across, up, by_hand, bounds, colors=[color], alpha=0.08 + 0.4 * abs((near + far) / 2 - 0.5))
    axes.contour(across, up, by_hand, [0.5], colors=[INK], linewidths=2.6)
    axes.contour(across, up, by_jax, [0.5], colors=[PAPER], linewidths=1.2, linestyles=[(0, (3, 3))])
    for value, color, marker in ((0, CLASSES[0], "o"), (1, CLASSES[1], "s")):
        axes.scatter(*x[:, y == value], s=16, color=color, marker=marker, edgecolor=PAPER, linewidth=0.5)
    axes.grid(False)
