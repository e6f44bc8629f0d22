"""Gradients and scores that are of no use leave an example as it is, say so, and disturb nobody."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carom.common.core.batch import Batch
from carom.common.core.problem import Result, Status
from carom.common.models.trees import LEAF, TreeEnsemble, TreeModel

MARK, ABOVE = 0.99, 0.85
"""The first component of the one example that is poisoned (of a text: of its first word's embedding); within EPS no
other example comes near."""

NEAR = {"radius": 0.5, "rho": 0.05, "sigma": 0.01, "behind": 0.3, "p": 0.5}
"""Parameters that keep what an attack looks at near the example, where it has them: nor do others' neighbours."""

EPS = {"linf": 0.05, "l2": 0.1, "l1": 0.09, "snr": 20.0, "words": 0.35, "l0": 4.0, "patch": 0.12, "spatial": 1.0}


ANYWHERE = ("l0", "patch")
"""Kinds of threat in which a change may be of any size: other examples come near the mark, whatever the budget."""


def column(rows, like):
    """[N] -> [N, 1, ...], to broadcast over `like`."""
    return rows.view(-1, *[1] * (like.dim() - 1))


class PoisonedGradient(torch.autograd.Function):
    """The identity; its gradient is not finite for marked examples."""

    @staticmethod
    def forward(ctx, x, value):
        ctx.save_for_backward(x)
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return torch.where(column(x.flatten(1)[:, 0] > ABOVE, grad), ctx.value, grad), None


class Poisoned(nn.Module):
    """A module whose gradients, or whose answers, are not finite for marked examples."""

    def __init__(self, body, gradient=None, answer=None):
        super().__init__()
        self.body, self.gradient, self.answer = body, gradient, answer

    def forward(self, x, *lengths):
        out = self.body(x if self.gradient is None else PoisonedGradient.apply(x, self.gradient), *lengths)
        return out if self.answer is None else torch.where(column(x.flatten(1)[:, 0] > ABOVE, out), self.answer, out)


class Flat(nn.Module):
    """The same answers, with a gradient of zero, as inner layers have too."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x, *lengths):
        out = self.body(x.detach(), *lengths).detach()
        return out + column(0 * x.flatten(1).sum(1), out)


def wrapped(case, wrap):
    """A fresh toy model, its module or front end in a wrapper; of text models, what follows the embedding."""
    model = case.model(fresh=True)
    if isinstance(model, TreeModel):
        model.front_end = wrap(model.front_end or nn.Flatten())
    elif case.world.modality == "text":
        model.module.between = wrap(model.module.between)
    else:
        for one in getattr(model, "members", [model]):
            one.module = wrap(one.module)
            one._freeze.module = one.module
    return model


def marked(case):
    """The batch with one example, the fourth, marked."""
    batch = case.batch()
    if isinstance(batch.inputs, list):
        x = list(batch.inputs)
        x[3] = f"qqqq {x[3]}"
    else:
        x = batch.inputs.clone()
        x.view(len(x), -1)[3, 0] = case.world.space.round(torch.tensor(MARK))
    return Batch(x, batch.labels, batch.ids, batch.lengths), 3


def others(batch, bad):
    return [i for i in range(len(batch)) if i != bad]


def unchanged(case, result, batch):
    """Which stored examples are as they were."""
    clean = case.stored(Result(batch.inputs, result.success, result.cost, result.status))
    return [one == other for one, other in zip(case.stored(result), clean, strict=True)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_spoils_only_its_own_example(own_gradient_case, value):
    case = own_gradient_case
    batch, bad = marked(case)
    budget = {"eps": EPS[case.kind], **NEAR}
    whole = case.run(batch, model=wrapped(case, lambda body: Poisoned(body)), **budget)
    spoiled = case.run(batch, model=wrapped(case, lambda body: Poisoned(body, gradient=value)), **budget)
    assert spoiled.status[bad] == Status.BAD_GRADIENT
    assert unchanged(case, spoiled, batch)[bad]
    if case.kind in ANYWHERE:
        return
    assert not [i for i in others(batch, bad) if case.stored(spoiled)[i] != case.stored(whole)[i]]
    assert torch.equal(spoiled.success[others(batch, bad)], whole.success[others(batch, bad)])
    assert torch.equal(spoiled.status[others(batch, bad)], whole.status[others(batch, bad)])


def test_answers_that_are_not_finite_spoil_only_their_own_example(score_case):
    case = score_case
    batch, bad = marked(case)
    whole = case.run(batch, eps=EPS[case.kind], model=wrapped(case, lambda body: Poisoned(body)))
    spoiled = case.run(batch, eps=EPS[case.kind], model=wrapped(case, lambda body: Poisoned(body, answer=float("nan"))))
    assert spoiled.status[bad] == Status.BAD_GRADIENT
    assert not spoiled.success[bad]
    assert unchanged(case, spoiled, batch)[bad]
    if case.kind in ANYWHERE:
        return
    assert not [i for i in others(batch, bad) if case.stored(spoiled)[i] != case.stored(whole)[i]]
    assert torch.equal(spoiled.status[others(batch, bad)], whole.status[others(batch, bad)])


class Detached(nn.Module):
    """Answers that do not follow from the input by differentiable steps."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x, *lengths):
        return self.body(x.detach(), *lengths).detach()


@pytest.mark.parametrize("wrapper", [Flat, Detached])
def test_gradients_of_zero_change_nothing_and_are_marked(gradient_case, wrapper):
    case, batch = gradient_case, gradient_case.batch()
    result = case.run(model=wrapped(case, wrapper))
    right = ~result.success
    assert right.float().mean() > 0.5
    assert result.status[right].eq(Status.NO_GRADIENT).all()
    assert all(unchanged(case, result, batch))


class Constant(nn.Module):
    """The same answer to everything."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x, *lengths):
        out = self.body(x, *lengths).detach() * 0
        return out + torch.arange(out.shape[-1], 0, -1)


def test_scores_that_never_change_lead_nowhere(score_case):
    case, batch = score_case, score_case.batch()
    model = wrapped(case, Constant)
    (answer,) = model.predict(batch).argmax(1).unique().tolist()
    result = case.run(model=model)
    assert all(unchanged(case, result, batch))
    assert torch.equal(result.success, batch.labels != answer)


def test_trees_of_one_leaf_have_nowhere_to_go(leaf_case):
    case, batch = leaf_case, leaf_case.batch()
    stump = torch.full((1, 1), LEAF)
    ensemble = TreeEnsemble(stump, stump, torch.zeros_like(stump), torch.zeros(1, 1), torch.tensor([[[0.5, 0.3, 0.2]]]))
    model = TreeModel(ensemble, name="leaf", modality="image", space=case.world.space, classes=("a", "b", "c"))
    result = case.run(model=model)
    assert torch.equal(result.inputs, batch.inputs)
    assert torch.equal(result.success, batch.labels != 0)
    stuck = Status.INFEASIBLE if case.info.name == "leaf-path" else Status.NO_GRADIENT
    assert result.status[batch.labels == 0].eq(stuck).all()
