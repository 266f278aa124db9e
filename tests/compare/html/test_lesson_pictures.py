"""The pictures of a lesson: where the marker stands, and contours of what the network says."""

import re
from dataclasses import replace

import numpy as np
import pytest

from compare.html.lesson import lesson_page
from compare.html.lesson_pictures import LEVELS, pictures
from tests.compare.html.markup import Outline


def points(path):
    """The corners of a path, one array for each of its pieces."""
    pieces = [piece for piece in re.split("[MZ]", path) if piece]
    return [np.array([corner.split() for corner in piece.split("L")], float) for piece in pieces]


def area(path):
    """Of a region, holes counted against it."""
    return abs(sum(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) for x, y in (p.T for p in points(path))))


def test_the_marker_goes_to_the_right_and_down_as_the_loss_does(found):
    drawn = pictures(found)
    x, y = np.array(drawn.data["markers"]).T
    assert (np.diff(x) > 0).all()
    losses = [moment.loss for moment in found.moments]
    np.testing.assert_allclose(
        (y - y[0]) / (y[-1] - y[0]), (np.array(losses) - losses[0]) / (losses[-1] - losses[0]), atol=2e-3
    )
    steps = [moment.step for moment in found.moments]
    np.testing.assert_allclose((x - x[0]) / (x[-1] - x[0]), np.array(steps) / steps[-1], atol=2e-3)


def test_regions_are_where_the_network_is_sure_enough(found):
    """Of a probability that rises from left to right, each region is the rest of the plane to the right."""
    ticks = found.plane.ticks
    rising = np.tile(np.linspace(0.0, 1.0, len(ticks[0])), (len(ticks[1]), 1))
    moments = [replace(found.moments[0], boundary=rising), replace(found.moments[1], boundary=np.zeros_like(rising))]
    first, none = pictures(replace(found, moments=moments)).data["contours"]
    assert len(first) == len(LEVELS) + 1
    areas = np.array([area(path) for path in first[:-1]])
    np.testing.assert_allclose(areas / areas[0] * (1 - LEVELS[0]), [1 - level for level in LEVELS], rtol=0.01)
    (border,) = points(first[-1])
    assert np.ptp(border[:, 0]) < 0.2  # a vertical line
    assert none == [""] * len(first)


def test_a_lesson_without_a_plane_has_the_curve_alone(found):
    without = replace(found, plane=None, moments=[replace(moment, boundary=None) for moment in found.moments])
    drawn = pictures(without)
    assert len(drawn.figures) == 1
    assert drawn.data.keys() == {"markers"}
    assert len(drawn.data["markers"]) == len(found.moments)
    outline = Outline(lesson_page(without))
    assert not [a for _, a in outline.elements if "data-contour" in a]
    assert [a for _, a in outline.elements if "data-marker" in a]


def test_the_pictures_say_in_words_what_they_show(found):
    labels = [a.get("aria-label", "") for figure in pictures(found).figures for _, a in Outline(figure).elements]
    assert any("40 examples of two classes" in label for label in labels)
    assert any(f"The loss over {len(found.losses) - 1} steps" in label for label in labels)


@pytest.mark.parametrize("count", [1, 3])
def test_a_class_may_have_no_example(found, count):
    plane = found.plane
    one_class = replace(plane, x=plane.x[:, :count], y=np.zeros((1, count)))
    assert len(pictures(replace(found, plane=one_class)).figures) == 2
