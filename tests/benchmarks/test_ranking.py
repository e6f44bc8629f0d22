"""The ranking spends what it says, compares what is comparable, and docs/ranking.md is what was recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from carom.benchmarks.transfer.ranking import (
    ALLOCATED,
    TOGETHER,
    Resampled,
    allocated,
    drawn,
    estimate,
    paid,
    rendered,
    single,
    summarised,
    written,
)
from carom.benchmarks.transfer.ranking_table import BASELINES, PUBLISHED, document
from carom.common.attacks.gradient.ascent import climb_of
from carom.common.base.rng import Rng
from carom.common.base.specs import split_parameters
from carom.common.core.batch import Batch, Goal
from carom.common.core.model import Model
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.measure.cells import cell_of
from carom.common.models.ensembles import Ensemble
from carom.common.models.kinds import builds_of
from carom.common.models.networks import TorchModel
from carom.vision.models.networks import Normalise, ResNet, ViT
from carom.vision.space import PIXELS

DOCUMENT = Path(__file__).parents[2] / "docs" / "ranking.md"
IDS, SIDE = ("p", "q"), 8


def network(kind: str) -> Model:
    torch.manual_seed(0)
    shape, normalise = (3, SIDE, SIDE), Normalise((0.5,) * 3, (0.5,) * 3)
    module = {
        "cnn": lambda: ResNet(shape, 3, normalise, widths=(4, 4)),
        "transformer": lambda: ViT(shape, 3, normalise, patch=4, dim=8, depth=2, heads=2),
    }[kind]()
    return TorchModel(module, name=kind, modality="image", family=kind, space=PIXELS, classes=("a", "b", "c"))


@pytest.fixture(scope="module")
def sources() -> Mapping[str, Model]:
    both = {kind: network(kind) for kind in ("cnn", "transformer")}
    return {**both, "ensemble": Ensemble(list(both.values()))}


ASKED = [
    *((amount, spec, ("cnn", "transformer")) for amount, specs in ALLOCATED.items() for spec in specs),
    *((amount, spec, ("ensemble",)) for amount, specs in TOGETHER.items() for spec in specs),
]


@pytest.mark.parametrize(("amount", "spec", "kinds"), ASKED, ids=[f"{spec} for {amount}" for amount, spec, _ in ASKED])
def test_every_attack_spends_its_allowance(amount, spec, kinds, sources):
    """By what its Result says it spent, on the first source that it suits."""
    dear = "linbp" in spec  # on the residual network, which is the first
    chosen = allocated(paid(spec, "zoo:image-cifar-resnet"))
    x = PIXELS.round(Rng.of(0, IDS).uniform(3, SIDE, SIDE))
    others = Batch(PIXELS.round(Rng.of(1, "uvw").uniform(3, SIDE, SIDE)), torch.tensor([0, 1, 2]), list("uvw"))
    batch = Batch(x, torch.tensor([0, 1]), IDS)
    fits = [s for s in (sources[kind] for kind in kinds) if chosen.info.models in builds_of(s, batch)]
    assert fits
    result = chosen.attack(Problem(fits[0], Goal(batch.labels), Linf(8 / 255), others=others), batch, Rng.of(2, IDS))
    left = amount - result.cost.backward
    assert (left >= -0.04 * amount).all()
    assert (left <= max(0.04 * amount, 2 if dear else 0)).all()  # another step would cost 3


def test_steps_are_a_tenth_or_longer_unless_a_paper_says_otherwise():
    for _, spec, _ in ASKED:
        climb, (name, given) = climb_of(allocated(spec).attack), split_parameters(spec)
        own = {"rap": 0.125, "dem": 1.0, "cwa": 0.2, "lgv": 0.1}.get(name, given.get("size"))
        assert climb.size == pytest.approx(max(0.1, 1 / climb.steps) if own is None else own), spec


def cell(attack: str, source: str, target: str, seed: int, excess: float | None, draws: object) -> Resampled:
    row = {
        **{"source": source, "target": target, "seed": seed, "attack": attack, "excess": excess, "n": 5},
        **{"source_family": "cnn", "target_family": target, "transfer": 0.5, "control": 0.1},
        **{"forward": 51.0, "backward": 50.0, "white_box": 1.0},
    }
    return Resampled(50, cell_of(row), np.asarray(draws, dtype=float))


def test_differences_are_of_the_same_cells():
    """An attack that runs on one of two sources is compared with the baseline on that source alone."""
    wide = np.linspace(-0.4, 0.4, 101)
    cells = [
        cell(spec[0], source, "rnn", seed, base + 0.01 * seed, base + wide)
        for spec in BASELINES.values()
        for source, base in (("one", 0.2), ("two", 0.6))
        for seed in (0, 1)
    ]
    cells += [cell("sgm?steps=50", "one", "rnn", seed, 0.25 + 0.01 * seed, 0.25 + wide) for seed in (0, 1)]
    cells.append(cell("sgm?steps=50", "one", "tree", 0, None, np.full(101, np.nan)))
    rows = {row["attack"]: row for row in summarised(cells)}
    sgm = rows["sgm?steps=50"]
    assert sgm["excess"] == pytest.approx(0.255)
    assert sgm["low"] < 0 < sgm["high"]
    for name in BASELINES:  # the wide draws cancel: the images are the same
        assert sgm["against"][name] == pytest.approx({"difference": 0.05, "low": 0.05, "high": 0.05})
    assert rows["bim?steps=50"]["against"]["MI"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert rows["bim?steps=50"]["excess"] == pytest.approx(0.405)
    assert sgm["targets"]["tree"]["excess"] is None
    assert sgm["targets"]["tree"]["against"]["MI"] is None
    assert estimate([]) == {"excess": None, "low": None, "high": None, "cells": 0}
    assert [(r["target"], r["excess"], r["cells"]) for r in single(cells)][-2:] == [
        ("rnn", 0.255, 2),
        ("tree", None, 0),
    ]
    outcome = {"attacks": summarised(cells), "seeds": 2}
    assert json.loads(written(outcome)) == outcome


def test_the_document_is_the_record():
    assert DOCUMENT.read_text(encoding="utf-8").rstrip("\n") == rendered()
    assert DOCUMENT.with_suffix(".svg").read_text(encoding="utf-8") == drawn()


def test_the_record_is_of_these_attacks_at_this_cost():
    found = json.loads((DOCUMENT.parents[1] / "benchmarks" / "results" / "ranking.json").read_text(encoding="utf-8"))
    assert {(row["allowed"], row["attack"]) for row in found["attacks"]} == {(n, spec) for n, spec, _ in ASKED}
    for row in found["attacks"]:
        slack = 0.04 * row["allowed"] if "linbp" not in row["attack"] else 2  # another step would cost 3
        assert abs(row["backward"] - row["allowed"]) <= slack, row["attack"]
    assert all(row["seeds"] == found["seeds"] == 3 for row in found["attacks"])
    assert set(PUBLISHED) <= set(ALLOCATED[50])


def test_marks_follow_the_intervals():
    found = json.loads((DOCUMENT.parents[1] / "benchmarks" / "results" / "ranking.json").read_text(encoding="utf-8"))
    study = json.loads((DOCUMENT.parents[1] / "benchmarks" / "results" / "cifar.json").read_text(encoding="utf-8"))
    rows = [r for r in found["attacks"] if (r["allowed"], r["sources"]) == (50, "cnn")]
    (ssa,) = (r for r in rows if r["attack"] == "ssa?steps=50&samples=1")

    def said(low: float, high: float) -> str:
        against = {**ssa["against"], "DI-MI": {"difference": (low + high) / 2, "low": low, "high": high}}
        other = [{**r, "against": against} if r is ssa else r for r in found["attacks"]]
        text = document({**found, "attacks": other}, study)
        part = text[text.index("* **From CNNs, 50") :].split("* **")[1]
        return next(line for line in part.splitlines() if "SSA (" in line)

    assert "better than DI-MI" in said(0.01, 0.2)
    assert "told apart" in said(-0.01, 0.2)
    assert "worse" in said(-0.2, -0.01)
