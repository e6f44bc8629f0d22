"""What work is stored under: changing one thing changes the keys of what depends on it, and no others."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import pytest
import torch
from toys import choice

from carom.common.attacks.catalogue.gradient import fgsm, mi_fgsm, pgd
from carom.common.base.errors import CaromError
from carom.common.base.identity import describe, name_of
from carom.common.base.rng import Rng
from carom.common.core.data import Dataset
from carom.common.core.objectives import margin
from carom.common.core.problem import Cost, Result
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.functions import FunctionModel
from carom.common.study.plan import Plan
from carom.common.work.store import Store
from carom.common.work.units import Clean, Control, Craft, Judge, Swapped

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
CLASSES = ("a", "b", "c")
N = 30


@dataclass(frozen=True)
class Nudge:
    """Adds a share of the budget everywhere: needs no model, but asks it once."""

    share: float = 1.0

    def __call__(self, problem, batch, rng):
        x = PIXELS.clamp(batch.inputs + self.share * problem.threat.eps)
        ones = torch.ones(len(batch), dtype=torch.long)
        success = problem.goal.achieved(problem.model(x).logits)
        return Result(PIXELS.round(x, batch.inputs), success, Cost(ones, 0 * ones, ones), 0 * ones)


def chosen(attack, name="nudge"):
    return choice(name, attack)


def brightness(x):
    total = torch.from_numpy(x).flatten(1).mean(1)
    return torch.stack([-total, total - 0.9, 0 * total - 0.5], 1)


def model(name, digest=None):
    return FunctionModel(
        brightness,
        name=name,
        modality="image",
        family="other",
        space=PIXELS,
        classes=CLASSES,
        digest=digest or name,
        probabilities=False,
    )


def data(n=N):
    stored = (255 * Rng.of(0, list(map(str, range(n)))).uniform(4)).to(torch.uint8)
    return Dataset("toy", "image", PIXELS, stored, torch.arange(n) % 3, [f"id{i}" for i in range(n)], CLASSES)


def plan(**changes: Any) -> Plan:
    base = {
        "modality": "image",
        "sources": (model("one"), model("two")),
        "targets": (model("one"), model("three")),
        "attacks": (chosen(Nudge(0.5)), chosen(Nudge(1.0), "other")),
        "data": data(),
        "threat": Linf(0.1),
        "threat_label": "linf 0.1",
        "controls": 2,
    }
    return Plan(**{**base, **changes})


def keys(plan: Plan) -> dict[tuple, str]:
    """Every unit's key by the part that it plays; of the first shard."""
    shard, found = plan.shards()[0], {}
    for m in plan.models:
        found["clean", m.name] = Judge(m, Clean(shard), shard, "").key
    for craft in plan.crafts(shard):
        where = (craft.source.name, craft.chosen.info.name)
        found[("craft", *where)] = craft.key
        for m in plan.judged(craft):
            attacked, controls, swapped = plan.judges(craft, m)
            found[("attacked", *where, m.name)] = attacked.key
            found[("swapped", *where, m.name)] = swapped.key
            for k, control in enumerate(controls):
                found[("control", *where, m.name, k)] = control.key
    return found


BASE = plan()
CRAFTED = {"craft", "attacked", "swapped"}


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({}, lambda role, *names: False),
        ({"threat_label": "another name"}, lambda role, *names: False),
        ({"seeds": (1,)}, lambda role, *names: role != "clean"),
        ({"threat": Linf(0.2)}, lambda role, *names: role != "clean"),
        ({"threat": L2(0.1)}, lambda role, *names: role != "clean"),
        ({"targeted": True}, lambda role, *names: role in CRAFTED),
        (
            {"attacks": (chosen(Nudge(0.25)), chosen(Nudge(1.0), "other"))},
            lambda role, *names: role in CRAFTED and names[1] == "nudge",
        ),
        (
            {"sources": (model("one"), model("two", "retrained"))},
            lambda role, *names: (
                (role in CRAFTED and names[0] == "two") or "two" in (names[0], names[-1], *names[2:3])
                if role != "control"
                else names[2] == "two"
            ),
        ),
        (
            {"targets": (model("one"), model("three", "retrained"))},
            lambda role, *names: role != "craft" and "three" in names,
        ),
        ({"data": replace(data(), labels=(torch.arange(N) + 1) % 3)}, lambda role, *names: True),
        ({"data": replace(data(), ids=[f"x{i}" for i in range(N)])}, lambda role, *names: True),
        ({"data": replace(data(), name="renamed", facts={"split": "test"})}, lambda role, *names: False),
    ],
    ids=[
        "nothing",
        "label",
        "seed",
        "eps",
        "norm",
        "targeted",
        "attack parameter",
        "source weights",
        "target weights",
        "labels",
        "ids",
        "data name",
    ],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(changes, touched):
    before, after = keys(BASE), keys(plan(**changes))
    assert before.keys() == after.keys()
    changed = {role for role in before if before[role] != after[role]}
    assert changed == {role for role in before if touched(*role)}


def test_more_controls_are_more_units_and_change_none():
    before, after = {u.key for u in BASE.units()}, {u.key for u in plan(controls=4).units()}
    assert before < after


def test_controls_of_a_ball_are_shared_by_all_that_was_crafted_in_it():
    kinds = keys(BASE)
    controls = {v for k, v in kinds.items() if k[0] == "control"}
    assert len(controls) == 3 * 2  # three models, two draws, whatever the source and attack
    assert len({u.key for u in BASE.units()}) == len(BASE.units())


def test_units_come_after_what_they_need():
    seen = set()
    for unit in BASE.units():
        if isinstance(unit, Judge) and unit.artefact.needs is not None:
            assert unit.artefact.needs.key in seen
        seen.add(unit.key)


def test_targets_are_other_classes_and_follow_the_ids():
    craft = Craft(model("one"), chosen(Nudge()), Linf(0.1), data(), 0, targeted=True)
    goals = craft.targets()
    assert (goals != craft.data.reference).all()
    assert set(goals.tolist()) == {0, 1, 2}
    part = replace(craft, data=craft.data.take(torch.tensor([7, 3])))
    assert part.targets().tolist() == goals[[7, 3]].tolist()
    assert replace(craft, targeted=False).targets() is None


def test_swaps_give_nobody_their_own_perturbation(tmp_path):
    """One pixel carries who a perturbation was made for."""

    @dataclass(frozen=True)
    class Signed:
        def __call__(self, problem, batch, rng):
            change = torch.zeros_like(batch.inputs)
            change[:, 0] = torch.tensor([int(i[2:]) for i in batch.ids]) / 255
            ones = torch.ones(len(batch), dtype=torch.long)
            return Result(batch.inputs + change, ones.bool(), Cost(ones, ones, ones), 0 * ones)

    low = replace(data(), stored=data().stored // 2)
    craft, store = Craft(model("one"), chosen(Signed()), Linf(0.2), low, 0), Store(tmp_path)
    craft.run(store, 64)
    swapped = Swapped(craft).inputs(store).long()
    worn = swapped[:, 0] - low.stored[:, 0].long()
    assert sorted(worn.tolist()) == list(range(N))
    assert (worn != torch.arange(N)).all()
    assert torch.equal(swapped[:, 1:], low.stored[:, 1:].long())


def test_controls_use_the_budget_in_full_and_differ_by_draw(tmp_path):
    craft = Craft(model("one"), chosen(Nudge()), Linf(10 / 255), data(), 0)
    draws = [Control(craft, k).inputs(Store(tmp_path)).long() for k in range(3)]
    for stored in draws:
        change = stored - craft.data.stored.long()
        free = (craft.data.stored.long() >= 10) & (craft.data.stored.long() <= 245)
        assert change[free].abs().eq(10).all()
        assert change.abs().max() <= 10
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], Control(craft, 0).inputs(Store(tmp_path)).long())


def test_an_example_outside_the_budget_is_never_stored(tmp_path):
    craft, store = Craft(model("one"), chosen(Nudge(2.0)), Linf(0.1), data(), 0), Store(tmp_path)
    with pytest.raises(AssertionError, match="stored adversarial example id0 is outside the budget"):
        craft.run(store, 64)
    assert not store.has(craft.key)


def test_batch_size_changes_no_byte(tmp_path):
    craft = Craft(model("one"), chosen(Nudge()), Linf(0.1), data(), 0)
    files = []
    for batch in (1, 7, 64):
        store = Store(tmp_path / str(batch))
        craft.run(store, batch)
        judge = Judge(model("one"), craft, craft.data, "")
        judge.run(store, batch)
        paths = [store.path(u.key, s) for u, s in ((craft, "parquet"), (craft, "safetensors"), (judge, "parquet"))]
        files.append([p.read_bytes() for p in paths])
    assert files[0] == files[1] == files[2]


def test_an_answer_that_is_not_finite_is_refused_by_name(tmp_path):
    broken = model("broken")
    broken.function = lambda x: brightness(x) + torch.where(torch.arange(len(x)) == 3, torch.nan, 0.0)[:, None]
    judge = Judge(broken, Clean(data()), data(), "")
    with pytest.raises(CaromError, match="model broken answers id3 with a number that is not finite"):
        judge.run(Store(tmp_path), 64)
    assert not Store(tmp_path).has(judge.key)


# The names of parts.


class Kind(Enum):
    FIRST = "first"


@dataclass(frozen=True)
class Part:
    size: float
    kind: Kind = Kind.FIRST
    inner: tuple = ()
    call: Any = margin
    cache: dict = field(default_factory=dict, compare=False)

    def method(self):
        return self.size


def test_parts_are_described_by_their_fields():
    assert describe(Part(0.5, inner=(Part(1.0), None, True, torch.uint8))) == {
        "is": name_of(Part),
        "size": 0.5,
        "kind": "first",
        "inner": [describe(Part(1.0)), None, True, "torch.uint8"],
        "call": {"is": "margin"},
    }
    assert describe({"b": 1, 2: [3]}) == {"b": 1, "2": [3]}
    assert describe(Part(1.0, cache={"a": 1})) == describe(Part(1.0))


def test_attacks_differ_in_what_they_do():
    attacks = [fgsm(), pgd(), pgd(steps=11), pgd(restarts=2), pgd(loss="margin"), pgd(start=False), mi_fgsm()]
    described = [str(describe(a)) for a in [*attacks, mi_fgsm(decay=0.9)]]
    assert len(set(described)) == len(described)
    assert describe(pgd()) == describe(pgd(steps=10))


def module_level(x):
    return x


@pytest.mark.parametrize(
    "part",
    [
        lambda x: x,
        functools.partial(module_level, 1),
        Part(1.0).method,
        object(),
        torch.zeros(2),
        Part(1.0, call=lambda x: x),
        (lambda: lambda x: x)(),
    ],
    ids=["lambda", "partial", "bound method", "object", "tensor", "nested lambda", "closure"],
)
def test_what_has_no_name_is_refused(part):
    with pytest.raises(TypeError, match="no name to store results under"):
        describe(part)


def test_functions_are_described_by_their_name():
    def inner():
        return None

    assert describe(module_level) == {"is": name_of(module_level)}
    with pytest.raises(TypeError):
        describe(inner)
