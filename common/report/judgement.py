"""The page of a judgement: a picture of what each attacker leaves of each model, the tests of the attackers, and examples.

It keeps to the rules of the other report (`page`): one file, nothing from the network, every name escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from carom.common.base.files import write_atomically
from carom.common.report.charts import Point, Series, line_chart
from carom.common.report.page import POLICY, Example, _asset, _environment, _panel, _sha256, check_panel
from carom.common.report.values import flatten, plain, rate, short, visible

TITLE = "What attackers leave of each model"

LEFT, ACROSS, ROW, TOP, BOTTOM = 240, 420, 54, 14, 34  # of the picture, in pixels
NAME = 34  # characters of a name beside a row

MARKS = {
    "clean": ("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z", "clean accuracy"),
    "transfer": ("M0-5L5 0L0 5L-5 0Z", "crafted elsewhere, no evidence"),
    "same defence": ("M0 5L5-4H-5Z", "crafted behind the same defence elsewhere, no evidence"),
    "query": ("M0-5L5 4H-5Z", "by queries alone"),
    "adaptive": ("M-4.5-4.5h9v9h-9Z", "by one who knows the defence"),
}
"""Shape and meaning of each mark of the picture, from the upper to the lower edge of a line."""

APART = 8
"""Between the marks of a line, so that equal values do not hide each other."""


def write_judgement(path: Path, summary: Mapping[str, Any], examples: Sequence[Example], title: str = TITLE) -> None:
    """Write the page of what `carom defend --json` prints. Raises OSError where `path` cannot be written."""
    write_atomically(Path(path), render_judgement(summary, examples, title).encode())


def render_judgement(summary: Mapping[str, Any], examples: Sequence[Example], title: str = TITLE) -> str:
    """The page as text."""
    study, seen = plain(summary), plain(summary, visible)
    style = _asset("report.css").replace("/* scale */", "") + _asset("judgement.css")
    script = ""
    for panel in (panel for example in examples for panel in example.panels):
        check_panel(panel)
    return (
        _environment()
        .from_string(_asset("judgement.html"))
        .render(
            title=visible(title),
            policy=POLICY.format(style=_sha256(style), script=_sha256(script)),
            style=Markup(style),
            study=study,
            seen=seen,
            parts=[_part(name, part, examples) for name, part in seen["modalities"].items()],
            manifest=list(flatten(seen.get("manifest", {}))),
            marks=[(kind, Markup(shape), said) for kind, (shape, said) in MARKS.items()],
        )
    )


def _part(name: str, part: Mapping[str, Any], examples: Sequence[Example]) -> dict[str, Any]:
    kept = [e for e in examples if visible(e.modality) == name]
    notes = list(dict.fromkeys(panel.note for e in kept for panel in e.panels if panel.note))
    return {
        "name": name,
        "part": part,
        "models": part["models"],
        "picture": picture(part["models"]),
        "curve": _curve(part["models"]),
        "rejects": any(row["rejected_clean"] is not None for row in part["models"]),
        "examples": [_card(e) for e in kept],
        "notes": notes,
    }


def _card(e: Example) -> dict[str, Any]:
    names = ("id", "target", "attack", "label", "target_says", "outcome")
    return {**{name: visible(str(getattr(e, name))) for name in names}, "panels": [_panel(p) for p in e.panels]}


def picture(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """An `<svg>` with one line a model: a mark for the accuracy that each attacker leaves, and a bar for robust accuracy
    with its interval, or its upper bound, hatched, where the attacks do not allow a number."""

    def x(value: float) -> float:
        return round(LEFT + ACROSS * value, 1)

    height = TOP + ROW * len(rows) + BOTTOM
    whole = Markup(
        '<svg class="judged" role="img" aria-label="{}" viewBox="0 0 {w} {h}" width="{w}" height="{h}">'
    ).format("Accuracy that each attacker leaves of each model", w=LEFT + ACROSS + 24, h=height)
    floor = TOP + ROW * len(rows)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        whole += Markup('<path class="rule" d="M{} {}V{}"/><text class="middle" x="{}" y="{}">{}</text>').format(
            x(tick), TOP, floor, x(tick), floor + 18, rate(float(tick))
        )
    for number, row in enumerate(rows):
        whole += _line(row, TOP + ROW * number + ROW // 2, x)
    return whole + Markup("</svg>")


def _line(row: Mapping[str, Any], y: int, x: Any) -> Markup:
    said = row["status"] if row["robust_accuracy"] is None else f"robust {rate(row['robust_accuracy'])}"
    out = Markup('<text class="end name" x="{}" y="{}"><title>{}</title>{}</text>').format(
        LEFT - 12, y - 2, row["model"], short(row["model"], NAME)
    )
    out += Markup('<text class="end{}" x="{}" y="{}">{}</text>').format(
        " flag" if row["robust_accuracy"] is None else "", LEFT - 12, y + 13, said
    )
    value = row["at_most"] if row["robust_accuracy"] is None else row["robust_accuracy"]
    kind = "bound" if row["robust_accuracy"] is None else "robust"
    out += Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="42"><title>{}</title></rect>').format(
        kind, x(0), y - 21, max(1.0, round(x(value) - x(0), 1)), f"{said}; at most {rate(row['at_most'])}"
    )
    if row["robust_low"] is not None:
        out += Markup('<path class="whisker" d="M{} {}H{}"/>').format(x(row["robust_low"]), y, x(row["robust_high"]))
    marks = [("clean", row["clean_accuracy"], "clean accuracy")]
    marks += [
        (a["attacker"], a["accuracy"], f"{a['attack']} from {a['source']}, {a['attacker']}") for a in row["attacks"]
    ]
    for name, at, label in marks:
        out += Markup('<path class="mark {}" transform="translate({} {})" d="{}"><title>{}: {}</title></path>').format(
            name.replace(" ", "-"), x(at), y + APART * (list(MARKS).index(name) - 2), MARKS[name][0], label, rate(at)
        )
    return out


def _curve(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Accuracy against budget, a line a model; empty where no model has several."""
    several = [row for row in rows if len(row["curve"]) > 1]
    series = [
        Series(
            row["model"] + ("" if row["robust_accuracy"] is not None else " (at most)"),
            [Point(p["eps"], p["accuracy"], p["low"], p["high"]) for p in row["curve"]],
        )
        for row in several
    ]
    if not series:
        return Markup("")
    kind = str(several[0]["curve"][0]["threat"]).split()[0]
    return line_chart(
        series, title="Robust accuracy against budget", x_label=f"budget, {kind}", y_label="robust accuracy"
    )
