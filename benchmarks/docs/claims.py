"""Sentences of the README and of the pages below docs/ that rest on recorded numbers, made from the records.

python -m carom.benchmarks.docs.claims

prints them; tests/docs/test_claims.py holds the pages against them. A sentence that says that one cell lies above another
is made only where their intervals are apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from carom.benchmarks.transfer.ranking.names import TITLES, called
from carom.benchmarks.transfer.ranking.rules import COMPARED
from carom.benchmarks.transfer.ranking.table import claimed
from carom.common.base.errors import CaromError
from carom.common.cli.tables import rate, with_interval
from carom.common.measure.cells import Cell, cell_of
from carom.common.measure.rates import Rate
from carom.common.measure.stats import wilson
from carom.common.report.values import listing

RECORDED = Path(__file__).parents[1] / "results"

COMMANDS = {
    "demo": "carom demo --json > benchmarks/results/demo.json",
    "forest": "carom run benchmarks/studies/forest.toml --json > benchmarks/results/forest.json",
    "ranking": "python -m carom.benchmarks.transfer.ranking --json > benchmarks/results/ranking.json",
    "transfer-text": "python -m carom.benchmarks.transfer.texts --json > benchmarks/results/transfer-text.json",
}
"""Record -> what makes it."""


@dataclass(frozen=True)
class Claim:
    """A sentence as it stands on a page, up to line breaks."""

    page: str  # from the root of the repository
    text: str
    record: str | None  # below benchmarks/results; None where it is arithmetic


def claims() -> Iterator[Claim]:
    """All of them, from the files as they are."""
    demo, forest, ranking, texts = (
        json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8")) for name in COMMANDS
    )
    yield Claim("README.md", size(demo), "demo")
    yield from (Claim("README.md", text, "demo") for text in carried(demo))
    yield Claim("README.md", hardest(forest), "forest")
    yield Claim("README.md", unequal(demo), "demo")
    yield Claim("README.md", beaten(ranking["attacks"]), "ranking")
    yield Claim("README.md", noise(texts["Sentences"]["cells"], "textbugger"), "transfer-text")
    yield Claim("docs/footguns.md", flipped(demo), "demo")
    yield Claim("docs/footguns.md", wide(10, 20), None)


# The demo.


def size(demo: Mapping[str, Any]) -> str:
    of = {name: part["examples"] for name, part in demo["modalities"].items()}
    return f"{of['image']} images, {of['audio']} sounds and {of['text']} sentences"


def carried(demo: Mapping[str, Any]) -> Iterator[str]:
    """Where the target alone varies: models of one kind of input, under one attack from one source."""
    to_itself, to_vgg, to_gru = apart(demo, "image", "image-resnet", ("image-resnet-s1", "image-vgg", "image-gru"))
    yield (
        f"from image-resnet to itself of another seed {to_itself}, to image-vgg {to_vgg} and to image-gru {to_gru}, all "
        "on the same pixels"
    )
    to_kwt, to_melcnn = apart(demo, "audio", "audio-gru", ("audio-kwt", "audio-melcnn"))
    yield f"from audio-gru to audio-kwt {to_kwt} and to audio-melcnn {to_melcnn}, all on log-mel frames"


def cells(demo: Mapping[str, Any], modality: str) -> dict[tuple[str, str], Cell]:
    """By (source, target): the demo has one attack a source."""
    return {(c.source, c.target): c for c in map(cell_of, demo["modalities"][modality]["cells"])}


def apart(demo: Mapping[str, Any], modality: str, source: str, targets: Sequence[str]) -> list[str]:
    """Excess transfer to each target. Raises CaromError unless each interval lies above the next."""
    found = {target: cells(demo, modality)[source, target].rates.excess for target in targets}
    for one, other in pairwise(targets):
        if not above_all(found[one], found[other]):
            raise CaromError(f"{source}: {one} is not shown above {other}. The sentence about them has to go.")
    return [with_interval(excess) for excess in found.values()]


def above_all(above: Rate, below: Rate) -> bool:
    return above.low is not None and below.high is not None and above.low > below.high


def hardest(forest: Mapping[str, Any]) -> str:
    """How far the strongest of the attacks on the image forest gets."""
    own = [cell.rates.white_box for cell in map(cell_of, forest["modalities"]["image"]["cells"])]
    best = max(own, key=lambda found: found.value or 0.0)
    return f"the strongest of {len(own)} attacks on it fools it in {with_interval(best)}"


def unequal(demo: Mapping[str, Any]) -> str:
    said = []
    for modality, name in (("text", "text"), ("audio", "sounds"), ("image", "images")):
        values = [c.rates.white_box.value for c in cells(demo, modality).values()]
        known = [value for value in values if value is not None]
        said.append(f"{name} {rate(min(known))} to {rate(max(known))}")
    return f"The demo's modalities run at unequal white-box success ({', '.join(said)})"


def flipped(demo: Mapping[str, Any]) -> str:
    control = cells(demo, "text")["text-forest", "text-forest"].rates.control
    return f"In the demo random words alone flip {with_interval(control)} of what text-forest gets right"


# Studies.


def beaten(rows: Sequence[Mapping[str, Any]]) -> str:
    """Who beats tuned DI-MI, and who tuned MI, on both halves of the images and from both sources."""
    weak, strong = COMPARED
    asked = {row["attack"] for row in rows if "claim" in row["against"][strong]}

    def winners(rival: str) -> str:
        by_source = [[row["attack"] for row in claimed(rows, source, rival, "better", True)] for source in TITLES]
        return listing(called(name) for name in by_source[0] if all(name in of for of in by_source)) or "none"

    return (
        f"of {len(asked)} attacks tuned as {strong} is, these are shown to beat it at equal cost from both sources: "
        f"{winners(strong)}. To beat tuned {weak}: {winners(weak)}"
    )


def noise(rows: Sequence[Mapping[str, Any]], attack: str) -> str:
    """Raw transfer between different models, and what random words do: means over the pairs, with those of their bounds."""
    between = [row for row in rows if row["attack"] == attack and row["source"] != row["target"]]

    def mean(name: str) -> str:
        value, low, high = (sum(row[f"{name}{end}"] for row in between) / len(between) for end in ("", "_low", "_high"))
        return with_interval(Rate(value, low, high))

    models = len({row["source"] for row in between})
    return (
        f"{attack} between {models} models has a raw transfer of {mean('transfer')}, and random words {mean('control')}"
    )


# Arithmetic.


def wide(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"Of {n} examples, {hits} fooled have an interval of [{rate(low)}, {rate(high)}]"


if __name__ == "__main__":
    for claim in claims():
        print(f"{claim.page} ({claim.record}): {claim.text}")
