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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from carom.common.base.files import write_atomically
from carom.common.modality.panels import Panel
from carom.common.report.families import families_view
from carom.common.report.values import amount, flatten, interval, listing, plain, plural, rate, scale_css, visible
from carom.common.report.views import MEASURES, Key, Numbers, modality_view

PER_CELL = 6
"""Examples shown of one source, target and attack, unless told otherwise."""

LIMIT = 10_000_000
"""Bytes of a report, unless told otherwise."""

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
    "base-uri 'none'; form-action 'none'"
)


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
    outcome: str  # "transferred", "source only", "failed"; "fooled" where target and source are one
    panels: Sequence[Panel]
    size: str = ""  # how far it is from the clean input: "Linf .110, SSIM .93"


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
    number = Numbers()
    modalities = [modality_view(name, part, number) for name, part in seen.get("modalities", {}).items()]
    style, script = _asset("report.css").replace("/* scale */", scale_css()), _asset("report.js")
    few = thin(examples, per_cell)
    for panel in (panel for e in few for panel in e.panels):
        check_panel(panel)
    cards = [card.render(e=_example(e, number)) for e in few]
    notes: dict[str, list[str]] = {}
    for e in few:
        known = notes.setdefault(visible(e.modality), [])
        known += [note for note in dict.fromkeys(p.note for p in e.panels) if note and note not in known]

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
            families=families_view(modalities),
            measures=MEASURES,
            groups=groups,
            notes=notes,
            shown=len(kept),
            offered=len(examples),
            outcomes={few[i].outcome for i in kept},
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


# What the page shows of an example.


def _example(e: Example, number: Numbers) -> dict[str, Any]:
    names = ("modality", "id", "source", "target", "attack", "label", "source_says", "target_says", "outcome", "size")
    seen = {name: visible(str(getattr(e, name))) for name in names}
    key = [seen[name] for name in ("modality", "source", "target", "attack")]
    return {**seen, "number": number(*key), "panels": [_panel(p) for p in e.panels]}


def check_panel(panel: Panel) -> None:
    """Raise TypeError for what no figure can be made of."""
    if not isinstance(panel, Panel):
        raise TypeError(f"{type(panel).__name__} is not a panel: it needs kind, template, caption and values")
    if not panel.kind.isidentifier():
        raise TypeError(f"{panel.kind!r} cannot be the class of a figure: name the panel's kind with letters")


def _panel(panel: Panel) -> dict[str, Any]:
    inside = _environment().from_string(panel.template).render(p=panel.values(visible))
    return {"kind": panel.kind, "inside": Markup(inside)}


# Templates.


def _asset(name: str) -> str:
    return (files("carom.common.report.templates") / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _templates() -> tuple[Template, Template]:
    """The page and the card of one example."""
    environment = _environment()
    return environment.from_string(_asset("report.html")), environment.from_string(_asset("example.html"))


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    for function in (rate, interval, amount, listing, plural):
        environment.globals[function.__name__] = function
    return environment
