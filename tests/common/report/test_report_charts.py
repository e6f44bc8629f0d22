"""Line charts: every point where it belongs, gaps where nothing is defined, names that cannot break out."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from carom.common.report.charts import Point, Series, line_chart

BOTH = [
    Series("a to b", [Point(1, 0.0, -0.1, 0.1), Point(10, 0.5, 0.4, 0.6), Point(100, 1.0, 0.9, 1.0)]),
    Series("</text><script>", [Point(1, 0.2), Point(10, None), Point(100, 0.4)]),
]


def drawn(**more):
    text = line_chart(BOTH, title="E & cost", x_label="gradients", y_label="E", **more)
    return text, ElementTree.fromstring(text)


def places(group):
    found = [
        re.search(r"translate\(([\d.]+) ([\d.]+)\)", m.get("transform"))
        for m in group.iter("path")
        if m.get("transform")
    ]
    return [(float(m[1]), float(m[2])) for m in found]


def test_points_lie_evenly_on_a_logarithmic_axis_and_heights_follow_the_values():
    _, svg = drawn(log=True)
    (x0, y0), (x1, y1), (x2, y2) = places(svg.findall("g")[0])
    assert abs((x1 - x0) - (x2 - x1)) < 0.2
    assert abs((y0 - y1) - (y1 - y2)) < 0.2
    assert y0 > y2
    (x0, _), (x1, _), (x2, _) = places(drawn()[1].findall("g")[0])
    assert abs((x1 - x0) * 11 - (x2 - x0)) < 1


def test_what_is_not_defined_is_a_gap_and_names_are_text():
    text, svg = drawn(log=True)
    second = svg.findall("g")[1]
    assert len(places(second)) == 2
    assert len([p for p in second if p.get("class") == "line"]) == 2, "two stretches, not joined"
    assert "<script>" not in text
    assert svg.get("aria-label") == "E & cost"
    assert "".join(svg.itertext()).count("</text><script>") == 3  # two titles and the legend
    assert " style=" not in text


def test_nothing_defined_is_no_chart():
    assert line_chart([Series("a", [Point(1, None)])], title="", x_label="", y_label="") == ""
    one = line_chart([Series("a", [Point(5, 0.5)])], title="", x_label="", y_label="", log=True)
    assert len(places(ElementTree.fromstring(one).findall("g")[0])) == 1


def test_numbers_of_an_axis_stand_apart_and_the_last_is_kept():
    points = [Point(x, 0.5) for x in (1, 10, 179, 202, 211)]
    svg = ElementTree.fromstring(line_chart([Series("a", points)], title="", x_label="", y_label="", log=True))
    numbers = [t.text for t in svg.findall("text") if t.get("class") == "middle"]
    assert [n for n in numbers if n] == ["1", "10", "211"]
