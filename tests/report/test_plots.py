"""Charts as parts of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from edgeq.comparison import Histogram, LayerDrift
from edgeq.report.plots import histogram_chart, sqnr_chart, ticks_of_grid, worst_alone


def layer(index: int, alone: float | None, accumulated: float | None = 20.0) -> LayerDrift:
    return LayerDrift(
        index, "CONV_2D", f"block_{index}", (1, 4, 4, 8), accumulated, alone, 0.9, 1.0, 0.1, 0.0, 0.9, 40.0
    )


def histogram(low: float = 0.0, high: float = 6.0) -> Histogram:
    return Histogram(low, high, (1000, 0, 20, 1), (900, 100, 21, 0), 6 / 255, 0.0, 6.0)


def test_the_worst_is_the_one_with_most_noise_of_its_own() -> None:
    layers = [layer(3, 20.0), layer(0, None), layer(2, -4.0), layer(1, -4.0, None)]
    worst = worst_alone(layers)
    assert worst is not None
    assert worst.index == 1
    assert worst_alone([layer(0, None)]) is None
    assert worst_alone([]) is None


@pytest.mark.parametrize(
    "layers",
    [
        pytest.param([layer(2, 30.0), layer(0, 40.0), layer(1, 35.0)], id="three"),
        pytest.param([layer(0, 40.0)], id="one"),
        pytest.param([layer(0, None, None), layer(1, None, None)], id="no-noise"),
        pytest.param([layer(0, 30.0), layer(1, None), layer(2, 30.0), layer(3, 31.0)], id="a-gap"),
    ],
)
def test_every_layer_has_its_place(layers: list[LayerDrift]) -> None:
    drawing = ElementTree.fromstring(sqnr_chart(layers, "chart", 860))
    assert drawing.findtext("title", "").startswith("SQNR of every layer")
    points = [use.get("style", "") for use in drawing.iter("use")]
    for role, value in (("reference", "sqnr_db"), ("candidate", "alone_sqnr_db")):
        drawn = sum(f"fill: var(--{role})" in style for style in points)
        assert drawn == sum(getattr(one, value) is not None for one in layers) + 1  # and the legend's
    assert any("stroke: var(--alert)" in style for style in points) == (worst_alone(layers) is not None)


@pytest.mark.parametrize(
    "drawing", [sqnr_chart([layer(0, 1.0), layer(1, 2.0)], "a", 860), histogram_chart(histogram(), "a", "t")]
)
def test_a_chart_has_the_pages_colours_and_typeface_and_nothing_of_the_day(drawing: str) -> None:
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) == set()
    assert {"var(--reference)", "var(--candidate)", "var(--muted)"} <= set(re.findall(r"var\(--\w+\)", drawing))
    assert "font-family" not in drawing
    assert not re.search(r"<metadata|<style|<!|<\?|dc:|xlink:href", drawing)
    assert not re.search(r"https?://(?!www\.w3\.org/)", drawing)
    ids = re.findall(r'\bid="([^"]+)"', drawing)
    assert len(ids) == len(set(ids))
    assert all(one.startswith("a-") for one in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawing)) <= set(ids)


def test_same_chart_same_bytes_whatever_the_user_s_own_style_is() -> None:
    drawing = sqnr_chart([layer(0, 1.0), layer(1, 2.0)], "a", 860)
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30, "svg.hashsalt": None, "text.usetex": True}):
        assert sqnr_chart([layer(0, 1.0), layer(1, 2.0)], "a", 860) == drawing


def test_a_title_is_text() -> None:
    title = '<script>alert("1")</script> & $x^2$'
    assert ElementTree.fromstring(histogram_chart(histogram(), "a", title)).findtext("title") == title


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1e-6, 1e-6), (-1e4, 3.0), (2.0, 2.0)])
def test_any_range_can_be_drawn(low: float, high: float) -> None:
    assert ElementTree.fromstring(histogram_chart(histogram(low, high), "a", "t")).tag == "svg"


@pytest.mark.parametrize(
    ("scale", "high", "ticks", "every"),
    [(0.5, 4.0, 9, 1), (6 / 255, 6.0, 64, 4), (1 / 65535, 1.0, 64, 1024), (0.0, 1.0, 1, 1)],
    ids=["all", "int8", "int16", "no-scale"],
)
def test_ticks_of_the_grid(scale: float, high: float, ticks: int, every: int) -> None:
    places, steps = ticks_of_grid(Histogram(0, high, (1,), (1,), scale, 0.0, high))
    assert (len(places), steps) == (ticks, every)
    assert places[0] == 0
    assert places[-1] <= high
