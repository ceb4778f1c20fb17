"""Charts: round numbers at the axes, every line inside of the frame, and text that stays text."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from tests.bench.chart import Chart, Line, counted, ticks

_SVG = "{http://www.w3.org/2000/svg}"


def chart(*lines: Line) -> Chart:
    return Chart("slug", "a & b", "x <unit>", "y", lines)


@pytest.mark.parametrize(
    ("most", "wanted"),
    [
        (0.0, [0, 1]),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (10_000.0, [0, 2_000, 4_000, 6_000, 8_000, 10_000]),
        (50.0, [0, 10, 20, 30, 40, 50]),
        (41.0, [0, 10, 20, 30, 40, 50]),
        (0.07, [0, 0.02, 0.04, 0.06, 0.08]),
    ],
)
def test_ticks_are_round_and_reach_the_largest_value(most: float, wanted: list[float]) -> None:
    assert ticks(most) == pytest.approx(wanted)


def test_a_chart_is_xml_with_a_line_each_and_its_text_as_it_is() -> None:
    drawn = chart(Line("one", ((0, 0), (5, 5))), Line("two", ((0, 1), (10, 2)))).svg()
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own
    texts = [element.text for element in root.iter(f"{_SVG}text")]
    assert len(root.findall(f"{_SVG}polyline")) == 2
    assert {"a & b", "x <unit>", "one", "two"} <= set(texts)


def test_no_point_leaves_the_picture() -> None:
    root = ElementTree.fromstring(chart(Line("one", ((0, 0), (3, 999), (1234, 7)))).svg())  # noqa: S314
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    points = root.findall(f"{_SVG}polyline")[0].attrib["points"].split()
    for x, y in (map(float, point.split(",")) for point in points):
        assert 0 < x < width
        assert 0 < y < height


def test_counts_go_up_by_one_at_each_moment_whatever_their_order() -> None:
    line = counted("ready", [3.0, 1.0, 2.0])
    assert list(line.points) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    polyline = ElementTree.fromstring(chart(line).svg()).findall(f"{_SVG}polyline")[0]  # noqa: S314
    places = [place.split(",") for place in polyline.attrib["points"].split()]
    assert all(one[0] == other[0] or one[1] == other[1] for one, other in pairwise(places))


def test_a_chart_without_values_is_an_empty_frame() -> None:
    assert not ElementTree.fromstring(chart().svg()).findall(f"{_SVG}polyline")  # noqa: S314
