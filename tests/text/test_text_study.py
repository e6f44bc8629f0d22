"""The document on how text attacks transfer is what was recorded, and says of it what it says it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carom.benchmarks.transfer.texts import RECORDED, STUDIES, document, noise, written
from carom.common.study.config import read_study

ROOT = Path(__file__).parents[2]
RECORD = json.loads(RECORDED.read_text(encoding="utf-8"))


def test_the_document_is_the_recorded_run():
    assert (ROOT / "docs" / "text-transfer.md").read_text(encoding="utf-8").rstrip("\n") == document(RECORD)


def test_the_record_is_of_the_studies_as_they_are_written():
    for title, name in STUDIES.items():
        asked = read_study(ROOT / "benchmarks" / "studies" / name, ["text"])
        part, text = RECORD[title], asked["modalities"]["text"]
        assert (part["data"], part["examples"], part["controls"]) == (text["data"], text["limit"], asked["controls"])
        assert part["threat"] == f"words {text['eps']}"
        wanted = {(source.removeprefix("zoo:"), attack) for source in text["sources"] for attack in text["attacks"]}
        found = {(run["source"], run["attack"]) for run in part["runs"]}
        assert found | {tuple(pair) for pair in part["absent"]} == wanted
        assert found.isdisjoint(map(tuple, part["absent"]))
        targets = [name.removeprefix("zoo:") for name in text.get("targets", text["sources"])]
        cells = {(c["source"], c["attack"], c["target"]) for c in part["cells"]}
        lacking = {target for target in targets if len(found) > sum(cell[2] == target for cell in cells)}
        assert lacking == set(part["unasked"])
        assert len(cells) == len(part["cells"])
        assert part["failures"] == []


def test_noise_is_the_share_of_all_transferred_examples_together():
    cells = [{"n": 10, "transfer": 0.5, "control": 0.1}, {"n": 30, "transfer": 0.1, "control": 0.1}]
    assert noise(cells) == pytest.approx((1 + 3) / (5 + 3))
    assert noise([{"n": 5, "transfer": 0.0, "control": 0.0}]) is None
    assert noise([]) is None


def test_what_is_written_reads_the_same():
    assert json.loads(written(RECORD)) == RECORD
    rows = [{"a": 1.5, "b": None}, {"a": 2, "b": "x"}]
    lines = written({"A": {"none": [], "plain": ["x"], "rows": rows}}).splitlines()
    assert [json.loads(line.rstrip(",")) for line in lines if line.startswith("   {")] == rows
