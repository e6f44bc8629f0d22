"""Objectives against their formulas, on numbers that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from carom.common.base.errors import CaromError
from carom.common.core.batch import Goal
from carom.common.core.objectives import confidence, cross_entropy, dlr, logit, margin, po_trip

LOGITS = torch.tensor([[2.0, 1.0, -1.0, 0.0], [0.0, 3.0, 1.0, -2.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 2])
TARGETS = torch.tensor([1, 0])
FREE, AIMED = Goal(LABELS), Goal(LABELS, TARGETS)


def log_softmax(row, i):
    return row[i] - math.log(sum(math.exp(v) for v in row))


def test_cross_entropy():
    rows = LOGITS.tolist()
    assert cross_entropy(LOGITS, FREE).tolist() == pytest.approx([-log_softmax(rows[0], 0), -log_softmax(rows[1], 2)])
    assert cross_entropy(LOGITS, AIMED).tolist() == pytest.approx([log_softmax(rows[0], 1), log_softmax(rows[1], 0)])


def test_margin():
    assert margin(LOGITS, FREE).tolist() == [1 - 2, 3 - 1]
    assert margin(LOGITS, AIMED).tolist() == [1 - 2, 0 - 3]


def test_dlr():
    """Croce and Hein 2020: -(z_y - max other) / (z_1st - z_3rd); targeted -(z_y - z_t) / (z_1st - (3rd + 4th) / 2),
    with the best but the target for z_y: the same until the label has lost, as it has in the second row."""
    assert dlr(LOGITS, FREE).tolist() == pytest.approx([-(2 - 1) / (2 - 0), -(1 - 3) / (3 - 0)])
    assert dlr(LOGITS, AIMED).tolist() == pytest.approx([-(2 - 1) / (2 + 0.5), -(3 - 0) / (3 + 1)])


def test_dlr_knows_no_scale_and_no_shift():
    for goal in (FREE, AIMED):
        assert torch.allclose(dlr(LOGITS * 100 + 7, goal), dlr(LOGITS, goal))


def test_dlr_needs_three_classes():
    """With two, the ratio is 1 or -1 wherever one stands, and there is nothing to climb."""
    with pytest.raises(CaromError, match="use loss=margin"):
        dlr(torch.tensor([[1.0, 4.0]]), Goal(torch.tensor([0])))
    logits, goal = torch.tensor([[1.0, 4.0, 2.0]]), Goal(torch.tensor([0]), torch.tensor([2]))
    assert dlr(logits, goal).item() == pytest.approx(2 - 4)
    assert dlr(torch.zeros(1, 3), Goal(torch.tensor([0]))).isfinite().all()


def test_confidence_and_logit():
    share = math.exp(log_softmax(LOGITS[0].tolist(), 0))
    assert confidence(LOGITS, FREE)[0].item() == pytest.approx(1 - share)
    assert logit(LOGITS, FREE).tolist() == [-2, -1]
    assert logit(LOGITS, AIMED).tolist() == [1, 0]
    assert confidence(LOGITS, AIMED)[0].item() == pytest.approx(math.exp(log_softmax(LOGITS[0].tolist(), 1)))


@pytest.mark.parametrize("goal", [FREE, AIMED], ids=["untargeted", "targeted"])
def test_the_margin_is_positive_exactly_when_the_goal_is_achieved(goal):
    logits = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    many = Goal(goal.labels.repeat(200), None if goal.targets is None else goal.targets.repeat(200))
    assert torch.equal(margin(logits, many) > 0, many.achieved(logits))
    if goal.targets is None:  # the targeted ratio compares the target with the label alone, as in its paper
        assert torch.equal(dlr(logits, many) > 0, many.achieved(logits))


@pytest.mark.parametrize("objective", [cross_entropy, margin, dlr, confidence, logit])
@pytest.mark.parametrize("goal", [FREE, AIMED], ids=["untargeted", "targeted"])
def test_climbing_an_objective_serves_the_goal(objective, goal):
    """A small step along the gradient raises the objective, and with it the wanted logits over the others."""
    logits = LOGITS.clone().requires_grad_()
    value = objective(logits, goal)
    (grad,) = torch.autograd.grad(value.sum(), logits)
    climbed = logits + 1e-4 * grad
    assert (objective(climbed, goal) > value).all()
    row = torch.arange(2)
    if goal.targets is None:
        assert (grad[row, goal.labels] < 0).all()
    else:
        assert (grad[row, goal.targets] > 0).all()


def test_answers_that_are_not_finite_achieve_nothing():
    logits = torch.tensor([[0.0, float("nan")], [float("inf"), 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 1, 0])
    assert Goal(labels).achieved(logits).tolist() == [False, False, True]
    assert Goal(labels, 1 - labels).achieved(logits).tolist() == [False, False, True]


def test_po_trip_by_hand():
    """Logits (3, 1, 0) are the point (.75, .25, 0). Its squared norm is .625; the corner is all but (0, 1, 0)."""
    z, goal = torch.tensor([[3.0, 1.0, 0.0]], dtype=torch.float64), Goal(torch.tensor([0]), torch.tensor([1]))
    rim = 1 - (1 - 1e-5) ** 2
    apart = 0.75**2 + (0.25 - 1 + 1e-5) ** 2
    distance = math.acosh(1 + 2 * apart / ((1 - 0.625) * rim))
    triplet = (3 - 1) / math.sqrt(10) + 0.007
    assert po_trip(z, goal).item() == pytest.approx(-distance - 0.01 * triplet, rel=1e-9)
    assert po_trip(z + 5, Goal(goal.targets)).item() == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize("targeted", [False, True])
def test_po_trip_leads_to_the_target_and_away_from_the_label(targeted):
    z = torch.tensor([[6.0, -2.0, -3.0, -2.5], [0.2, 0.1, 0.4, 0.3]], requires_grad=True)
    goal = Goal(torch.tensor([0, 2]), torch.tensor([2, 0]) if targeted else None)
    (grad,) = torch.autograd.grad(po_trip(z, goal).sum(), z)
    assert (grad.gather(1, goal.labels[:, None]) < 0).all()
    if targeted:
        assert (grad.gather(1, goal.targets[:, None]) > 0).all()
