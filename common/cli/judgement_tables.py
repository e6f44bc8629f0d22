"""What `carom robust` and `carom defend` print for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carom.common.cli.tables import _console, rate, shown

HANDED = "examples crafted elsewhere: the attacker's value, no evidence of robustness"


def print_judgements(summary: Mapping[str, Any]) -> None:
    """A table a modality with one row a model, one with a row an attacker, and what the attacks' tests say."""
    console = _console()
    for modality, part in summary["modalities"].items():
        head = shown(f"{modality}: {part['data']}, {part['examples']} examples, {part['threat']}")
        head.stylize("bold")
        console.print()
        console.print(head)
        _models(console, part)
        _attackers(console, part)
        for row in part["models"]:
            _tests(console, row)
        for line in part["story"]:
            console.print(shown(line), soft_wrap=True)
    if summary["report"] is not None:
        console.print(Text(f"{summary['seconds']:.0f} s   report: ") + shown(summary["report"]), soft_wrap=True)


def _models(console: Console, part: Mapping[str, Any]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "clean accuracy", "clean rejected", "robust accuracy", "passes", "s per answer"):
        table.add_column(name, overflow="fold")
    for row in part["models"]:
        robust = rate(row["robust_accuracy"], row["robust_low"], row["robust_high"])
        table.add_row(
            shown(row["model"]),
            rate(row["clean_accuracy"], row["clean_low"], row["clean_high"]),
            rate(row["rejected_clean"]),
            shown(row["status"] if row["robust_accuracy"] is None else robust),
            str(row["passes"]),
            f"{row['seconds']:.2g}",
        )
    console.print(table)


def _attackers(console: Console, part: Mapping[str, Any]) -> None:
    """What each attacker leaves of each model."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "attacker", "attack", "from", "accuracy left", "rejected", "queries", "s an example"):
        table.add_column(name, overflow="fold")
    for row in part["models"]:
        for one in row["attacks"]:
            table.add_row(
                shown(row["model"]),
                shown(one["attacker"] + ("" if one["evidence"] else " *")),
                shown(one["attack"]),
                shown("itself" if one["source"] == row["model"] else one["source"]),
                rate(one["accuracy"], one["low"], one["high"]),
                rate(one["rejected"]),
                f"{one['queries']:.0f}",
                f"{one['seconds']:.2g}",
            )
    console.print(table)
    if any(not one["evidence"] for row in part["models"] for one in row["attacks"]):
        console.print(f"* {HANDED}")


def _tests(console: Console, row: Mapping[str, Any]) -> None:
    """Whether the attacks passed their tests, and the curve."""
    for line in row["reasons"]:
        console.print(Text("  ! ") + shown(f"{row['model']}: {line}"), soft_wrap=True)
    if row["binarisation"] is not None and row["binarisation"]["passed"]:
        console.print(Text("  ") + shown(f"{row['model']}: {row['binarisation']['said']}"), soft_wrap=True)
    for line in row["remarks"]:
        console.print(Text("  ") + shown(f"{row['model']}: {line}"), soft_wrap=True)
    if len(row["curve"]) > 1:
        points = ", ".join(f"{p['threat']} {rate(p['accuracy'], p['low'], p['high'])}" for p in row["curve"])
        known = "accuracy left" if row["robust_accuracy"] is None else "robust accuracy"
        console.print(Text("  ") + shown(f"{row['model']}: {known} at {points}"), soft_wrap=True)
