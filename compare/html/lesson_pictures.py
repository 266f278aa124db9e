"""The pictures of a lesson: the curve of the loss, and the plane of the data with the network's probability of class 1.

Matplotlib draws the axes, the curve and the examples once. The moving parts are added to its SVG in the same
coordinates. For each moment of training these are contours of the probability, and the position of a marker on the
curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from compare.html.page import Html, figure, html, tag
from compare.html.plots import INK, LINK, PAPER, drawing
from compare.lesson.content import Lesson, Moment, Plane

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
POINTS = 72  # Matplotlib's SVG has 72 units to an inch.


@dataclass(frozen=True)
class Pictures:
    """The figures at the first moment, in the order of the page, and the data of the moving parts at every moment."""

    figures: Sequence[Html]
    data: dict[str, Any]


def pictures(lesson: Lesson) -> Pictures:
    """The pictures of a lesson. Only a lesson on data in the plane has a picture of the plane."""
    curve, markers = _curve(lesson)
    if lesson.plane is None:
        return Pictures([curve], {"markers": markers})
    plane, contours = _plane(lesson, lesson.plane)
    return Pictures([plane, curve], {"markers": markers, "contours": contours})


def _curve(lesson: Lesson) -> tuple[Html, list[list[float]]]:
    losses = lesson.losses
    with drawing(4.2, 1.75) as (canvas, finish):
        axes = canvas.add_subplot()
        axes.plot(losses, color=LINK)
        axes.set(xlabel="step of training", ylabel="loss")
        axes.margins(x=0.03)
        axes.set_ylim(bottom=0)
        drawn = finish(
            "curve", f"The loss over {len(losses) - 1} steps of training, from {losses[0]:.3g} to {losses[-1]:.3g}"
        )
        at = _coordinates(axes, [moment.step for moment in lesson.moments], [moment.loss for moment in lesson.moments])
    x, y = at[0]
    marker = tag("circle", cx=x, cy=y, r=5, class_="marker", data_marker=True)
    return figure(_over(drawn, marker), "The loss over the steps of training. The dot is the moment shown."), at


def _plane(lesson: Lesson, plane: Plane) -> tuple[Html, list[list[str]]]:
    with drawing(4.2, 3.7) as (canvas, finish):
        axes = canvas.add_subplot()
        for label, face, marker in ((0, PAPER, "o"), (1, INK, "D")):
            chosen = plane.y[0] == label
            axes.scatter(
                *plane.x[:, chosen], s=26 if marker == "o" else 20, marker=marker, c=face, edgecolors=INK, linewidths=1
            )
        axes.scatter(*plane.x[:, :1], s=150, marker="o", c="none", edgecolors=INK, linewidths=1.4)
        axes.grid(visible=False)
        axes.set(xticks=[], yticks=[], xlabel="first feature", ylabel="second feature")
        axes.set_xlim(plane.ticks[0][0], plane.ticks[0][-1])
        axes.set_ylim(plane.ticks[1][0], plane.ticks[1][-1])
        count = len(plane.y[0])
        drawn = finish(
            "plane", f"{count} examples of two classes in the plane, and the network's boundary between them"
        )
        contours = [_contours(axes, plane, moment) for moment in lesson.moments]
    first = contours[0]
    regions = [tag("path", d=d, class_="region", data_contour=True) for d in first[:-1]]
    border = tag("path", d=first[-1], class_="border", data_contour=True)
    caption = html(
        "◆ class 1, ○ class 0. The lesson follows the ringed example. Deeper blue means a higher probability of class "
        "1, which is 1/2 on the line."
    )
    return figure(_under(drawn, html(*regions, border)), caption), contours


def _contours(axes: Any, plane: Plane, moment: Moment) -> list[str]:
    """The regions where the probability is at least each of LEVELS, and the line where it is 1/2, as SVG paths."""
    from contourpy import FillType, LineType, contour_generator

    generator = contour_generator(
        *plane.ticks, moment.boundary, fill_type=FillType.OuterOffset, line_type=LineType.Separate
    )
    paths = []
    for level in LEVELS:
        rings = [
            points[begin:end]
            for points, offsets in zip(*generator.filled(level, 1.01), strict=True)
            for begin, end in pairwise(offsets)
        ]
        paths.append("".join(f"{_path(axes, ring)}Z" for ring in rings))
    return [*paths, "".join(_path(axes, np.asarray(line)) for line in generator.lines(0.5))]


def _path(axes: Any, points: np.ndarray) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in _coordinates(axes, points[:, 0], points[:, 1]))


def _coordinates(axes: Any, x: Any, y: Any) -> list[list[float]]:
    """Points in the coordinates of the drawing, rounded to a tenth. In an SVG, y grows downward."""
    shares = (axes.transScale + axes.transLimits).transform(
        np.stack([np.asarray(x, float), np.asarray(y, float)], axis=1)
    )
    box, (width, height) = axes.get_position(), axes.figure.get_size_inches() * POINTS
    across = width * (box.x0 + box.width * shares[:, 0])
    down = height * (1 - box.y0 - box.height * shares[:, 1])
    return np.stack([across, down], axis=1).round(1).tolist()


def _under(drawn: Html, markup: Html) -> Html:
    """The drawing with markup after its opening tag, so that everything else is drawn over it."""
    end = drawn.index(">") + 1
    return Html(drawn[:end] + markup + drawn[end:])


def _over(drawn: Html, markup: Html) -> Html:
    """The drawing with markup before its closing tag, so that it is drawn over everything else."""
    return Html(drawn.removesuffix("</svg>") + markup + "</svg>")
