"""The report: a study and some of its adversarial examples as one HTML file that works offline.

The page asks nothing of the network. Its content security policy forbids everything but inline images, sounds, the one
style sheet and the one script, each named by its hash; jinja2 escapes every name and text. Characters that would not
be seen, or would reorder what is seen (controls, bidirectional overrides, zero-width characters), are shown by their
code points, because in adversarial text they may be the attack.

A rate that is not defined is None and is shown as an en dash, never as 0.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from carom.common.modality import Panel, Picture, Sound, WordDiff
from carom.common.problem import Family
from carom.common.store import write_atomically
from carom.common.transfer import LEAST_EXAMPLES, LEAST_WHITE_BOX, MOST_CONTROL

PER_CELL = 6
"""Examples shown of one source, target and attack, unless told otherwise."""

LIMIT = 10_000_000
"""Bytes of a report, unless told otherwise."""

DASH = "–"
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
    "base-uri 'none'; form-action 'none'"
)
MEASURES = (
    ("excess", "Excess E"),
    ("transfer", "Transfer T"),
    ("control", "Control N"),
    ("relative", "Relative R"),
)

Row = Mapping[str, Any]
"""One cell of a study: source, target, attack, threat, seed and what was measured."""


@dataclass(frozen=True)
class Example:
    """One adversarial example to show."""

    modality: str
    id: str
    source: str
    target: str
    attack: str
    label: str  # the class it belongs to
    source_says: str  # classes the two models give the adversarial input
    target_says: str
    outcome: str  # "transferred", "source only" or "failed"
    panels: Sequence[Panel]


def write_report(
    path: Path,
    study: Mapping[str, Any],
    examples: Sequence[Example],
    title: str = "How adversarial examples transfer",
    *,
    per_cell: int = PER_CELL,
    limit: int = LIMIT,
) -> None:
    """Write the report of a study: what `carom demo --json` prints, with examples to look at.

    At most `per_cell` examples of a source, target and attack are shown, and fewer where the file would grow past
    `limit` bytes; the report says how many were left out. Raises OSError where `path` cannot be written.
    """
    write_atomically(Path(path), render(study, examples, title, per_cell=per_cell, limit=limit).encode())


def render(
    study: Mapping[str, Any],
    examples: Sequence[Example],
    title: str,
    *,
    per_cell: int = PER_CELL,
    limit: int = LIMIT,
) -> str:
    """The report as text."""
    study = plain(study)
    seen = plain(study, visible)
    page, card = _templates()
    number = _Numbers()
    modalities = [_modality(name, part, number) for name, part in seen.get("modalities", {}).items()]
    style, script = _asset("report.css").replace("/* scale */", scale_css()), _asset("report.js")
    few = thin(examples, per_cell)
    cards = [card.render(e=_example(e, number)) for e in few]

    def whole(kept: Sequence[int]) -> str:
        groups: dict[str, list[Markup]] = {}
        for i in kept:
            groups.setdefault(visible(few[i].modality), []).append(Markup(cards[i]))
        return page.render(
            title=visible(title),
            policy=POLICY.format(style=_sha256(style), script=_sha256(script)),
            style=Markup(style),
            script=Markup(script),
            study=study,
            seen=seen,
            modalities=modalities,
            families=_families(modalities),
            measures=MEASURES,
            groups=groups,
            audible={visible(e.modality) for e in few if any(isinstance(p, Sound) for p in e.panels)},
            shown=len(kept),
            offered=len(examples),
            over_cell=len(examples) - len(few),
            over_limit=len(few) - len(kept),
            per_cell=per_cell,
            limit=limit,
            manifest=list(flatten(seen.get("manifest", {}))),
        )

    sizes = [len(c.encode()) for c in cards]
    base = len(whole([]).encode()) + 1000  # what the sentences about left-out examples may add
    return whole(fitting([_key(e) for e in few], sizes, limit - base))


# Which examples are shown.

Key = tuple[str, str, str, str]
"""Modality, source, target and attack: a cell of a heat map and its examples."""


def _key(e: Example) -> Key:
    return e.modality, e.source, e.target, e.attack


def thin(examples: Sequence[Example], per_cell: int) -> list[Example]:
    """At most `per_cell` of each modality, source, target and attack, taking turns between the outcomes."""
    cells: dict[Key, dict[str, list[int]]] = {}
    for i, e in enumerate(examples):
        cells.setdefault(_key(e), {}).setdefault(e.outcome, []).append(i)
    kept = []
    for outcomes in cells.values():
        turns = sorted((turn, i) for of in outcomes.values() for turn, i in enumerate(of))
        kept += [i for _, i in turns[:per_cell]]
    return [examples[i] for i in sorted(kept)]


def fitting(cells: Sequence[Key], sizes: Sequence[int], room: int) -> list[int]:
    """Indices of the examples to keep so that their sizes add up to at most `room`, spread evenly over the cells.

    Every cell keeps its first example before any keeps its second; of the round that no longer fits, examples at
    equal distances are kept.
    """
    rounds: dict[int, list[int]] = {}
    count: Counter[Key] = Counter()
    for i, cell in enumerate(cells):
        rounds.setdefault(count[cell], []).append(i)
        count[cell] += 1
    kept: list[int] = []
    for _, turn in sorted(rounds.items()):
        for m in range(len(turn), -1, -1):
            some = [turn[k * len(turn) // m] for k in range(m)]
            if sum(sizes[i] for i in some) <= room:
                break
        kept += some
        room -= sum(sizes[i] for i in some)
        if m < len(turn):
            break
    return sorted(kept)


# How values are written.


HIDDEN = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
"""Unicode categories without a shape of their own: controls, formats (bidirectional, zero width), lone surrogates,
unassigned code points, line and paragraph breaks."""


def visible(text: str, keep: str = "") -> str:
    """The text with each character that would not be seen, `keep` apart, replaced by its code point.

    >>> visible("a\\x00b\\u202ec")
    'a⟨U+0000⟩b⟨U+202E⟩c'
    """
    return "".join(f"⟨U+{ord(c):04X}⟩" if c not in keep and unicodedata.category(c) in HIDDEN else c for c in text)


def plain(value: Any, text: Callable[[str], str] = str) -> Any:
    """The value as JSON can hold it: numbers that are not finite become None, strings pass through `text`."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {text(str(k)): plain(v, text) for k, v in value.items()}
    if isinstance(value, Iterable):
        return [plain(v, text) for v in value]
    return plain(value.item(), text) if hasattr(value, "item") else text(str(value))


def rate(value: float | None) -> str:
    """.31, −.05, 1.00; an en dash where it is not defined."""
    if value is None:
        return DASH
    digits = f"{abs(value):.2f}"
    sign = "−" if value < 0 and digits != "0.00" else ""
    return sign + (digits[1:] if digits.startswith("0") else digits)


def interval(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"[{rate(low)}, {rate(high)}]"


def span(values: Iterable[float | None]) -> str:
    """The smallest and the largest as ".91 to .99"; one number where they read the same."""
    known = [v for v in values if v is not None]
    if not known:
        return DASH
    low, high = rate(min(known)), rate(max(known))
    return low if low == high else f"{low} to {high}"


def amount(value: float | None) -> str:
    """A cost: three digits, grouped by thousands."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def listing(names: Iterable[str]) -> str:
    names = list(names)
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def short(name: str, most: int) -> str:
    """The name in at most so many characters, its two ends kept: models often differ in their last letters."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def flatten(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """A nested record as (dotted name, text) pairs."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flatten(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        for i, part in enumerate(value):
            yield from flatten(part, f"{name}.{i}")
    elif isinstance(value, list):
        yield name, " ".join(str(v) for v in value) or DASH
    else:
        yield name, DASH if value is None else str(value)


# Colour: one scale from 0 to 1 in blue, darker (on a dark page: lighter) for more; below 0 in orange and hatched.

LEVELS = 20
LIGHT = ("#f3f6fa", "#c6daec", "#86b3d9", "#3f7fb9", "#0b3d70")
LIGHT_BELOW = ("#fdf1e4", "#f2b878", "#a34b00")
DARK = ("#20262d", "#25435f", "#2f6b9f", "#62a5d8", "#c9e6ff")
DARK_BELOW = ("#30271d", "#8a5a22", "#f2ad66")


def shade(value: float | None) -> str:
    """The class of a cell's colour: p0 to p20 for 0 to 1, n1 to n20 below 0."""
    if value is None:
        return "undefined"
    if rate(value).startswith("−"):
        return f"n{max(1, round(min(-value, 1) * LEVELS))}"
    return f"p{round(max(0, min(value, 1)) * LEVELS)}"


def blend(stops: Sequence[str], share: float) -> tuple[int, ...]:
    """The colour at `share` of the way along the stops, (red, green, blue) of 0 to 255."""
    place = share * (len(stops) - 1)
    i = min(int(place), len(stops) - 2)
    ends = [[int(stop[k : k + 2], 16) for k in (1, 3, 5)] for stop in stops[i : i + 2]]
    return tuple(round(a + (b - a) * (place - i)) for a, b in zip(*ends, strict=True))


def luminance(colour: Sequence[int]) -> float:
    """Relative luminance as in WCAG 2."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@cache
def scale_css() -> str:
    """Fill and ink of every level, ink being whichever of black and white stands out more."""

    def rules(above: Sequence[str], below: Sequence[str]) -> str:
        out = []
        for name, stops in (("p", above), ("n", below)):
            for level in range(LEVELS + 1):
                fill = blend(stops, level / LEVELS)
                ink = "#fff" if luminance(fill) < 0.179 else "#000"
                out.append(f".{name}{level} rect{{fill:#{bytes(fill).hex()}}}.{name}{level} text{{fill:{ink}}}")
        return "\n".join(out)

    dark = rules(DARK, DARK_BELOW)
    return f"{rules(LIGHT, LIGHT_BELOW)}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"


# What the page says of a modality.


class _Numbers:
    """A number for each key: what ties a cell of a heat map to its examples, whatever their names hold."""

    def __init__(self) -> None:
        self.known: dict[Key, int] = {}

    def __call__(self, modality: str, source: str, target: str, attack: str) -> int:
        return self.known.setdefault((modality, source, target, attack), len(self.known))


def _modality(name: str, part: Row, number: _Numbers) -> dict[str, Any]:
    cells = part.get("cells", [])
    models = {m["name"]: m for m in part.get("models", [])}
    runs = _runs(name, cells)
    maps = [_heat_map(name, group, models, runs, number) for group in heat_map_groups(cells)]
    between = [c for c in cells if c["source"] != c["target"] and c["excess"] is not None]
    told = Counter((text, c["source"]) for c in cells for text in c.get("warnings") or [])
    return {
        "name": name,
        "title": name[:1].upper() + name[1:],
        "part": part,
        "models": sorted(models.values(), key=lambda m: family_order(m["family"])),
        "runs": runs,
        "maps": maps,
        "cells": cells,
        "sources": _distinct(c["source"] for c in cells),
        "targets": _distinct(c["target"] for c in cells),
        "attacks": _distinct(c["attack"] for c in cells),
        "threats": _distinct(str(c["threat"]) for c in cells),
        "between": len(between),
        "best": max(between, key=lambda c: c["excess"], default=None),
        "cautions": _cautions(runs, cells),
        "told": [(text, source, n) for (text, source), n in told.items()],
        "failures": part.get("failures") or [],
        "skipped": part.get("skipped") or [],
        "targeted": any(c.get("targeted") is not None for c in cells),
    }


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def family_order(family: str) -> int:
    known = [f.value for f in Family]
    return known.index(family) if family in known else len(known)


def _runs(modality: str, cells: Sequence[Row]) -> list[dict[str, Any]]:
    """White-box success of each source, attack, threat and seed, with what is wrong with it."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for c in cells:
        groups.setdefault((c["source"], c["attack"], c["threat"], c["seed"]), []).append(c)
    runs = []
    for of in groups.values():
        first = of[0]
        own = next((c for c in of if c["target"] == c["source"]), None)
        success, control = first.get("white_box"), first.get("white_box_control")
        flags = []
        if success is None:
            flags.append("not measured")
        elif success < LEAST_WHITE_BOX:
            flags.append("low success")
        # Random words are only as many as the attack changed, so they are compared with the attack.
        most = (success or 0) / 2 if modality == "text" else MOST_CONTROL
        if control is not None and control > most:
            flags.append("high control")
        if own is not None and own["n"] < LEAST_EXAMPLES:
            flags.append(f"n = {own['n']}")
        runs.append({**first, "own_n": own and own["n"], "flags": flags})
    return runs


def _cautions(runs: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    """In plain words, what keeps the numbers from being taken at face value."""

    def named(of: Sequence[Row], measure: str) -> str:
        return listing(_distinct(f"{r['source']} ({r['attack']}, {rate(r[measure])})" for r in of))

    said = []
    if low := [r for r in runs if "low success" in r["flags"]]:
        said.append(
            f"White-box success is below {rate(LEAST_WHITE_BOX)} on {named(low, 'white_box')}: "
            "where such a row transfers little, the attack may be what failed."
        )
    if high := [r for r in runs if "high control" in r["flags"]]:
        said.append(
            f"Random perturbations of the same budget already fool {named(high, 'white_box_control')}: "
            "much of that success is owed to the budget, not to the attack."
        )
    if unknown := [r for r in runs if "not measured" in r["flags"]]:
        said.append(f"White-box success was not measured on {listing(_distinct(r['source'] for r in unknown))}.")
    if few := [c for c in cells if c["n"] < LEAST_EXAMPLES]:
        said.append(
            f"{plural(len(few), 'cell')} of {len(cells)} rest{'s' if len(few) == 1 else ''} on fewer than "
            f"{LEAST_EXAMPLES} examples (as few as {min(c['n'] for c in few)}): the intervals are wide."
        )
    return said


def heat_map_groups(cells: Sequence[Row]) -> list[list[Row]]:
    """The cells as heat maps: within one each source has one attack, and all have one threat.

    A source's second attack goes into the next map; a source whose only attack differs from the others' shares theirs.
    """
    maps: list[tuple[Any, dict[str, str], list[Row]]] = []
    for c in cells:
        for threat, attacks, of in maps:
            if threat == c["threat"] and attacks.setdefault(c["source"], c["attack"]) == c["attack"]:
                of.append(c)
                break
        else:
            maps.append((c["threat"], {c["source"]: c["attack"]}, [c]))
    return [of for _, _, of in maps]


def mean_of(cells: Sequence[Row], measure: str) -> tuple[float | None, float | None, float | None]:
    """(value, low, high), each averaged over the cells in which it is defined.

    The average of the bounds is at least as wide as a 95% interval of the average over the same examples, whatever
    the dependence between the cells.
    """

    def mean(name: str) -> float | None:
        known = [c[name] for c in cells if c.get(name) is not None]
        return sum(known) / len(known) if known else None

    return mean(measure), mean(f"{measure}_low"), mean(f"{measure}_high")


HIGH, TOP, GAP = 54, 60, 8  # pixels: a row, the labels above the columns, the space between families
LETTER, SMALL = 6.9, 5.6  # pixels: the width of a letter of a model's name and of what stands beneath it


def _places(names: Sequence[str], family: Mapping[str, str], start: int, step: int) -> list[tuple[str, int]]:
    """Each name and its offset, sorted by family with a gap between families."""
    placed: list[tuple[str, int]] = []
    for name in sorted(names, key=lambda n: family_order(family[n])):
        if placed:
            start += step + (GAP if family[placed[-1][0]] != family[name] else 0)
        placed.append((name, start))
    return placed


def _between(least: int, most: int, widths: Iterable[float]) -> int:
    return min(most, max(least, *(math.ceil(w) for w in widths)))


def _heat_map(
    modality: str, cells: Sequence[Row], models: Mapping[str, Row], runs: Sequence[Row], number: _Numbers
) -> dict[str, Any]:
    family = {c[end]: c[f"{end}_family"] for c in cells for end in ("source", "target")}
    attack = {c["source"]: c["attack"] for c in cells}
    attacks, threat = _distinct(attack.values()), cells[0]["threat"]
    rows = _places(list(attack), family, TOP, HIGH)
    kinds = {name: family[name] + (f", {attack[name]}" if len(attacks) > 1 else "") for name in attack}
    left = _between(96, 180, [LETTER * len(n) for n in kinds] + [SMALL * len(k) for k in kinds.values()])
    targets = _distinct(c["target"] for c in cells)
    wide = _between(88, 130, [LETTER * len(n) for n in targets])
    columns = _places(targets, family, left + 10, wide)
    grid: dict[tuple[str, str], list[Row]] = {}
    for c in cells:
        grid.setdefault((c["source"], c["target"]), []).append(c)

    def source(name: str) -> dict[str, Any]:
        own = [r for r in runs if (r["source"], r["attack"], r["threat"]) == (name, attack[name], threat)]
        return {
            "name": name,
            "short": short(name, int(left / LETTER)),
            "kind": kinds[name],
            "short_kind": short(kinds[name], int(left / SMALL)),
            "white_box": span(r["white_box"] for r in own),
            "flagged": any(r["flags"] for r in own),
        }

    def target(name: str) -> dict[str, Any]:
        clean = rate(models.get(name, {}).get("clean_accuracy"))
        return {"name": name, "short": short(name, int(wide / LETTER)), "kind": family[name], "clean": clean}

    def square(row: int, column: int) -> dict[str, Any]:
        (s, y), (t, x) = rows[row], columns[column]
        of = grid.get((s, t), [])
        measured = {name: mean_of(of, name) for name, _ in MEASURES}
        return {
            "row": row,
            "column": column,
            "x": x,
            "y": y,
            "source": s,
            "target": t,
            "number": number(modality, s, t, attack[s]),
            "attack": attack[s],
            "white_box": s == t,
            "empty": not of,
            "n": span_of_counts(c["n"] for c in of),
            "few": any(c["n"] < LEAST_EXAMPLES for c in of),
            "measured": [
                (name, words, shade(value), rate(value), interval(low, high))
                for (name, words), (value, low, high) in zip(MEASURES, measured.values(), strict=True)
            ],
            "cost": [(n, amount(mean_of(of, n)[0])) for n in ("forward", "backward", "queries", "seconds")],
        }

    return {
        "modality": modality,
        "attacks": attacks,
        "threat": threat,
        "seeds": sorted({c["seed"] for c in cells}),
        "cells": cells,
        "rows": [(source(n), y) for n, y in rows],
        "columns": [(target(n), x) for n, x in columns],
        "squares": [square(r, c) for r in range(len(rows)) for c in range(len(columns))],
        "left": left,
        "cell": wide - 2,
        "width": columns[-1][1] + wide + 6,
        "height": rows[-1][1] + HIGH + 6,
    }


def span_of_counts(values: Iterable[int]) -> str:
    known = sorted(set(values))
    return DASH if not known else str(known[0]) if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _families(modalities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """E and R by source family and target family, one column a heat map; the cells of one model with itself are out."""
    maps = [(m["title"], of) for m in modalities for of in m["maps"]]
    blocks: dict[tuple[str, str], list[dict[str, Any] | None]] = {}
    for column, (_, of) in enumerate(maps):
        grouped: dict[tuple[str, str], list[Row]] = {}
        for c in of["cells"]:
            if c["source"] != c["target"]:
                grouped.setdefault((c["source_family"], c["target_family"]), []).append(c)
        for pair, cells in grouped.items():
            value, low, high = mean_of(cells, "excess")
            blocks.setdefault(pair, [None] * len(maps))[column] = {
                "excess": (rate(value), interval(low, high)),
                "relative": (rate(mean_of(cells, "relative")[0]), interval(*mean_of(cells, "relative")[1:])),
                "bar": None if None in (value, low, high) else (value, low, high),
                "pairs": len({(c["source"], c["target"]) for c in cells}),
                "span": span(c["excess"] for c in cells),
            }
    successes = {m["title"]: [r["white_box"] for r in m["runs"] if r["white_box"] is not None] for m in modalities}
    means = [sum(w) / len(w) for w in successes.values() if w]
    return {
        "maps": maps,
        "rows": sorted(blocks.items(), key=lambda row: [family_order(f) for f in row[0]]),
        "successes": [(title, span(w), len(w)) for title, w in successes.items()],
        "apart": max(means) - min(means) if len(means) > 1 else None,
    }


# What the page shows of an example.


def _example(e: Example, number: _Numbers) -> dict[str, Any]:
    names = ("modality", "id", "source", "target", "attack", "label", "source_says", "target_says", "outcome")
    seen = {name: visible(str(getattr(e, name))) for name in names}
    key = [seen[name] for name in ("modality", "source", "target", "attack")]
    return {**seen, "number": number(*key), "panels": [_panel(p) for p in e.panels]}


def _panel(panel: Panel) -> dict[str, Any]:
    if not isinstance(panel, Picture | Sound | WordDiff):
        raise TypeError(f"{type(panel).__name__} is not a panel: use Picture, Sound or WordDiff")
    caption = visible(panel.caption)
    if isinstance(panel, Picture):
        # The width and height in a PNG's header keep the page from moving while it is decoded.
        width, height = struct.unpack(">II", panel.png[16:24]) if len(panel.png) >= 24 else (1, 1)
        return {
            "kind": "picture",
            "caption": caption,
            "uri": _uri("image/png", panel.png),
            "width": width,
            "height": height,
            "small": max(width, height) <= 96,
        }
    if isinstance(panel, Sound):
        return {
            "kind": "sound",
            "caption": caption,
            "uri": _uri("audio/wav", panel.wav),
            "outline": outline_path(panel.outline),
            "columns": max(1, len(panel.outline) - 1),
        }
    runs = [(how if how in ("del", "ins") else "", visible(text, keep="\n\t")) for how, text in panel.runs]
    return {"kind": "words", "caption": caption, "runs": runs}


def outline_path(outline: Sequence[tuple[float, float]]) -> str:
    """An SVG path around the waveform, one unit a column, 200 high: along its highest samples and back along the
    lowest."""

    def y(value: float, thicker: int) -> int:
        return round(100 - 100 * max(-1.0, min(1.0, value if math.isfinite(value) else 0.0))) + thicker

    above = [f"{x} {y(high, -1)}" for x, (_, high) in enumerate(outline)]
    below = [f"{x} {y(low, 1)}" for x, (low, _) in enumerate(outline)]
    return f"M{'L'.join(above + below[::-1])}Z" if outline else ""


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# Templates.


def _asset(name: str) -> str:
    return (files("carom.common.templates") / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _templates() -> tuple[Template, Template]:
    """The page and the card of one example."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    for function in (rate, interval, span, amount, listing, short, plural):
        environment.globals[function.__name__] = function
    return environment.from_string(_asset("report.html")), environment.from_string(_asset("example.html"))
