"""The command that measures a GPU runs to its end where there is none, and its parts fail one by one."""

from __future__ import annotations

import json
import time

import torch
from click.testing import CliRunner

from carom.benchmarks.speed import gpu, gpu_kit


def test_small_on_a_cpu():
    answer = CliRunner().invoke(gpu.main, ["--small", "--json", "--device", "cpu", "--kit", "nowhere"])
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert found["left_out"] == []
    assert found["machine"]["torch"] == torch.__version__
    attacks = {row["attack"] for row in found["images"]}
    assert set(gpu.ATTACKS) <= attacks
    assert {row["precision"] for row in found["images"]} == {"fp32", "bf16"}
    assert {row["attack"] for row in found["texts"]} == {"greedy-unk", "hotflip"}
    for row in [*found["images"], *found["sounds"]]:
        assert 0 < row["share"] < 3
        assert row["answers_a_second"] > 0
        assert (row["gradients_a_second"] > 0) != (row["attack"] == "square")


def test_what_fails_or_has_no_time_is_named_and_the_rest_goes_on():
    def fails():
        raise RuntimeError("out of luck\nand more")

    due = gpu.Deadline(time.monotonic() + 60, [])
    assert [*due.rows("one", fails), *due.rows("two", lambda: {"x": 1})] == [{"name": "two", "x": 1}]
    due.end = 0
    assert not [*due.rows("three", lambda: {})]
    assert due.left_out == ["one: RuntimeError: out of luck", "three: no time left"]


def test_the_kit_holds_sentences_sounds_and_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_kit, "SENTENCES", 12)
    monkeypatch.setattr(gpu_kit, "SOUNDS", 12)
    monkeypatch.setattr(gpu_kit, "cells", lambda *_: [{"source": "a"}])
    answer = CliRunner().invoke(gpu_kit.main, ["--out", str(tmp_path), "--no-wheels", "-m", "image"])
    assert answer.exit_code == 0, answer.output
    assert len(gpu.sentences_of(tmp_path)) == 12
    assert len([*tmp_path.rglob("*.flac")]) == 12
    assert json.loads((tmp_path / "cells-cpu.json").read_text()) == {"image": [{"source": "a"}]}
