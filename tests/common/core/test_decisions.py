"""Rejection as an attacker reads it, and the draws of random models that an oracle asks for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal, Output, decided
from carom.common.core.model import Model
from carom.common.core.objectives import cross_entropy, margin
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf

BOX = Box("toy", 0.0, 1.0, 0.0)
LABELS = torch.tensor([0, 0, 0, 0])
LOGITS = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [1.0, 3.0, 0.0], [1.0, 3.0, 2.0]])


def test_the_margin_of_a_decision_is_the_smaller_of_the_classes_and_of_the_alarm():
    alarm = torch.tensor([-5.0, -0.5, 0.25, -9.0])
    found = decided(Output(LOGITS, rejected=alarm > 0, alarm=alarm), LABELS)
    plain = margin(LOGITS, Goal(LABELS))
    assert margin(found, Goal(LABELS)).tolist() == pytest.approx(torch.minimum(plain, -alarm).tolist())
    assert found[:, 1:].equal(LOGITS[:, 1:])  # only the label's logit is raised


@pytest.mark.parametrize("tiny", [1e-30, 1e-9, 0.0])
def test_an_alarm_below_the_last_digit_still_decides(tiny):
    logits = torch.tensor([[1e4, 2e4], [1e4, 2e4]])
    alarm = torch.tensor([tiny or 1e-40, -tiny])
    output = Output(logits, rejected=alarm > 0, alarm=alarm)
    goal = Goal(torch.tensor([0, 0]))
    assert goal.achieved(output).tolist() == [False, True]
    assert goal.achieved(decided(output, goal.labels)).tolist() == [False, True]


def test_a_target_is_hit_only_where_it_is_not_rejected():
    goal = Goal(LABELS, torch.tensor([1, 1, 1, 2]))
    alarm = torch.tensor([-5.0, -0.5, 0.25, -9.0])
    output = Output(LOGITS, rejected=alarm > 0, alarm=alarm)
    assert goal.achieved(output).tolist() == [False, True, False, False]
    assert goal.achieved(decided(output, LABELS)).tolist() == [False, True, False, False]


def test_of_a_model_that_only_says_whether_it_rejects_the_decision_is_known_and_nothing_more():
    rejected = torch.tensor([False, False, True, True])
    found = decided(Output(LOGITS, rejected=rejected), LABELS)
    assert Goal(LABELS).achieved(found).tolist() == [False, True, False, False]
    assert found[:2].equal(LOGITS[:2])


def test_what_is_climbed_leads_below_the_threshold_first():
    """Wrong and rejected: the loss falls with the score alone, whatever the classes say."""
    x = torch.tensor([0.3], requires_grad=True)
    logits = torch.stack([torch.zeros(1), 4.0 + 0 * x], 1)
    alarm = 2 * x
    for objective in (margin, cross_entropy):
        loss = Goal(torch.tensor([0])).loss(objective, Output(logits, rejected=alarm > 0, alarm=alarm))
        (grad,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)
        assert grad.item() < 0


class Tossed(Model):
    """Answers x plus what its stream draws; its gradient is 1 plus another draw."""

    random, eot = True, 8

    def __init__(self) -> None:
        super().__init__("tossed", "toys", "other", BOX, ("a", "b"), "digest")
        self.rng: Rng | None = None

    def keyed(self, rng: Rng) -> Model:
        other = copy.copy(self)
        other.rng = rng
        return other

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Output:
        assert self.rng is not None
        drawn = self.rng.normal(2)
        value = inputs[:, 0] * (1 + drawn[:, 0]) + drawn[:, 1]
        return Output(torch.stack([value, torch.zeros_like(value)], 1))


def asked(n: int = 6, **told) -> Oracle:
    ids = [f"e{i}" for i in range(n)]
    batch = Batch(torch.full((n, 1), 0.5), torch.zeros(n, dtype=torch.long), ids)
    return Oracle(Problem(Tossed(), Goal(batch.labels), Linf(0.1), **told), batch)


def test_each_query_of_an_example_draws_anew_and_the_same_in_any_company():
    oracle = asked()
    x = oracle.batch.inputs
    first, second = oracle.logits(x), oracle.logits(x)
    assert not (first == second).all(1).any()
    part = asked().take(torch.tensor([4, 1]))
    assert part.logits(x[:2]).equal(first[[4, 1]])
    assert part.logits(x[:2]).equal(second[[4, 1]])
    # Two versions of an example in one call are its next two queries.
    rows = torch.tensor([2, 2, 5])
    together = asked().logits(x[:3], rows)
    assert together.equal(torch.stack([first[2], second[2], first[5]]))
    assert asked(stream=("other",)).logits(x)[0].tolist() != first[0].tolist()


def test_who_holds_the_model_averages_its_draws_and_they_are_counted():
    oracle = asked(eot=200)
    looked = oracle.logits(oracle.batch.inputs, pays=False)
    assert looked[:, 0].mean().item() == pytest.approx(0.5, abs=0.1)
    assert oracle.cost().forward.tolist() == [200] * 6
    assert oracle.cost().queries.tolist() == [0] * 6
    grad, _, _ = oracle.gradient(margin, oracle.batch.inputs)
    assert grad.mean().item() == pytest.approx(-1, abs=0.1)
    assert oracle.cost().backward.tolist() == [200] * 6
    assert asked().draws == 8


def test_copies_draw_alike_however_they_are_stacked():
    x = torch.full((18, 1), 0.5)
    together = asked(eot=2).gradient(margin, x, copies=3)
    apart = asked(eot=2)
    parts = [apart.gradient(margin, x[:6]) for _ in range(3)]
    # The same example asked three times: as copies of one call, or one call after another.
    assert len({tuple(part[0].flatten().tolist()) for part in parts}) == 3
    assert together[0].view(3, 6).std(0).gt(0).all()
