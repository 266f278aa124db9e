"""Drawings: in the page's colors, the same for the same data, in the way of no other drawing and of nobody's plots."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from compare.html.page import asset
from compare.html.plots import BAD, COLORS, GOOD, Curve, boundary, drawing, share_of_tolerance, two_curves

STEPS = np.arange(1, 41)
FAST, SLOW = np.exp(-STEPS / 9), np.exp(-STEPS / 12)


def curves(prefix="a", label="Two curves", first=FAST, second=SLOW, name="with $x$ & <b>"):
    with drawing() as (chart, finish):
        two_curves(chart.subplots(), STEPS[: len(first)], Curve("without", first, GOOD), Curve(name, second, BAD))
        return finish(prefix, label)


def plane(prefix="p"):
    x = np.random.default_rng(0).normal(size=(2, 50))
    with drawing() as (chart, finish):
        side = lambda points: 1 / (1 + np.exp(-3 * points[0]))  # noqa: E731  # both sides see the same
        boundary(chart.subplots(), x, (x[0] > 0).astype(int), side, side)
        return finish(prefix, "A plane")


@pytest.mark.parametrize("make", [curves, plane])
def test_a_drawing_is_whole_says_what_it_is_and_is_the_same_again(make):
    svg = make()
    root = ElementTree.fromstring(svg)
    assert root.attrib.keys() == {"viewBox", "role", "aria-label"}
    assert root.attrib["role"] == "img"
    assert make() == svg
    assert "<metadata" not in svg
    assert not re.search(r"(?i)\bnan\b|font-family|20\d\d-\d\d", svg)


@pytest.mark.parametrize("make", [curves, plane])
def test_every_color_is_one_of_the_style_sheets(make):
    svg = make()
    used = set(re.findall(r"var\(--(\w+)\)", svg))
    assert used <= set(COLORS)
    assert all(f"--{name}:" in asset("style.css") for name in COLORS)
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert {"bad", "good"} <= used or {"manual", "autodiff"} <= used


@pytest.mark.parametrize("make", [curves, plane])
def test_two_on_a_page_do_not_meddle_with_each_other(make):
    one, other = (set(re.findall(r' id="([^"]+)"', make(prefix))) for prefix in ("one", "other"))
    assert one
    assert not one & other
    svg = make("one")
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) == one


def test_nobodys_settings_are_touched():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.grid": False, "font.size": 30}):
        assert curves() == curves()
        assert matplotlib.rcParams["font.size"] == 30
    assert dict(matplotlib.rcParams) == before


def test_words_are_text():
    svg = curves(label='"><script>')
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == '"><script>'
    assert "with $x$ & <b>" in {node.text for node in root.iter("text")}


def names(svg):
    return {node.text for node in ElementTree.fromstring(svg).iter("text")}


def test_curves_that_are_one_have_one_name():
    assert {"without", "with the bug"} <= names(curves(name="with the bug"))
    assert "without and with the bug" in names(curves(first=FAST, second=FAST * (1 + 1e-9), name="with the bug"))


def test_values_that_reach_far_have_a_logarithmic_axis():
    assert "10⁻⁴" in names(curves(first=10.0 ** -(STEPS / 4), second=10.0 ** -(STEPS / 5)))
    assert "0.00" in names(curves(first=1 + 0.01 * STEPS, second=1 + 0.02 * STEPS))


@pytest.mark.parametrize(("shares", "color"), [([0.01, 0.5], "good"), ([0.5, 7.0], "bad"), ([np.inf, 0.5], "bad")])
def test_a_drift_beyond_its_tolerance_is_red(shares, color):
    with drawing() as (chart, finish):
        share_of_tolerance(chart.subplots(), [1, 2], np.array(shares))
        svg = finish("s", "A drift")
    assert f"stroke: var(--{color})" in svg
    assert {"drift", "tolerance"} <= names(svg)
