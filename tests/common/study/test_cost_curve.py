"""Equal cost: allowances are kept, attacks that cannot use one are named, and the report shows the curve."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from carom.common.attacks.cost import affording, why_not
from carom.common.attacks.gradient.apgd import AutoPGD
from carom.common.attacks.gradient.ascent import Ascent, climb_of
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Goal
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.common.models.ensembles import Ensemble
from carom.common.models.networks import TorchModel
from carom.common.report.costs import curve_view
from carom.common.report.page import render
from carom.common.runs.load import plan_of
from carom.common.runs.resolve import resolve
from carom.common.runs.run import execute
from carom.common.study.comparisons.cost_curve import AMOUNTS, parse_curve
from carom.common.study.config import make_study
from carom.vision.space import PIXELS

IMAGE = get_modality("image")


def test_a_curve_is_read():
    assert parse_curve("gradients").amounts == AMOUNTS["gradients"] == (1, 10, 50, 200, 1000)
    assert parse_curve("queries=300,100,100").amounts == (100, 300)
    with pytest.raises(UnknownName, match="Did you mean gradients"):
        parse_curve("gradient")
    for bad in ("gradients=", "gradients=0", "gradients=1.5", "queries=1,x"):
        with pytest.raises(CaromError, match="whole numbers of 1 or more"):
            parse_curve(bad)


def test_steps_are_what_an_allowance_pays_for():
    vmi = choose_attack(IMAGE, "vmi-fgsm?samples=4")
    assert affording(vmi, "gradients", 4) is None
    assert why_not(vmi, "gradients", (1, 4)) == "4 gradients or fewer pay for no step, which costs 5"
    assert affording(vmi, "gradients", 24).attack.steps == 4
    assert affording(vmi, "gradients", 24).label == vmi.label
    restarted = affording(choose_attack(IMAGE, "pgd?restarts=3"), "gradients", 20)
    assert (restarted.attack.steps, restarted.attack.restarts) == (6, 3)
    soft = affording(choose_attack(IMAGE, "soft-leaf-path"), "gradients", 7)
    assert soft.attack.ascent.steps == 7
    square = choose_attack(IMAGE, "square")
    assert affording(square, "gradients", 50) is None
    assert affording(square, "queries", 50).attack.queries == 50
    assert affording(vmi, "queries", 50) is None
    assert AutoPGD(steps=100, restarts=2).costing(20).steps == 9
    assert AutoPGD().costing(1) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("apgd?restarts=3", "1 gradient or fewer pay for no step, which costs 6"),
        ("apgd-t?targets=4", "1 gradient or fewer pay for no step, which costs 8"),
        ("ila?first=5", "1 gradient or fewer pay for no step, which costs 7"),
        ("nes", "its cost is not set by a number of gradients"),
        ("square", "its cost is not set by a number of gradients"),
    ],
)
def test_who_has_no_point_at_an_allowance_is_told_what_one_step_costs(name, why):
    chosen = choose_attack(IMAGE, name)
    assert why_not(chosen, "gradients", (1,)) == why
    if why[0] == "1":
        costs = int(why.split()[-1])
        assert affording(chosen, "gradients", costs - 1) is None
        assert affording(chosen, "gradients", costs).attack.steps == 1


class Bend(nn.Module):
    """A small network that every gradient attack can climb."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))

    def forward(self, x):
        return self.net(x)


CLIMBS = [
    name
    for name, info in IMAGE.attacks.items()
    if info.models == "any" and Access.GRADIENT in info.needs and "linf" in info.threats
]


@pytest.mark.parametrize("name", CLIMBS)
def test_no_attack_spends_more_than_its_allowance(name):
    chosen = choose_attack(IMAGE, name)
    if not isinstance(climb_of(chosen.attack), Ascent) and not hasattr(chosen.attack, "costing"):
        pytest.skip("its cost is not set by a number of gradients")
    allowed = next(n for n in (1, 10, 50) if affording(chosen, "gradients", n) is not None)
    module = Bend()
    model = TorchModel(module, name="m", modality="image", family="cnn", space=PIXELS, classes=("a", "b", "c"))
    ids = ["p", "q"]
    x = PIXELS.round(Rng.of(0, ids).uniform(1, 8, 8))
    others = Batch(PIXELS.round(Rng.of(1, "uvw").uniform(1, 8, 8)), torch.tensor([0, 1, 2]), list("uvw"))
    problem = Problem(model, Goal(model(x).logits.argmax(1)), Linf(8 / 255), others=others)
    seen = []
    module.register_full_backward_hook(lambda *_: seen.append(1))
    result = affording(chosen, "gradients", allowed).attack(problem, Batch(x, problem.goal.labels, ids), Rng.of(2, ids))
    assert seen
    assert (result.cost.backward <= allowed).all()
    assert (result.cost.backward > 0).all()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    part = {
        "sources": ["zoo:image-resnet", "zoo:image-tree"],
        "targets": ["zoo:image-resnet", "zoo:image-vit"],
        "attacks": ["bim?steps=3", "emi-fgsm?samples=4", "leaf-path?steps=2"],
        "limit": 12,
    }
    values = {"modalities": {"image": part}, "controls": 1, "curve": "gradients=1,3,8", "curve_limit": 6}
    return make_study({**values, "store": str(tmp_path_factory.mktemp("store"))})


@pytest.fixture(scope="module")
def run(study):
    return execute(study)


def test_cells_carry_the_allowance_and_what_was_spent(run):
    (outcome,) = run.outcomes
    rows = outcome.curve_rows()
    spent = {(c["attack"], c["allowed"]): c["backward"] for c in rows}
    assert spent == {
        ("bim?steps=3", 1): 1,
        ("bim?steps=3", 3): 3,
        ("bim?steps=3", 8): 8,
        ("emi-fgsm?samples=4", 8): 5,
    }
    assert {c["source"] for c in rows} == {"image-resnet"}
    assert all(c["unit"] == "gradients" and c["white_box_n"] <= 6 for c in rows)
    assert outcome.summary()["curve"]["left_out"] == [
        "emi-fgsm?samples=4: 3 gradients or fewer pay for no step, which costs 4",
        "leaf-path?steps=2: its cost is not set by a number of gradients",
    ]
    table = outcome.cells
    assert table["allowed"].to_pylist().count(8) == 4
    assert table["allowed"].to_pylist()[: len(outcome.rows())] == [None] * len(outcome.rows())


def test_its_units_are_counted_beforehand_and_done_afterwards(study, run, tmp_path):
    plan = plan_of(resolve(study), "image")
    units = {unit.key for unit in [*plan.units(), *plan.curve_units()]}
    assert all(run.outcomes[0].store.has(key) for key in units)
    assert len(units) > len(plan.units())


def test_the_report_shows_chart_and_table(run):
    summary = json.loads(json.dumps(run.summary()))
    text = render(summary, [], "A study")
    assert text.count('<svg class="chart"') == 1
    assert "Excess transfer cnn → transformer against gradients" in text
    assert "3 gradients or fewer pay for no step" in text
    view = curve_view(summary["modalities"]["image"])
    (bim, emi) = view["rows"]
    assert (bim["source"], bim["target"], bim["attack"]) == ("cnn", "transformer", "bim?steps=3")
    assert [e is None for e in bim["entries"]] == [False] * 3
    assert [e is None for e in emi["entries"]] == [True, True, False]
    assert curve_view({"curve": None}) is curve_view({}) is None


def test_a_gradient_of_an_ensemble_is_paid_for_as_one_of_each_member():
    parts = [
        TorchModel(Bend(), name=n, modality="image", family="cnn", space=PIXELS, classes=("a", "b", "c")) for n in "ab"
    ]
    both = Ensemble(parts)
    mi, one = choose_attack(IMAGE, "mi-fgsm"), choose_attack(IMAGE, "lgv")
    assert affording(mi, "gradients", 10, both).attack.steps == 5
    assert affording(mi, "gradients", 10, parts[0]).attack.steps == 10
    assert affording(mi, "gradients", 1, both) is None
    assert why_not(mi, "gradients", (1,), both) == "1 gradient or fewer pay for no step, which costs 2"
    assert affording(one, "gradients", 10, both).attack.steps == 10
    assert affording(choose_attack(IMAGE, "apgd"), "gradients", 20, both).attack.steps == 9
    ids = ["p", "q"]
    x = PIXELS.round(Rng.of(0, ids).uniform(1, 8, 8))
    for chosen in (mi, one, choose_attack(IMAGE, "svre"), choose_attack(IMAGE, "cwa")):
        problem = Problem(both, Goal(both(x).logits.argmax(1)), Linf(8 / 255))
        fitting = affording(chosen, "gradients", 30, both).attack
        result = fitting(problem, Batch(x, problem.goal.labels, ids), Rng.of(2, ids))
        assert 15 <= int(result.cost.backward.max()) <= 30
