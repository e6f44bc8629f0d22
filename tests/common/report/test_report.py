"""The report as text: well-formed, self-contained, honest about what is missing. What a browser makes of it is tested
in test_report_browser.py."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_study as made

from carom.common.measure.cells import cell_of
from carom.common.modality.panels import WordDiff
from carom.common.report import page as report
from carom.common.report import values, views
from carom.common.report.page import Example, render, write_report

VOID = {"meta", "img", "input", "br", "hr", "link", "wbr"}


class Page(HTMLParser):
    """Elements that do not nest raise; attributes, text and the content of scripts and styles are kept."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
        else:
            self.text.append(data)

    def all(self, tag: str, **having: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in having.items())]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(made.make_study(), made.make_examples(), "A study"))


def test_asks_nothing_of_the_network(page: Page) -> None:
    addresses = [a[name] for _, a in page.elements for name in ("src", "href", "action", "data", "srcset") if name in a]
    assert addresses
    assert all(a is not None and a.startswith(("data:", "#")) for a in addresses)
    assert "http://" not in "".join(page.raw["style"] + page.raw["script"])
    assert "https://" not in "".join(page.raw["style"] + page.raw["script"])


def test_inner_links_lead_somewhere(page: Page) -> None:
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a["href"][1:] in ids for a in page.all("a"))


def test_the_policy_names_the_one_script_and_the_one_style(page: Page) -> None:
    (meta,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.strip().split(" ", 1) for part in meta["content"].split(";"))
    data, script = page.raw["script"]
    (style,) = page.raw["style"]

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    assert policy["default-src"] == "'none'"
    assert (policy["img-src"], policy["media-src"]) == ("data:", "data:")
    assert (policy["script-src"], policy["style-src"]) == (digest(script), digest(style))
    assert json.loads(data) == values.plain(made.make_study())
    # A hash allows no style attributes and no handlers: there must be none that would silently not work.
    assert not [n for _, a in page.elements for n in a if n == "style" or n.startswith("on")]


def test_undefined_is_a_dash_and_never_zero() -> None:
    study = made.make_study()
    part = study["modalities"]["text"]
    gone = part["cells"][1]
    for name, value in gone.items():
        if isinstance(value, float):
            gone[name] = None
    part["models"][1] |= {"clean_accuracy": None, "clean_low": None, "clean_high": math.nan}
    text = render(study, [], "A study")
    title = re.search(r"<title>text-cnn to text-lstm(.*?)</title>", text)
    assert title is not None
    assert re.findall(r"\b\d*\.\d+|\b0\b", title[1]) == []
    assert title[1].count("–") >= 8
    (row,) = re.findall(r"<tr><td><bdi>text-cnn</bdi></td><td><bdi>text-lstm</bdi>.*?</tr>", text)
    # Seed, n and the count of fooled examples are whole numbers; everything else is gone.
    assert len(re.findall(r'data-value=""', row)) == len(re.findall("<td", row)) - 7
    (row,) = re.findall(r"<tr><td><bdi>text-lstm</bdi></td><td><bdi>rnn</bdi>.*?</tr>", text)
    assert '<td data-value=""><span class="value">–</span></td>' in row
    assert "clean –" in text
    assert "nan" not in text.lower().replace("banana", "")


def test_says_what_to_be_wary_of(page: Page) -> None:
    words = page.words
    assert "White-box success is below .90 on image-gru (mi-fgsm, .62)" in words
    assert "4 cells of 16 rest on fewer than 100 examples (as few as 43)" in words
    assert "already fool text-linear (textfooler, .55)" in words
    for flag in ("low success", "high control", "n = 43"):
        assert flag in words
    assert "The modalities were not run at equal white-box success" in words
    assert "only 43 examples are right on both models" in words


def test_the_control_is_held_to_the_limit_of_its_threat() -> None:
    study = made.make_study()
    for name in ("image", "text"):
        for c in study["modalities"][name]["cells"]:
            c["white_box_control"] = 0.3
    words = Page(render(study, [], "A study")).words
    assert "already fool image-resnet" in words
    assert "already fool text" not in words


def test_success_against_queries_is_drawn_for_attacks_that_pay_them(page: Page) -> None:
    assert "Success against queries" not in page.words
    study = made.make_study()
    points = [{"queries": q, "success": s, "low": s - 0.05, "high": s + 0.05} for q, s in ((1, 0.05), (10, 0.4))]
    names = [("image-resnet", "square"), ("image-resnet", made.HOSTILE), ("image-vit", "square")]
    study["modalities"]["image"]["queries"] = [
        {"source": s, "attack": a, "threat": "linf 8/255", "eps": 0.03, "seed": 0, "n": 150, "points": points}
        for s, a in names
    ]
    text = render(study, [], "A study")
    drawn = Page(text)
    assert drawn.words.count("Success against queries") == 1
    assert text.count('<figure class="queries">') == 2
    charts = re.findall(r'<svg class="chart".*?</svg>', text, re.S)
    assert [chart.count('class="band"') for chart in charts] == [2, 1]
    assert "square: .40 [.35, .45] at 10" in text
    assert made.HOSTILE not in text


def test_failures_are_named() -> None:
    study = made.make_study()
    study["modalities"]["audio"]["failures"] = [{"what": "mi-fgsm on audio-gru", "error": "MemoryError: too long"}]
    study["modalities"]["audio"]["cells"] = []
    words = Page(render(study, [], "A study")).words
    assert "1 unit of work failed" in words
    assert "MemoryError: too long" in words
    assert "No cell was computed" in words


@pytest.mark.parametrize("study", [{}, {"modalities": {}}, {"modalities": {}, "seconds": None, "manifest": {"a": []}}])
def test_an_empty_study_is_a_page_too(study: dict) -> None:
    assert "The study holds no modality" in Page(render(study, [], "")).words


def test_white_box_cells_are_marked_and_others_not(page: Page) -> None:
    cells = [a for a in page.all("g") if (a.get("class") or "").startswith("cell")]
    assert len(cells) == 25 + 16 + 16
    marked = [a["data-route"] for a in cells if "white-box" in a["class"].split()]
    assert len(marked) == 5 + 4 + 4
    assert all(re.match(r"(\w+): (\S+) to \2,", route) for route in marked)


def test_families_are_never_pooled_over_modalities(page: Page) -> None:
    def found(name: str) -> list[float]:
        cells = made.make_study()["modalities"][name]["cells"]
        return [c["excess"] for c in cells if (c["source_family"], c["target_family"]) == ("cnn", "rnn")]

    image, (audio,) = found("image"), found("audio")
    row = page.words.split("cnn → rnn ")[1].split(" cnn → transformer ")[0]
    assert row.startswith(f"E {values.rate(sum(image) / len(image))} ")
    assert f"E {values.rate(audio)} " in row
    assert row.count("E ") == 3


def test_several_seeds_share_a_cell_and_several_attacks_do_not() -> None:
    study = made.make_study()
    cells = study["modalities"]["text"]["cells"]
    second = [{**c, "seed": 1, "excess": 0.0, "excess_low": -0.1, "excess_high": 0.1} for c in cells]
    other = [{**c, "attack": "random"} for c in cells]
    groups = views.heat_map_groups([cell_of(row) for row in cells + second + other])
    assert [len(g) for g in groups] == [32, 16]
    study["modalities"]["text"]["cells"] = cells + second + other
    text = render(study, [], "A study")
    assert "Each cell averages 2 seeds (0 and 1)" in text
    first = cells[0]["excess"]
    assert views.mean_of([cell_of(cells[0]), cell_of(second[0])], "excess").value == pytest.approx(first / 2)
    wanted = f"<title>text-cnn to text-cnn (white-box), n = {cells[0]['n']}; Excess E {values.rate(first / 2)} "
    assert wanted in text


def test_one_map_holds_sources_with_different_attacks() -> None:
    cells = [
        cell_of({"source": s, "target": s, "attack": a, "threat": t, "seed": 0})
        for s, a, t in [
            *(("cnn", "pgd", "a"), ("tree", "leaf", "a"), ("cnn", "mi", "a"), ("cnn", "pgd", "b"), ("rnn", "mi", "a")),
        ]
    ]
    groups = [[(c.source, c.attack, c.terms.threat) for c in g] for g in views.heat_map_groups(cells)]
    assert groups == [
        [("cnn", "pgd", "a"), ("tree", "leaf", "a"), ("rnn", "mi", "a")],
        [("cnn", "mi", "a")],
        [("cnn", "pgd", "b")],
    ]


# Examples.


def test_the_file_stays_below_its_limit_and_says_what_is_missing(tmp_path: Path) -> None:
    examples = made.make_examples(per_outcome=5)
    path = tmp_path / "report.html"
    write_report(path, made.make_study(), examples, per_cell=12, limit=1_000_000)
    assert 700_000 < path.stat().st_size <= 1_000_000
    page = Page(path.read_text(encoding="utf-8"))
    kept = len(page.all("article"))
    assert f"{len(examples) - kept} of {len(examples)} examples are left out" in page.words
    assert "39 because at most 12 are shown" in page.words
    assert "to keep this file below 1 MB" in page.words
    counts = Counter(a["data-number"] for a in page.all("article"))
    assert len(counts) == 13
    assert max(counts.values()) - min(counts.values()) <= 1


def test_nothing_is_left_out_unless_it_must_be(page: Page) -> None:
    assert len(page.all("article")) == 39
    assert "left out" not in page.words


def test_no_room_shows_no_example() -> None:
    page = Page(render(made.make_study(), made.make_examples(), "A study", limit=1000))
    assert page.all("article") == []
    assert "39 of 39 examples are left out" in page.words


def test_outcomes_take_turns() -> None:
    def example(i: int, outcome: str) -> Example:
        return Example("text", str(i), "s", "t", "a", "y", "y", "y", outcome, [])

    examples = [example(i, "transferred") for i in range(5)] + [example(5, "failed"), example(6, "source only")]
    assert [e.id for e in report.thin(examples, 4)] == ["0", "1", "5", "6"]


@pytest.mark.parametrize(
    ("room", "kept"),
    [(0, []), (1, [0]), (2, [0, 3]), (3, [0, 3, 5]), (4, [0, 1, 3, 5]), (5, [0, 1, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])],
)
def test_examples_are_dropped_evenly(room: int, kept: list[int]) -> None:
    keys = [("m", "s", t, "a") for t in "xxxyyz"]
    assert report.fitting(keys, [1] * 6, room) == kept


def test_other_panels_are_refused() -> None:
    example = Example("text", "1", "s", "t", "a", "y", "y", "y", "failed", ["a string"])
    with pytest.raises(TypeError, match="str is not a panel"):
        render(made.make_study(), [example], "A study")


def test_white_space_of_a_text_is_kept() -> None:
    panel = WordDiff("", [("", "one\ttwo\n"), ("del", "a"), ("ins", "b"), ("", ", c")])
    text = render({}, [Example("text", "1", "s", "t", "a", "y", "y", "y", "failed", [panel])], "A study")
    assert '<p dir="auto">one\ttwo\n<del>a</del><ins>b</ins>, c</p>' in text


# Hostile text.


def test_hostile_text_is_shown_and_does_nothing() -> None:
    study, examples = made.make_hostile()
    text = render(study, examples, made.HOSTILE + made.UNSEEN)
    text.encode()  # a lone surrogate would raise
    page = Page(text)
    assert len(page.raw["script"]) == 2
    assert page.all("img") == []
    assert json.loads(page.raw["script"][0]) == values.plain(study)
    assert made.HOSTILE in "".join(page.text)
    assert "left⟨U+202E⟩right⟨U+2066⟩⟨U+0000⟩⟨U+001B⟩[31mred⟨U+200B⟩⟨U+D800⟩" in "".join(page.text)
    hidden = {c for c in text if unicodedata.category(c) in values.HIDDEN}
    assert hidden == {"\n"}


def test_visible_leaves_what_can_be_seen() -> None:
    assert values.visible("naïve Ω שלום 日本 e\u0301") == "naïve Ω שלום 日本 e\u0301"
    assert values.visible("a\nb", keep="\n") == "a\nb"
    assert values.visible("a\x7f\x85\u2028\ufeff") == "a⟨U+007F⟩⟨U+0085⟩⟨U+2028⟩⟨U+FEFF⟩"


# Values and colours.


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, ".00"), (0.314, ".31"), (1.0, "1.00"), (-0.05, "−.05"), (-0.001, ".00"), (1.5, "1.50")],
)
def test_rate(value: float | None, text: str) -> None:
    assert values.rate(value) == text


def test_plain_is_what_json_can_hold() -> None:
    import numpy as np

    value = {1: np.float64("nan"), "a": (np.int64(3), math.inf, True, Path("x")), "b": np.arange(2)}
    assert values.plain(value) == {"1": None, "a": [3, None, True, "x"], "b": [0, 1]}


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (None, "undefined"),
        (0.0, "p0"),
        (1.0, "p20"),
        (1.7, "p20"),
        (0.51, "p10"),
        (-0.01, "n1"),
        (-2, "n20"),
    ],
)
def test_shade(value: float | None, level: str) -> None:
    assert values.shade(value) == level


@pytest.mark.parametrize(("stops", "darker"), [(values.LIGHT, True), (values.DARK, False)])
def test_the_scale_is_told_apart_by_brightness_alone(stops: tuple[str, ...], darker: bool) -> None:
    levels = [values.luminance(values.blend(stops, k / values.LEVELS)) for k in range(values.LEVELS + 1)]
    assert levels == sorted(levels, reverse=darker)


@pytest.mark.parametrize("stops", [values.LIGHT, values.LIGHT_BELOW, values.DARK, values.DARK_BELOW])
def test_numbers_stand_out_on_every_level(stops: tuple[str, ...]) -> None:
    for k in range(values.LEVELS + 1):
        fill = values.luminance(values.blend(stops, k / values.LEVELS))
        assert max(1.05 / (fill + 0.05), (fill + 0.05) / 0.05) >= 4.5


def test_names_are_shortened_in_the_middle() -> None:
    assert values.short("audio-transformer", 17) == "audio-transformer"
    assert values.short("image-resnet-half-1", 12) == "image-…alf-1"
    assert len(values.short("x" * 50, 12)) == 12


def test_a_model_that_resizes_inside_is_named_among_the_warnings() -> None:
    study = made.make_study()
    said = "resizes 32 x 32 -> 224 x 224 inside the model: a hidden defence"
    study["modalities"]["image"]["models"][0]["facts"] = {"weights": "V2", "resizes": said}
    page = Page(render(study, [], "A study"))
    assert page.words.count(said) == 2, "in the summary and beside the models"
    assert f"image-resnet: V2 and {said}" in page.words


def test_cautions_name_a_few_and_count_many() -> None:
    runs = [
        views.CraftedSet(
            cell_of(
                {"source": f"m{i}", "target": "t", "attack": "a", "seed": 0}
                | {"white_box": i / 100, "white_box_control": i / 100}
            ),
            None,
            ("low success", "high control"),
        )
        for i in range(views.NAMED + 1)
    ]
    low, high = views._cautions(runs, [])
    assert (
        f"below .90 on {views.NAMED + 1} of {views.NAMED + 1} crafted sets, worst m0 (a, .00), m1 (a, .01) and m2 (a, .02)"
        in low
    )
    assert f"crafted sets, worst m{views.NAMED} (a, .08)" in high
    assert "on m0 (a, .00) and m1 (a, .01):" in views._cautions(runs[:2], [])[0]
