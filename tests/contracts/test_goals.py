"""An attack does what it is asked, better than chance."""

from __future__ import annotations

import torch

from carom.common.base.rng import Rng
from carom.common.core.batch import Access

QUERIES = 150
LABELS = 400  # queries of attacks that see labels only: an answer says less than a score
EPS = {"snr": 3.0}
"""Enough for a random search that sees scores only."""


def budget(case):
    """What fits all examples takes a little more room, and more to learn."""
    return EPS.get(case.kind, case.eps * (1.5 if case.info.shared else 1))


def control(case, batch, draw, like):
    """A random perturbation of the same budget, as it would be saved."""
    space, threat = case.world.space, case.threat(budget(case))
    x = space.clamp(threat.control(batch, Rng.of(draw, batch.ids).fold("control"), like))
    return space.round(x, toward=batch.inputs) if isinstance(x, torch.Tensor) else space.round(x)


def attack(case, batch, targeted=False):
    more = {"steps": 60, "examples": 96} if case.info.shared else {}
    queries = LABELS if Access.LABEL in case.info.needs else QUERIES
    return case.run(batch, targeted=targeted, eps=budget(case), queries=queries, **more)


def test_white_box_beats_its_control(case):
    """Over the examples that the model gets right: share fooled by the attack against share fooled by chance."""
    batch = case.batch(48)
    right = case.answers(batch.inputs, batch) == batch.labels
    assert right.float().mean() > 0.8
    result = attack(case, batch)
    fooled = (case.answers(result.inputs, batch) != batch.labels)[right].float().mean()
    nulls = [case.answers(control(case, batch, k, result.inputs), batch) != batch.labels for k in range(3)]
    null = torch.stack(nulls).float().mean(0)[right].mean()
    # Three of 48 examples more than chance at least; far more where the attack sees gradients.
    assert fooled > null + (0.06 if not case.climbs else 0.1)


def test_targeted_really_targets(targeted_case):
    case, batch = targeted_case, targeted_case.batch(48)
    goal = case.goal(batch, targeted=True)
    result = attack(case, batch, targeted=True)
    hits = case.answers(result.inputs, batch) == goal.targets
    assert torch.equal(result.success, hits)
    null = torch.stack(
        [case.answers(control(case, batch, k, result.inputs), batch) == goal.targets for k in range(3)]
    ).float()
    assert hits.float().mean() > null.mean() + 0.04
    untargeted = case.answers(attack(case, batch).inputs, batch) == goal.targets
    assert hits.sum() > untargeted.sum() if case.climbs else hits.sum() >= untargeted.sum() - 1
