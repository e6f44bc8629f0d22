"""The ranking spends what it says, tunes all alike, compares what is comparable, and docs/ranking.md is the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from carom.benchmarks.transfer.ranking.beside import PUBLISHED
from carom.benchmarks.transfer.ranking.measure import Estimate, beside, ranked, tuned, verdict
from carom.benchmarks.transfer.ranking.record import drawn, rendered, written
from carom.benchmarks.transfer.ranking.rules import (
    BASELINES,
    BLOCK,
    BLOCKS,
    CONFIGURATIONS,
    DEAR,
    EQUAL,
    HALF,
    HALVES,
    OWN_LENGTH,
    TUNING,
    choice,
    dearer,
    fewer,
    split,
)
from carom.benchmarks.transfer.ranking.table import claimed, words
from carom.benchmarks.transfer.ranking.work import Resampled
from carom.common.api import load_data
from carom.common.attacks.gradient.ascent import climb_of
from carom.common.base.rng import Rng
from carom.common.base.specs import split_parameters
from carom.common.core.batch import Batch, Goal
from carom.common.core.model import Model
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.measure.cells import cell_of
from carom.common.measure.stats import holm
from carom.common.models.kinds import builds_of
from carom.common.models.networks import TorchModel
from carom.vision.models.networks import Normalise, ResNet, ViT
from carom.vision.space import PIXELS

DOCUMENT = Path(__file__).parents[2] / "docs" / "ranking.md"
RECORD = json.loads((DOCUMENT.parents[1] / "benchmarks" / "results" / "ranking.json").read_text(encoding="utf-8"))
IDS, SIDE = ("p", "q"), 8
SPECS = [spec for of in CONFIGURATIONS.values() for spec in of]


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
    return {kind: network(kind) for kind in ("cnn", "transformer")}


# The rules.


def test_every_attack_has_as_many_configurations() -> None:
    assert set(BASELINES.values()) < set(CONFIGURATIONS)
    for name, specs in CONFIGURATIONS.items():
        assert len(set(specs)) == 4, name
        first, *others = (split_parameters(spec)[1] for spec in specs)
        assert not {"size", "decay"} & set(first), name
        for other in others:  # one change each: of strength or copies, of the step's length, or of the decay
            changed = {key for key in other if other[key] != first.get(key)}
            assert changed in ({"size"}, {"decay"}) or not changed & {"size", "decay"}, (name, other)


PRICED = [spec for spec in SPECS if not {"size", "decay"} & set(split_parameters(spec)[1])]
"""Neither changes what a configuration spends."""


@pytest.mark.parametrize("spec", PRICED)
def test_every_configuration_spends_the_same(spec: str, sources: Mapping[str, Model]) -> None:
    """By what its Result says it spent, on the first source that it suits."""
    chosen = choice(spec)
    x = PIXELS.round(Rng.of(0, IDS).uniform(3, SIDE, SIDE))
    others = Batch(PIXELS.round(Rng.of(1, "uvw").uniform(3, SIDE, SIDE)), torch.tensor([0, 1, 2]), list("uvw"))
    batch = Batch(x, torch.tensor([0, 1]), IDS)
    fits = [source for source in sources.values() if chosen.info.models in builds_of(source, batch)]
    assert fits
    result = chosen.attack(Problem(fits[0], Goal(batch.labels), Linf(8 / 255), others=others), batch, Rng.of(2, IDS))
    assert ((result.cost.backward - EQUAL).abs() <= 0.04 * EQUAL).all()


@pytest.mark.parametrize("spec", SPECS)
def test_steps_are_a_tenth_or_longer_unless_declared(spec: str) -> None:
    climb, (name, given) = climb_of(choice(spec).attack), split_parameters(spec)
    own = {"rap": 0.125, "dem": 1.0}.get(name, max(0.1, 1 / climb.steps))
    assert set(OWN_LENGTH) == {"rap", "dem"}
    assert climb.size == pytest.approx(given.get("size", own))
    assert choice(spec).label == spec  # what the record calls it


def test_no_image_is_both_tuned_on_and_reported() -> None:
    data = load_data("builtin:fashion-mnist", limit=TUNING + 2 * HALF)
    parts = split(data)
    blocks = [f"{half}-{number}" for half in HALVES for number in range(1, HALF // BLOCK + 1)]
    assert list(parts) == ["tuning", *blocks]
    assert [len(part) for part in parts.values()] == [TUNING, *(BLOCK for _ in blocks)]
    assert sorted(name for part in parts.values() for name in part.ids) == sorted(data.ids)
    assert set(fewer(parts["first-1"]).ids) < set(parts["first-1"].ids)


# From cells to the record.

PARTS = ("first-1", "first-2", "second-1", "second-2")


def cell(attack: str, target: str, excess: float | None, draws: object, part: str = "first-1", source: str = "resnet"):
    row = {
        **{"source": f"image-cifar-{source}", "target": f"image-cifar-{target}", "seed": 0, "attack": attack},
        **{"source_family": "cnn", "target_family": "tree" if target == "forest" else "rnn", "excess": excess, "n": 5},
        **{"transfer": 0.5, "control": 0.1, "forward": 51.0, "backward": 50.0, "white_box": 1.0},
    }
    return Resampled(cell_of(row), np.asarray(draws, dtype=float), part)


def test_tuning_takes_the_largest_mean_over_networks() -> None:
    """The forest counts not, and of equal ones the first is taken."""
    still = np.zeros(3)
    cells = [cell(spec, "gru", 0.3, still, "tuning") for spec in SPECS]
    assert tuned(cells)[0] == {name: specs[0] for name, specs in CONFIGURATIONS.items()}
    third, fourth = CONFIGURATIONS["sia"][2:]
    cells += [cell(third, "mixer", 0.5, still, "tuning"), cell(fourth, "forest", 0.9, still, "tuning")]
    chosen, rows = tuned(cells)
    assert chosen["sia"] == third
    assert [row["spec"] for row in rows if row["chosen"]] == list(chosen.values())
    assert {row["spec"]: row["excess"] for row in rows}[third] == pytest.approx(0.4)


def test_differences_are_of_the_same_cells() -> None:
    wide = np.linspace(-0.4, 0.4, 101)
    base = {"gru": 0.2, "mixer": 0.6}
    cells = [
        cell(CONFIGURATIONS[name][0], target, value, value + wide, part)
        for name in BASELINES.values()
        for target, value in base.items()
        for part in PARTS
    ]
    cells += [cell("sgm?steps=50", "gru", 0.25, 0.25 + wide, part) for part in PARTS]
    cells += [cell("sgm?steps=50", "forest", None, np.full(101, np.nan))]
    rows = {row["attack"]: row for row in ranked(cells)}
    sgm = rows["sgm"]
    assert sgm["excess"] == pytest.approx(0.25)
    assert sgm["low"] < 0 < sgm["high"]
    for name in BASELINES:  # the wide draws cancel: the images are the same
        assert sgm["against"][name]["first"] == pytest.approx({"difference": 0.05, "low": 0.05, "high": 0.05})
    assert sgm["targets"]["forest"] == {"n": 5, "excess": None, "low": None, "high": None}
    assert sgm["against"]["DI-MI"]["claim"] == "better"
    assert sgm["against"]["DI-MI"]["confirmed"]
    assert "claim" not in sgm["against"]["I-FGSM"]  # not declared
    assert "claim" not in rows["mi-fgsm"]["against"]["DI-MI"]  # declared as DI-MI beside MI
    assert rows["bim"]["against"]["MI"]["claim"] is None
    alone = beside([cell("sgm?steps=50", "gru", 0.25, wide, "few")])
    assert alone[0]["against"]["MI"] == {"difference": None, "low": None, "high": None}
    assert json.loads(written({"attacks": list(rows.values()), "seeds": 2})) == {
        "attacks": list(rows.values()),
        "seeds": 2,
    }


def test_a_claim_is_confirmed_on_the_same_side_only() -> None:
    up = Estimate(0.1, 0.1 + np.linspace(-0.01, 0.01, 101))
    assert up.p < 1e-9
    assert Estimate(0.0, np.zeros(9)).p == 1.0
    assert Estimate(0.1, 0.1 + np.linspace(-0.3, 0.3, 101)).p > 0.3
    for low, high, confirmed in ((0.01, 0.2, True), (-0.01, 0.2, False), (-0.2, -0.01, False), (None, None, False)):
        found = verdict(up, 0.01, {"difference": 0.1, "low": low, "high": high})
        assert (found["claim"], found["confirmed"]) == ("better", confirmed)
    assert verdict(up, 0.05, {"difference": 0.1, "low": 0.01, "high": 0.2})["claim"] is None
    down = verdict(Estimate(-0.1, -up.draws), 0.01, {"difference": -0.1, "low": -0.2, "high": -0.01})
    assert (down["claim"], down["confirmed"]) == ("worse", True)


# The record and the page.


def test_the_document_is_the_record() -> None:
    assert DOCUMENT.read_text(encoding="utf-8").rstrip("\n") == rendered()
    assert DOCUMENT.with_suffix(".svg").read_text(encoding="utf-8") == drawn()


def test_the_record_is_of_these_rules() -> None:
    assert [row["spec"] for row in RECORD["tuning"]] == SPECS
    assert RECORD["images"]["tuning"]["n"] == TUNING
    assert RECORD["examples"] == {source: dict.fromkeys(HALVES, n * BLOCK) for source, n in BLOCKS.items()}
    assert RECORD["gradients"] == EQUAL
    chosen = {row["attack"]: row["spec"] for row in RECORD["tuning"] if row["chosen"]}
    for name in CONFIGURATIONS:
        found = [row for row in RECORD["tuning"] if row["attack"] == name]
        assert max(found, key=lambda row: row["excess"])["excess"] == next(r["excess"] for r in found if r["chosen"])
    for row in RECORD["attacks"]:
        assert row["spec"] == chosen[row["attack"]]
        assert abs(row["backward"] - EQUAL) <= 0.04 * EQUAL
    assert {row["attack"] for row in RECORD["attacks"]} == set(CONFIGURATIONS)
    assert {row["spec"] for row in RECORD["dear"]} <= {dearer(spec) for spec in chosen.values()}
    assert all(abs(row["backward"] - DEAR) <= 0.04 * DEAR for row in RECORD["dear"])
    assert set(PUBLISHED) <= set(CONFIGURATIONS)


def test_holm_is_over_all_declared_comparisons() -> None:
    declared = [a for row in RECORD["attacks"] for a in row["against"].values() if "claim" in a]
    for found, adjusted in zip(declared, holm([a["p"] for a in declared]), strict=True):
        assert found["holm"] == pytest.approx(adjusted, abs=0.02)  # p is recorded to four digits
        assert (found["claim"] is not None) == (found["holm"] < 0.05)


def test_words_follow_the_claims() -> None:
    rows = json.loads(json.dumps(RECORD["attacks"]))
    ssa = next(row for row in rows if (row["source"], row["attack"]) == ("resnet", "ssa"))
    for claim, confirmed, says in (
        ("better", True, "better than tuned DI-MI, confirmed"),
        ("better", False, "not confirmed"),
        (None, False, "not told apart"),
        ("worse", True, "worse, confirmed"),
    ):
        ssa["against"]["DI-MI"] |= {"claim": claim, "confirmed": confirmed}
        assert ssa in claimed(rows, "resnet", "DI-MI", claim, confirmed)
        assert next(line for line in words(rows) if "SSA (" in line).lstrip(" *").startswith(says) or says in next(
            line for line in words(rows) if "SSA (" in line
        )
