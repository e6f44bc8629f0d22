"""Ensembles and the attacks that read their members, against what can be computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import carom
from carom.common.attacks.catalogue.ensemble import adaea, cwa, lgv, svre
from carom.common.attacks.catalogue.gradient import mi_fgsm
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.ensemble import AdaEa, CommonWeakness, OneMember, VarianceReduced
from carom.common.attacks.gradient.step import Step
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Family, Goal
from carom.common.core.objectives import cross_entropy
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.modality.installed import get_modality
from carom.common.models.ensembles import Ensemble
from carom.common.models.functions import FunctionModel
from carom.common.models.networks import TorchModel
from carom.common.runs.load import load_named
from carom.common.study.config import Named

FLOATS = Box("floats", -100.0, 100.0, 0.0)
N, D, C = 12, 10, 3
IDS = [f"e{i}" for i in range(N)]


class Linear(nn.Module):
    """Logits scale * (W x), in float64."""

    def __init__(self, seed, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = nn.Parameter(scale * torch.randn(C, D, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return x.flatten(1).double() @ self.w.T


def model_of(module, name):
    return TorchModel(
        module, name=name, modality="image", family="linear", space=FLOATS, classes=tuple("abc"), shape=(D,)
    )


@pytest.fixture
def members():
    return [model_of(Linear(seed, scale), f"m{seed}") for seed, scale in ((0, 0.3), (1, 0.15), (2, 0.6))]


@pytest.fixture
def batch():
    rng = Rng.of(0, IDS)
    return Batch(rng.normal(D), rng.integers(C), IDS)


def step_of(model, batch, threat=None, targets=None):
    threat = threat or Linf(0.1)
    oracle = Oracle(Problem(model, Goal(batch.labels, targets), threat), batch)
    length = (0.2 * threat.radius(batch.inputs))[:, None]
    return Step(oracle, cross_entropy, batch.inputs, length, 0, 1, Rng.of(3, IDS))


def gradient(module, x, labels):
    """(softmax - label) W: of the cross-entropy of a linear model."""
    z = module(x)
    return ((z.softmax(1) - F.one_hot(labels, C)) @ module.w).float().detach()


@pytest.mark.parametrize("fuse", ["logits", "probabilities", "losses"])
def test_the_gradient_of_each_fusion_is_the_one_by_hand(fuse, members, batch):
    x, labels = batch.inputs, batch.labels
    w = torch.stack([m.module.w for m in members]).detach()
    z = torch.stack([m.module(x) for m in members]).detach()
    wanted = F.one_hot(labels, C).double()
    if fuse == "logits":
        hand = (z.mean(0).softmax(1) - wanted) @ w.mean(0)
    elif fuse == "losses":
        hand = torch.stack([(z[k].softmax(1) - wanted) @ w[k] for k in range(3)]).mean(0)
    else:  # each member counts as much as it believes in the label
        p = z.softmax(2)
        own = p.gather(2, labels.expand(3, N)[..., None])
        hand = torch.stack([own[k] * ((p[k] - wanted) @ w[k]) for k in range(3)]).sum(0) / own.sum(0)
    step = step_of(Ensemble(members, fuse), batch)
    grad, logits = step.gradient(x)
    assert torch.allclose(grad, hand.float(), atol=1e-5)
    answer = z.softmax(2).mean(0).log() if fuse == "probabilities" else z.mean(0)
    assert torch.allclose(logits, answer.float(), atol=1e-5)
    assert step.oracle.forward.tolist() == step.oracle.backward.tolist() == [3] * N


@pytest.mark.parametrize("fuse", ["logits", "probabilities", "losses"])
def test_an_ensemble_of_one_is_that_model(fuse, members, batch):
    alone = members[0]
    problem = Problem(alone, Goal(batch.labels), Linf(0.1))
    one = mi_fgsm()(problem, batch, Rng.of(0, IDS))
    other = mi_fgsm()(replace(problem, model=Ensemble([alone], fuse)), batch, Rng.of(0, IDS))
    assert torch.allclose(one.inputs, other.inputs, atol=1e-6)
    assert torch.equal(one.success, other.success)
    assert torch.equal(one.cost.forward, other.cost.forward)


def test_shares_of_its_members_by_example(members, batch):
    """All weight on one member is that member; copies of the batch take their example's shares."""
    chosen = torch.arange(N) % 3
    shares = F.one_hot(chosen, 3).float()
    for fuse in ("logits", "probabilities", "losses"):
        ensemble = Ensemble(members, fuse).weighted(shares)
        step = step_of(ensemble, batch)
        grad = step.gradient(torch.cat([batch.inputs] * 2), samples=2).grad.view(2, N, D)
        for i in range(N):
            hand = gradient(members[chosen[i]].module, batch.inputs[i : i + 1], batch.labels[i : i + 1])[0]
            assert torch.allclose(grad[0, i], hand, atol=1e-5)
        assert torch.equal(grad[0], grad[1])


def test_variance_reduction_of_one_member_is_its_gradient(members, batch):
    """Of one member nothing is to be reduced: one inner step is along its gradient at x, a second one along the sum of
    the gradients at x and where the first step led."""
    step = step_of(Ensemble(members[:1]), batch)
    here = gradient(members[0].module, batch.inputs, batch.labels)

    def unit(g):
        return g / g.abs().mean(1, keepdim=True)

    once = VarianceReduced(inner=1)(step, batch.inputs, None).grad
    assert torch.allclose(once, unit(here), atol=1e-4)
    there = gradient(members[0].module, batch.inputs + 0.02 * here.sign(), batch.labels)
    twice = VarianceReduced(inner=2)(step, batch.inputs, None).grad
    assert torch.allclose(twice, unit(here) + unit(there), atol=1e-4)


def test_the_first_variance_reduced_step_is_the_ensembles(members, batch):
    """At x itself every member's own part cancels, whichever is drawn."""
    step = step_of(Ensemble(members, "losses"), batch)
    mean = torch.stack([gradient(m.module, batch.inputs, batch.labels) for m in members]).mean(0)
    found = VarianceReduced(inner=1, size=0.0)(step, batch.inputs, None).grad / 3  # three inner steps that stay at x
    assert torch.allclose(found, mean / mean.abs().mean(1, keepdim=True), atol=1e-4)


def test_one_member_is_drawn_for_each_example_and_step(members, batch):
    step = step_of(Ensemble(members), batch)
    own = torch.stack([gradient(m.module, batch.inputs, batch.labels) for m in members])
    chosen = step.rng.fold("member").integers(3)
    grad = OneMember()(step, batch.inputs, None).grad
    assert torch.allclose(grad, own[chosen, torch.arange(N)], atol=1e-5)
    assert len(chosen.unique()) == 3
    assert step.oracle.backward.tolist() == [1] * N


def test_the_common_weakness_of_one_member_by_hand(members, batch):
    """From eps / 15 downhill, one step of ten ball lengths along the unit gradient, back into the ball."""
    module, x, eps = members[0].module, batch.inputs, 0.1
    below = x - eps / 15 * gradient(module, x, batch.labels).sign()
    grad = gradient(module, below, batch.labels)
    far = below + 10 * eps * D**0.5 * grad / grad.norm(dim=1, keepdim=True)
    hand = (far - x).clamp(-eps, eps)
    estimate = CommonWeakness()(step_of(Ensemble(members[:1]), batch), x, None)
    assert torch.allclose(estimate.grad, hand, atol=1e-5)
    assert torch.allclose(estimate.memory, grad / grad.norm(dim=1, keepdim=True), atol=1e-5)
    inside = CommonWeakness(reverse=0.0, inner=0.5)(step_of(Ensemble(members[:1]), batch, L2(eps)), x, None)
    here = gradient(module, x, batch.labels)
    assert torch.allclose(inside.grad, 0.5 * eps * here / here.norm(dim=1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize("targeted", [False, True])
def test_adaptive_weights_by_hand(targeted, members, batch):
    targets = (batch.labels + 1) % C if targeted else None
    step, x = step_of(Ensemble(members), batch, targets=targets), batch.inputs
    wanted = batch.labels if targets is None else targets
    moved = []
    for m in members:
        grad = gradient(m.module, x, wanted) * (-1 if targeted else 1)
        moved.append(x + 0.02 * grad.sign())
    loss = [[F.cross_entropy(m.module(x), wanted, reduction="none") for x in moved] for m in members]
    score = [
        sum(loss[i][j] / loss[i][i] if not targeted else loss[i][i] / loss[i][j] for i in range(3) if i != j)
        for j in range(3)
    ]
    hand = (2.0 * torch.stack(score)).softmax(0).T.float().detach()
    found = AdaEa(beta=2.0).weights(step, tuple(members), torch.stack(moved))
    assert torch.allclose(found, hand, atol=1e-4)
    assert step.oracle.forward.tolist() == [9] * N
    assert not step.oracle.backward.any()


def test_what_members_disagree_on_is_dropped():
    """One channel: the cosine of two numbers is the product of their signs. Two channels: of their directions."""
    own = torch.tensor([[[1.0, 2.0, -3.0, 0.0]], [[5.0, -1.0, -0.1, 1.0]]])
    assert AdaEa().agreement(own).tolist() == [[1.0, 0.0, 1.0, 1.0]]
    image = torch.tensor([[[1.0, 1.0], [0.0, 1.0]], [[0.0, -1.0], [1.0, -0.5]]]).view(2, 1, 2, 1, 2)
    assert AdaEa().agreement(image).flatten().tolist() == [1.0, 0.0]  # 90 degrees, 161 degrees
    three = torch.tensor([1.0, 1.0, -1.0]).view(3, 1, 1)
    assert AdaEa(threshold=-0.34).agreement(three).item() == 1
    assert AdaEa(threshold=-0.3).agreement(three).item() == 0  # one pair agrees, two do not: -1/3
    assert AdaEa().agreement(three[:1]).item() == 1


@pytest.mark.parametrize("attack", [svre(steps=4), cwa(steps=4), adaea(steps=4), lgv(steps=4)])
def test_what_a_step_costs(attack, members, batch):
    result = attack(Problem(Ensemble(members), Goal(batch.labels), Linf(0.1)), batch, Rng.of(0, IDS))
    whole = 1 if isinstance(attack.gradient, OneMember) else 3
    assert result.cost.backward.tolist() == [4 * whole * attack.passes] * N


@pytest.mark.parametrize("attack", [svre(), cwa(), adaea(), lgv()])
def test_one_model_has_no_members(attack, members, batch):
    with pytest.raises(CaromError, match="m0 is one model"):
        attack(Problem(members[0], Goal(batch.labels), Linf(0.1)), batch, Rng.of(0, IDS))


def deaf_model():
    return FunctionModel(
        lambda x: x[:, :C],
        name="deaf",
        modality="image",
        family="tree",
        space=FLOATS,
        classes=tuple("abc"),
        digest="d",
        probabilities=False,
    )


def test_a_member_without_gradients_is_named(members, batch):
    mixed = Ensemble([members[0], deaf_model()])
    assert mixed.access == Access.LABEL | Access.SCORE | Access.MEMBERS
    assert mixed.family == Family.OTHER
    with pytest.raises(CaromError, match="deaf grants no gradient"):
        svre()(Problem(mixed, Goal(batch.labels), Linf(0.1)), batch, Rng.of(0, IDS))


def test_identity_follows_from_members_and_fusion(members):
    digests = {
        Ensemble(given, fuse).digest
        for given in (members, members[:2], members[1::-1])
        for fuse in ("logits", "losses", "probabilities")
    }
    assert len(digests) == 9
    assert Ensemble(members).digest == Ensemble(members).digest
    assert Ensemble(members[:2], "losses").name == "m0+m1?fuse=losses"


def test_nested_ensembles_count_every_network(members):
    nested = Ensemble([Ensemble(members[:2]), members[2]])
    assert nested.passes == 3
    x = torch.randn(4, D, generator=torch.Generator().manual_seed(0))
    first, second, third = (m(x).logits for m in members)
    assert torch.allclose(nested(x).logits.double(), ((first + second) / 2 + third) / 2, atol=1e-5)


def test_members_have_to_fit_together(members):
    other = model_of(Linear(5), "other")
    other.classes = ("x", "y", "z")
    with pytest.raises(CaromError, match=r"other and m0 cannot answer together: their classes differ \(x, y, z; a, b"):
        Ensemble([members[0], other])
    with pytest.raises(UnknownName, match="Did you mean logits"):
        Ensemble(members, "logit")
    with pytest.raises(CaromError, match="name at least one"):
        Ensemble([])


def test_an_ensemble_by_spec():
    spec = "ensemble:zoo:image-resnet+zoo:image-vgg?fuse=probabilities"
    model = carom.load_model(spec)
    assert [m.name for m in model.members] == ["image-resnet", "image-vgg"]
    assert model.fuse == "probabilities"
    assert model.digest == carom.ensemble(["zoo:image-resnet", "zoo:image-vgg"], "probabilities").digest
    nested = carom.load_model("ensemble:(ensemble:zoo:image-resnet+zoo:image-vgg?fuse=losses)+zoo:image-mlp?name=all")
    assert (nested.name, nested.passes, nested.members[0].fuse) == ("all", 3, "losses")
    with pytest.raises(CaromError, match="fuse"):
        carom.load_model("ensemble:zoo:image-resnet+zoo:image-vgg?fus=losses")
    with pytest.raises(UnknownName, match="image-resnet"):
        carom.load_model("ensemble:zoo:image-resnet+zoo:image-resnett", "image")


def test_members_of_your_own_keep_their_parameters_and_take_the_classes_of_the_data(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "vision" / "models")
    spec = "ensemble:(py:toys:Tiny?width=8&normalise=none)+(py:toys:Tiny?normalise=none&name=small)?name=both"
    data = carom.load_data("builtin:fashion-mnist", limit=4)
    three = replace(data, classes=("x", "y", "z"), labels=data.labels % 3)
    model = load_named(get_modality("image"), Named(spec=spec), three)
    assert [m.module.features.out_channels for m in model.members] == [8, 4]
    assert (model.name, model.members[1].name, model.classes) == ("both", "small", ("x", "y", "z"))


def test_a_study_names_the_member_in_the_way():
    data = carom.load_data("builtin:fashion-mnist", limit=4)
    with pytest.raises(CaromError, match="Without image-tree it would grant gradients"):
        carom.transfer(["ensemble:zoo:image-mlp+zoo:image-tree"], ["zoo:image-mlp"], ["mi-fgsm"], data)


def test_an_estimator_that_parts_examples_refuses_what_holds_them_together():
    class Prepared:
        copies = 1

        def prepared(self, oracle, rng):
            raise NotImplementedError

    with pytest.raises(CaromError, match="VarianceReduced asks about some examples at a time"):
        Ascent(gradient=VarianceReduced(), transform=Prepared())
