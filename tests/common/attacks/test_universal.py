"""One perturbation for all: what it is on linear models, and what is charged for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from carom.common.attacks.catalogue.universal import uap
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.networks import TorchModel

D, C = 12, 3
FLOATS = Box("floats", -100.0, 100.0, 0.0)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(torch.randn(C, D, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return x.double() @ self.w.T


@pytest.fixture
def module():
    return Linear()


def drawn(module, name, n, label=None):
    """Examples that the model gets right; of one class, if that is asked for."""
    ids = [f"{name}{i}" for i in range(40 * n)]
    x = Rng.of(0, ids).normal(D)
    labels = module(x).argmax(1)
    rows = torch.arange(len(ids)) if label is None else (labels == label).nonzero().squeeze(1)
    return Batch(x, labels, ids).take(rows[:n])


def problem(module, others, batch, threat, targets=None):
    model = TorchModel(
        module, name="toy", modality="image", family="linear", space=FLOATS, classes=tuple("abc"), shape=(D,)
    )
    return Problem(model, Goal(batch.labels, targets), threat, others=others)


@pytest.mark.parametrize("threat", [Linf(0.3), L2(0.5)])
def test_the_same_perturbation_for_every_example_at_the_edge_of_the_ball(threat, module):
    batch, others = drawn(module, "x", 10), drawn(module, "o", 50)
    result = uap()(problem(module, others, batch, threat), batch, Rng.of(0, batch.ids))
    change = result.inputs - batch.inputs
    assert torch.allclose(change, change[:1].expand_as(change), atol=1e-5)
    assert threat.norm(change)[0] > 0.9 * threat.eps
    assert result.status.eq(Status.DONE).all()


def test_against_one_rival_it_is_the_closed_form(module):
    """Two classes: away from one of them, the best change of all is eps * sign of the difference of weights."""
    with torch.no_grad():
        module.w[2] = module.w[1] - 50 * torch.nn.functional.one_hot(torch.tensor(0), D)  # never answered, where x0 > 0
    ids = [f"x{i}" for i in range(60)]
    x = Rng.of(0, ids).normal(D).abs() + 1
    labels = module(x).argmax(1)
    rows = (labels == 0).nonzero().squeeze(1)
    whole = Batch(x, labels, ids).take(rows)
    batch, others = whole.take(torch.arange(3)), whole.take(torch.arange(3, len(rows)))
    assert len(others) > 5
    result = uap(steps=40)(problem(module, others, batch, Linf(0.1)), batch, Rng.of(0, batch.ids))
    best = 0.1 * (module.w[1] - module.w[0]).sign().float()
    assert torch.allclose(result.inputs - batch.inputs, best.expand(3, D), atol=1e-5)


def test_targeted_there_is_one_for_each_class(module):
    batch, others = drawn(module, "x", 20), drawn(module, "o", 60)
    targets = (batch.labels + 1) % C
    result = uap()(problem(module, others, batch, Linf(1.0), targets), batch, Rng.of(0, batch.ids))
    change = result.inputs - batch.inputs
    for target in range(C):
        same = change[targets == target]
        assert torch.allclose(same, same[:1].expand_as(same), atol=1e-5)
    assert len(change.mul(1e4).round().unique(dim=0)) == C
    assert result.success.float().mean() > 0.5
    alone = torch.tensor([4])
    one = uap()(
        problem(module, others, batch.take(alone), Linf(1.0), targets[alone]), batch.take(alone), Rng.of(1, ["x4"])
    )
    assert torch.equal(one.inputs[0], result.inputs[4])
    assert one.cost.backward[0] == result.cost.backward[4]


def test_each_example_is_charged_for_all_that_was_learned(module):
    """Mini-batches of 8 of 20 others: 8, 8, 4 rows an epoch. The answer at the end is the example's own."""
    batch, others = drawn(module, "x", 5), drawn(module, "o", 20)
    result = uap(steps=7, batch=8)(problem(module, others, batch, Linf(0.1)), batch, Rng.of(0, batch.ids))
    assert result.cost.backward.tolist() == [20 + 20 + 8] * 5
    assert result.cost.forward.tolist() == [49] * 5
    assert result.cost.queries.tolist() == [0] * 5


def test_the_attacked_examples_teach_nothing(module):
    batch, others = drawn(module, "x", 6), drawn(module, "o", 30)
    whole = uap()(problem(module, others, batch, Linf(0.2)), batch, Rng.of(0, batch.ids))
    marked = replace(batch, inputs=batch.inputs.clone())
    marked.inputs[0] = torch.nan
    other = uap()(problem(module, others, marked, Linf(0.2)), marked, Rng.of(9, batch.ids))
    assert torch.equal(whole.inputs[1:], other.inputs[1:])


def test_others_that_teach_nothing_are_told(module):
    batch, others = drawn(module, "x", 4), drawn(module, "o", 8)
    with pytest.raises(CaromError, match="not under attack; none were given"):
        uap()(problem(module, None, batch, Linf(0.2)), batch, Rng.of(0, batch.ids))
    with torch.no_grad():
        module.w[0, 0] = torch.nan
    result = uap()(problem(module, others, batch, Linf(0.2)), batch, Rng.of(0, batch.ids))
    assert result.status.eq(Status.BAD_GRADIENT).all()
    assert torch.equal(result.inputs, batch.inputs)


def test_it_is_learned_once_and_anew_where_the_model_or_the_others_change(module):
    batch, others = drawn(module, "x", 10), drawn(module, "o", 50)
    asked = problem(module, others, batch, Linf(0.3))
    seen = []
    attack = uap(steps=5)

    def run(case, part=batch):
        seen.clear()
        module.forward = lambda x: seen.append(len(x)) or Linear.forward(module, x)
        result = attack(case, part, Rng.of(0, part.ids))
        del module.forward
        return result, len(seen)

    first, forwards = run(asked)
    again, fewer = run(asked)
    assert (forwards, fewer) == (6, 1)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.cost.backward, again.cost.backward)
    assert first.cost.backward[0] == 32 + 18 + 32 + 18 + 32  # two epochs and a half of 50
    assert run(replace(asked, others=drawn(module, "p", 50)))[1] == 6
    assert run(replace(asked, threat=Linf(0.2)))[1] == 6
    with torch.no_grad():
        module.w.neg_()
    assert run(asked)[1] == 6
    assert run(asked)[1] == 1
