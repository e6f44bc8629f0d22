"""The binarisation test and the alarms, put to attacks of known strength."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from linear import EPS, PIXELS, Linear, N, data_of, model_of
from toys import choice

import carom
from carom.common.core.batch import Output
from carom.common.core.model import Model
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Status
from carom.common.core.threats import Linf
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.common.robustness.alarms import Probes, Tried, ring
from carom.common.robustness.bench import Attacker, Bench
from carom.common.robustness.binarisation import binarisation, build
from carom.common.work.store import Store


@dataclass(frozen=True)
class Idle:
    """Changes nothing."""

    def __call__(self, problem, batch, rng):
        oracle = Oracle(problem, batch)
        return oracle.finish(batch.inputs, torch.full_like(batch.labels, Status.DONE))


@dataclass(frozen=True)
class Shift:
    """The whole budget along the signs of a linear model's weights, against the label: one step, and the best one."""

    share: float = 1.0

    def __call__(self, problem, batch, rng):
        signs = torch.tensor([1.0, -1.0] * 4 + [1.0]).view(1, 1, 3, 3)
        towards = (1 - 2 * problem.goal.labels).view(-1, 1, 1, 1).float()
        x = batch.inputs + self.share * problem.threat.eps * towards * signs
        return Oracle(problem, batch).finish(PIXELS.clamp(x), torch.full_like(batch.labels, Status.DONE))


def bench(tmp_path, eps=EPS):
    return Bench(Store(tmp_path), Linf(eps))


def pgd():
    return choose_attack(get_modality("image"), "pgd?steps=20", "linf")


RIGHT = np.array([False] * 3 + [True] * (N - 3))


def test_an_attack_that_does_nothing_fails_and_one_that_climbs_passes(tmp_path):
    model, data = model_of(Linear()), data_of()
    idle = binarisation(bench(tmp_path), model, data, RIGHT, (choice("idle", Idle()),))
    assert (idle.solved, idle.passed) == (0, False)
    climbs = binarisation(bench(tmp_path), model, data, RIGHT, (pgd(),))
    assert climbs.passed
    assert climbs.tested == climbs.solved == 16
    together = binarisation(bench(tmp_path), model, data, RIGHT, (choice("idle", Idle()), pgd()))
    assert together.passed


def test_every_problem_is_solvable_by_construction(tmp_path):
    """The hidden point is within the budget, in stored form, and the clean example is not the other class."""
    model, data, at = model_of(Linear()), data_of(), bench(tmp_path)
    example = data.take(torch.tensor([5]))
    binary, _ = build(at, model, example)
    clean = binary.predict(example.batch())
    assert int(clean.argmax(1)) == 0
    own = model.predict(example.batch())[0].sort(descending=True).values
    margin = float(clean[0, 0] - clean[0, 1])
    assert margin == pytest.approx(float(own[0] - own[1]), rel=1e-3)  # it is as confident as the model was
    attacked = at.attacked(binary, Attacker("adaptive", binary, pgd()), example_as(example))
    assert attacked.verdict.fooled.all()


def example_as(example):
    from dataclasses import replace

    return replace(example, labels=torch.zeros(1, dtype=torch.long), classes=("as it was", "hidden"))


def test_answers_that_never_move_give_no_problem(tmp_path):
    class Constant(Model):
        def __call__(self, inputs, lengths=None):
            return Output(torch.tensor([[0.0, 1.0]]).expand(len(inputs), 2))

    model = Constant("constant", "image", "linear", PIXELS, ("dark", "bright"), "c" * 64)
    told = binarisation(bench(tmp_path), model, data_of(), RIGHT, (pgd(),))
    assert (told.tested, told.unbuilt, told.passed) == (0, 16, False)
    assert "hardly move" in told.said()


def test_a_random_model_gets_problems_on_the_mean_of_its_draws(tmp_path):
    model = carom.defend(model_of(Linear()), "noise?sigma=0.02")
    told = binarisation(bench(tmp_path, 24 / 255), model, data_of(), RIGHT, (pgd(),))
    assert told.tested >= 8
    assert told.passed


def alarms(tmp_path, adaptive, tests, eps=EPS):
    at, model, data = bench(tmp_path, eps), model_of(Linear()), data_of()
    did = {one.label: at.attacked(model, Attacker("adaptive", model, one), data) for one in adaptive}
    rung, extra = ring(at, Tried(model, data, RIGHT, did, tuple(adaptive)), tests)
    return {alarm.name: alarm.rings for alarm in rung}, extra


def test_each_alarm_rings_for_its_own_reason_and_not_without(tmp_path):
    idle, shift, half = choice("idle", Idle()), choice("shift", Shift()), choice("half", Shift(0.2))
    rung, _ = alarms(tmp_path, [shift], Probes(one_step=half, many_steps=shift, longer=shift, black_box=shift))
    assert not any(rung.values())
    rung, _ = alarms(tmp_path, [shift], Probes(one_step=shift, many_steps=idle))
    assert rung["one step stronger than many"]
    rung, extra = alarms(tmp_path, [idle], Probes(longer=shift))
    assert rung["more steps still gaining"]
    assert not rung.get("black box stronger than white box", False)
    rows, fooled = extra["shift"]
    assert fooled.any()
    assert set(rows) <= set(np.flatnonzero(RIGHT))
    rung, _ = alarms(tmp_path, [idle], Probes(black_box=shift))
    assert rung["black box stronger than white box"]
    rung, extra = alarms(tmp_path, [shift], Probes(unbounded=(shift, Linf(1.0))))
    assert not rung["unbounded attack below 1"]
    assert extra == {}, "what is outside the budget does not count"
    rung, _ = alarms(tmp_path, [shift], Probes(unbounded=(half, Linf(EPS))))
    assert rung["unbounded attack below 1"]
