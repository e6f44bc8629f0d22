"""Sizes of perturbations in studies: measured once per craft on stored inputs, in cells, tables and captions."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from carom.common.cli.tables import print_run, rate
from carom.common.core.metrics import CHUNK, Metric, changed, distance, measured, summarised
from carom.common.core.spaces import Box
from carom.common.report.page import render
from carom.common.runs.run import execute
from carom.common.study.config import make_study
from carom.common.study.evaluate import evaluate
from carom.common.study.examples import choose_examples
from carom.common.study.outputs.tables import table_of
from carom.common.work.units import Size, needed

SPACE = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)


def test_measures_are_taken_on_stored_inputs_in_parts():
    n = CHUNK + 3
    clean = torch.zeros(n, 1, 2, 2, dtype=torch.uint8)
    other = clean.clone()
    other[:, 0, 0, 0] = torch.arange(n)
    found = measured([distance("linf", "Linf", "")], SPACE, other, clean)
    assert found["linf"] == pytest.approx(np.arange(n) / 255)
    assert changed(other, clean) == [False] + [True] * (n - 1)
    assert changed(["a", "b"], ["a", "c"]) == [False, True]


def test_a_summary_is_of_what_was_changed_and_defined():
    size = summarised({"id": list("abcd"), "changed": [True, True, True, False], "psnr": [10, 20, 60, np.inf]})
    assert size == {"changed": 0.75, "psnr": {"mean": 30.0, "median": 20.0}}
    assert summarised({"changed": [False], "psnr": [np.inf]}) == {
        "changed": 0.0,
        "psnr": {"mean": None, "median": None},
    }
    assert summarised({"changed": [True, True], "x": [np.nan, 1.0]})["x"]["mean"] == 1.0


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    parts = {
        "image": {"sources": ["zoo:image-resnet"], "targets": ["zoo:image-tree"], "attacks": ["fgsm"]},
        "text": {"sources": ["zoo:text-linear"], "targets": ["zoo:text-linear"], "attacks": ["greedy-unk"]},
    }
    values = {"modalities": {m: {**part, "limit": 8} for m, part in parts.items()}, "controls": 1}
    return execute(make_study({**values, "store": str(tmp_path_factory.mktemp("store"))}))


def test_cells_table_report_and_captions_tell_the_size(outcome):
    image, text = outcome.outcomes
    (cell,) = image.rows()
    assert cell["size"]["linf"]["mean"] == pytest.approx(28 / 255, abs=1e-4)
    assert 0 < cell["size"]["ssim"]["median"] < 1
    assert text.rows()[0]["size"]["words"]["mean"] >= 1
    assert 0 < text.rows()[0]["size"]["similarity"]["mean"] < 1
    assert text.rows()[0]["size"]["perplexity"]["median"] > 0
    table = table_of([*image.rows(), *text.rows()])
    assert table["size_linf_mean"].to_pylist() == [cell["size"]["linf"]["mean"], None]
    assert "size" not in table.column_names
    summary = json.loads(json.dumps(outcome.summary(), allow_nan=False))
    metrics = {m["name"]: m for m in summary["modalities"]["image"]["metrics"]}
    assert ("lpips" in cell["size"]) == (metrics["lpips"]["missing"] is None)
    examples = list(choose_examples(image, 1))
    assert examples[0].size.startswith("Linf 0.11, L2 ")
    page = render(summary, examples, "A study")
    assert page.count("Size of the perturbations") == 2
    assert f"<bdi>{examples[0].size}</bdi>" in page
    if metrics["lpips"]["missing"]:
        assert "<bdi>LPIPS</bdi> was not computed: it <bdi>needs AlexNet" in page


def test_the_console_tells_the_size_beside_the_success(outcome, capsys):
    print_run(outcome)
    shown = capsys.readouterr().out
    cell = outcome.outcomes[1].rows()[0]
    (row,) = [line for line in shown.splitlines() if line.strip().startswith("text-linear greedy-unk  ")]
    assert row.split()[2:4] == [rate(cell["white_box"]), f"{cell['size']['words']['median']:.3g}"]
    for part in outcome.summary()["modalities"].values():
        for metric in part["metrics"]:
            said = metric["label"] if metric["missing"] is None else f"{metric['label']} was not computed: it "
            assert said in shown


def test_a_metric_that_cannot_be_had_is_left_out_and_computed_once_it_can(outcome):
    image = outcome.outcomes[0]
    plan = image.plan
    known = tuple(m for m in plan.metrics if m.name in ("linf", "ssim"))
    lacking = replace(known[1], missing=lambda: "needs something")
    (craft,) = plan.crafts(plan.shards()[0])
    without = replace(plan, metrics=(known[0], lacking))
    assert [m.name for m in without.size(craft).metrics] == ["linf"]
    assert without.size(craft).key != replace(plan, metrics=known).size(craft).key
    newer = (replace(known[0], version="2"), known[1])
    assert replace(plan, metrics=newer).size(craft).key != replace(plan, metrics=known).size(craft).key
    (row,) = evaluate(without, image.store).rows()
    assert set(row["size"]) == {"changed", "linf"}
    assert replace(plan, metrics=()).units_of([craft])[-1] is not None
    assert not [u for u in replace(plan, metrics=()).units() if isinstance(u, Size)]


def test_a_metric_that_fails_costs_its_table_and_nothing_else(outcome):
    image = outcome.outcomes[0]

    def broken(space, x, x0):
        raise RuntimeError("no such operator")

    plan = replace(image.plan, metrics=(Metric("broken", "Broken", "", "", broken),))
    size = plan.size(next(iter(plan.crafts(plan.shards()[0]))))
    assert needed(size) is size.craft
    found = evaluate(plan, image.store)
    assert [f.what for f in found.failures] == ["size of fgsm on image-resnet"]
    (row,) = found.rows()
    assert row["size"] is None
    assert row["transfer"] is not None
