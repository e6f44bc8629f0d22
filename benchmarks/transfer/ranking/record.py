"""Transfer attacks on the CIFAR-10 zoo, every one tuned alike, at equal cost: docs/ranking.md, and the numbers behind it.

    python -m carom.benchmarks.transfer.ranking --json > benchmarks/results/ranking.json
    python -m carom.benchmarks.transfer.ranking --render > docs/ranking.md
    python -m carom.benchmarks.transfer.ranking --draw > docs/ranking.svg

The rules are in rules.py, the declared configurations in configurations.toml. CIFAR-10 does not ship: get it as
benchmarks/studies/cifar.toml says, and measure from the folder that holds it. What is finished lies in the store: the same
command goes on where it was stopped.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

from carom.benchmarks.records import rounded
from carom.benchmarks.transfer.ranking.chart import chart
from carom.benchmarks.transfer.ranking.measure import beside, ranked, tuned
from carom.benchmarks.transfer.ranking.rules import (
    BLOCK,
    BLOCKS,
    CONFIGURATIONS,
    DATA,
    EPS,
    EQUAL,
    HALVES,
    SOURCES,
    choice,
)
from carom.benchmarks.transfer.ranking.table import document
from carom.benchmarks.transfer.ranking.work import Resampled, Work, dear, published, reported, tuning
from carom.common.base.memory import keep_freed_memory
from carom.common.study.outcome import Transfer
from carom.common.work.executor import Failure
from carom.common.work.store import Store

RESULTS = Path(__file__).parents[2] / "results"

ANY = (choice(CONFIGURATIONS["bim"][0]),)
"""For a plan of which only the clean answers are asked."""


def measured(work: Work, more: bool) -> dict[str, Any]:
    """The record: everything that the store lacks is computed first. `more`: a dozen attacks at 1,000 gradients too."""
    failures: list[Failure] = []

    def kept(found: tuple[list[Resampled], list[Failure]]) -> list[Resampled]:
        failures.extend(found[1])
        return found[0]

    chosen, configurations = tuned([cell for found in tuning(work) for cell in kept(found)])
    cells = [cell for found in reported(work, chosen) for cell in kept(found)]
    computed = {"tuning", "few", *(cell.part for cell in cells)}
    own, costly = kept(published(work)), kept(dear(work, chosen)) if more else []
    return {
        "version": version("carom"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "data": DATA,
        "images": {
            part: {"n": len(data), "digest": data.digest} for part, data in work.parts.items() if part in computed
        },
        "examples": {source: {half: BLOCK * BLOCKS[source] for half in HALVES} for source in SOURCES},
        "threat": f"linf {EPS}",
        "gradients": EQUAL,
        "controls": work.plan(SOURCES[0], ANY, "tuning").controls,
        "models": clean(work, sorted(computed - {"tuning", "few"})),
        "failures": [{"what": f.what, "error": f.error} for f in failures],
        "tuning": configurations,
        "attacks": ranked(cells),
        "published": beside(own),
        "dear": beside(costly),
    }


def clean(work: Work, parts: Sequence[str]) -> list[dict[str, Any]]:
    """One row a model: its clean accuracy on the reported images."""
    found, rows = [Transfer(work.plan(SOURCES[0], ANY, part), work.store).models() for part in parts], []
    for of in zip(*found, strict=True):
        right, n = sum(part["n"] * part["clean_accuracy"] for part in of), sum(part["n"] for part in of)
        known = {key: of[0][key] for key in ("name", "family", "digest")}
        rows.append(rounded({**known, "clean_accuracy": right / n}))
    return rows


def written(outcome: Mapping[str, Any]) -> str:
    """JSON with a line for each row of its lists."""

    def part(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in value) + "\n]"
        return json.dumps(value, allow_nan=False)

    return "{\n" + ",\n".join(f"{json.dumps(name)}: {part(value)}" for name, value in outcome.items()) + "\n}"


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rendered() -> str:
    """docs/ranking.md, from the recorded results."""
    return document(recorded("ranking"), recorded("cifar"))


def drawn() -> str:
    """docs/ranking.svg, from the recorded results."""
    return chart(recorded("ranking"))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Compute what the store lacks and print everything as JSON.")
@click.option("--render", is_flag=True, help="Print docs/ranking.md from the recorded results.")
@click.option("--draw", is_flag=True, help="Print docs/ranking.svg from the recorded results.")
@click.option("--more", is_flag=True, help="With --json: a dozen attacks at 1,000 gradients too, which takes hours.")
@click.option("--store", default=".carom/ranking", show_default=True, help="Where finished work is kept.")
@click.option("--batch", default=64, show_default=True)
def main(as_json: bool, render: bool, draw: bool, more: bool, store: str, batch: int) -> None:
    """Rank transfer attacks, tuned alike, at equal cost."""
    if render or draw:
        click.echo(rendered() if render else drawn(), nl=render)
        return
    if not as_json:
        raise click.UsageError("Pass --json to measure, or --render or --draw to print the document or its picture.")
    keep_freed_memory()
    torch.set_num_threads(1)
    click.echo(written(measured(Work.of(Store(store), batch), more)))
