"""The README's table, from the recorded run of the demo.

carom demo --json > benchmarks/results/demo.json
python -m carom.benchmarks.docs.readme
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carom.common.cli.tables import rate, with_interval
from carom.common.measure.cells import Cell, cell_of

RECORDED = Path(__file__).parents[1] / "results" / "demo.json"
FAMILIES = ("cnn", "rnn", "transformer", "tree")


def table(summary: dict[str, Any]) -> str:
    """Markdown: one row a source, its excess transfer with interval to one target of each family."""
    lines = [
        "| | source, attack | white-box / control | to CNN | to RNN | to transformer | to trees |",
        "|---|---|---|---|---|---|---|",
    ]
    for modality, part in summary["modalities"].items():
        every = [cell_of(row) for row in part["cells"]]
        for source in dict.fromkeys(cell.source for cell in every):
            cells = [cell for cell in every if cell.source == source]
            first = cells[0]
            own = f"{rate(first.rates.white_box.value)} / {rate(first.rates.white_box_control.value)}"
            # The model of its own family is another one where there is one, never the source itself.
            others = [_first(cells, family, source) for family in FAMILIES]
            lines.append(f"| {modality} | {source}, {first.attack.split('?')[0]} | {own} | {' | '.join(others)} |")
    return "\n".join(lines)


def _first(cells: list[Cell], family: str, source: str) -> str:
    for cell in cells:
        if cell.target_family == family and cell.target != source:
            return with_interval(cell.rates.excess)
    return "–"


if __name__ == "__main__":
    print(table(json.loads(RECORDED.read_text(encoding="utf-8"))))
