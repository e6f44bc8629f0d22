"""The pages of recorded results on the documentation site: the demo's matrices, and speed beside other libraries.

carom demo --json > benchmarks/results/demo.json
make benchmark
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from carom.common.cli.tables import rate

RECORDED = Path(__file__).parents[1] / "results"

DEMO = """# The demo

What `carom demo` printed when it was last recorded, without the comparison at equal white-box success, which its report
has. Cells are [excess transfer](concepts/measures.md) with its 95 % interval; in brackets after a source stands its
white-box success. \\* marks the cell of a model on itself.
"""

SPEED = """# Speed beside other libraries

Seconds on one thread of a CPU, the median of repeated runs, as recorded in `benchmarks/results`. *Times* is what the other
takes for each second of Carom's: above 1, Carom is faster. Compare it at the success in the last columns: an attack that
stops at the first change within its budget does less work than one that goes on, and that is most of the difference
where *times* is large. Nothing is rounded on either side.
"""

BARE = """
## The attack loop beside a bare loop

`make benchmark` measures this: the same model and steps, written out by hand without Carom.
"""


def pages() -> Iterator[tuple[str, str]]:
    """(path below docs/, Markdown) of every page."""
    yield "results.md", demo(_recorded("demo"))
    yield "speed.md", speed(_recorded("core"), _recorded("vision"), _recorded("text"))


def _recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def demo(summary: Mapping[str, Any]) -> str:
    parts = [DEMO]
    for modality, part in summary["modalities"].items():
        accuracy = ", ".join(f"{model['name']} {rate(model['clean_accuracy'])}" for model in part["models"])
        parts.append(
            f"\n## {modality.capitalize()}\n\n{part['examples']} examples of `{part['data']}`, {part['threat']}."
        )
        parts.append(f"Right when clean: {accuracy}.\n")
        parts.append(_matrix(part["cells"]))
    return "\n".join(parts) + "\n"


def _matrix(cells: Sequence[Mapping[str, Any]]) -> str:
    targets = list(dict.fromkeys(cell["target"] for cell in cells))
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        name = f"{cell['source']}, `{cell['attack']}` ({rate(cell['white_box'])})"
        own = r"\*" if cell["source"] == cell["target"] else ""
        shown = rate(cell["excess"], cell["excess_low"], cell["excess_high"]).replace(" ", "\u00a0")
        rows.setdefault(name, {})[cell["target"]] = shown + own
    return _table(("source", *targets), ((name, *(row.get(t, "–") for t in targets)) for name, row in rows.items()))


def speed(
    core: Sequence[Mapping[str, Any]], vision: Sequence[Mapping[str, Any]], text: Sequence[Mapping[str, Any]]
) -> str:
    bare = [(r["name"], _seconds(r["ours_seconds"]), _seconds(r["floor_seconds"]), _times(r)) for r in core]
    head = ("attack", "model", "beside", "Carom, s", "the other, s", "times", "success", "of the other")
    parts = [SPEED]
    for title, rows in (("Images", vision), ("Texts", text)):
        parts += [f"\n## {title}\n", _table(head, map(_peer, rows))]
    parts += [BARE, _table(("attack", "Carom, s", "bare loop, s", "times"), bare)]
    return "\n".join(parts) + "\n"


def _peer(row: Mapping[str, Any]) -> tuple[str, ...]:
    success = tuple("–" if row.get(name) is None else rate(row[name]) for name in ("success", "peer_success"))
    seconds = (_seconds(row["ours_seconds"]), _seconds(row["peer_seconds"]), _times(row))
    return (row["name"], row["model"], row["peer"], *seconds, *success)


def _times(row: Mapping[str, Any]) -> str:
    other = row["peer_seconds"] if "peer_seconds" in row else row["floor_seconds"]
    return f"{other / row['ours_seconds']:.1f}"


def _seconds(value: float) -> str:
    return f"{value:.3g}"


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
