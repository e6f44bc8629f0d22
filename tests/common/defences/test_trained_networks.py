"""Distillation, transfer from a robust source, ensembles and hardened trees: what each does to a network or to trees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import robust_toy as toy
import torch
from torch import nn
from torch.nn import functional as F

import carom
from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.defences.training.distillation import Softened
from carom.common.defences.training.hardening import Hardening
from carom.common.defences.training.members import alignment
from carom.common.defences.training.trained import taught, trained_by
from carom.common.defences.training.transferred import Transferring, head_of
from carom.common.loading.zoo import Recipe
from carom.common.models.averaged import Averaged
from carom.common.models.training import Method, Schedule, fit
from carom.common.models.trees import TreeEnsemble, TreeModel
from carom.vision.space import PIXELS


def trained(method: Method, module: nn.Module, seed: int = 0, epochs: int = 8) -> nn.Module:
    x, labels = toy.inputs(400, seed)
    return fit(
        module, lambda rows, _: (x[rows], labels[rows]), torch.arange(400), Schedule(epochs, 50, 0.02), 0, method=method
    )


def deep(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return toy.deep()


def test_a_distilled_student_answers_with_larger_logits_and_smaller_gradients_of_the_loss():
    """Why attacks on its loss fail and attacks on its logits do not: at temperature 1 the softmax is saturated."""
    plain = trained(Softened(1.0), deep(0), epochs=20)
    teacher = trained(Softened(20.0), deep(1), epochs=20)
    student = trained(Softened(20.0, teacher), deep(2), epochs=20)
    x, labels = toy.inputs(200, 9)

    def margin_and_slope(network: nn.Module) -> tuple[float, float]:
        own = x.clone().requires_grad_()
        logits = network(own)
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), own)
        return float((logits[:, 1] - logits[:, 0]).detach().abs().median()), float(grad.flatten(1).norm(dim=1).median())

    (small, steep), (large, flat) = margin_and_slope(plain), margin_and_slope(student)
    assert large > 3 * small
    assert flat < steep / 3
    assert (student(x).argmax(1) == labels).float().mean() > 0.85


def test_a_student_is_taught_the_teachers_answers_at_the_temperature():
    teacher, student = deep(0).eval(), deep(1).eval()
    x, labels = toy.inputs(10, 0)
    found = Softened(4.0, teacher).loss(student, x, labels, torch.Generator(), 0.1)
    wanted = -((teacher(x) / 4).softmax(1) * (student(x) / 4).log_softmax(1)).sum(1).mean()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


@pytest.fixture(scope="module")
def parent() -> nn.Module:
    return trained(Method(), deep(0))


def test_a_probe_trains_the_last_layer_alone(parent):
    child = trained(Transferring(parent, "parent", "probe", 0.0), deep(1), seed=3)
    head = {id(value) for value in head_of(child).parameters()}
    for (name, value), (_, before) in zip(child.named_parameters(), parent.named_parameters(), strict=True):
        assert torch.equal(value, before) != (id(value) in head), name
        assert value.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(child.buffers(), parent.buffers(), strict=True))


def test_full_transfer_moves_everything_and_the_penalty_holds_features(parent):
    x, _ = toy.inputs(100, 5)

    def moved(how: str, weight: float) -> float:
        child = trained(Transferring(parent, "parent", how, weight), deep(1), seed=3)
        assert not torch.equal(child[1].weight, parent[1].weight)
        return float((child[:4](x) - parent[:4](x)).detach().norm())

    assert moved("penalty", 5.0) < 0.7 * moved("full", 0.0)


def test_a_probe_on_a_robust_source_is_robust_and_on_a_plain_one_is_not():
    """The known truth of robust transfer, on networks without a hidden layer to be relearnt."""

    def child(defence: str | None) -> nn.Module:
        torch.manual_seed(0)
        base = toy.model(nn.Sequential(toy.Centred(), nn.Linear(20, 4), nn.Linear(4, 2)), "wide")
        spec = defence or "averaging?members=2"
        source = carom.train_defended(base, toy.data(), spec, epochs=12, lr=0.05, batch=50)
        module = source.members[0].module if defence is None else source.module
        return trained(Transferring(module, "source", "probe", 0.0), nn.Sequential(*base.module), seed=3)

    def robust(network: nn.Module) -> float:
        first, last = network[1], network[2]
        whole = nn.Linear(20, 2)
        whole.weight.data, whole.bias.data = last.weight @ first.weight, last.weight @ first.bias + last.bias
        return toy.robust_accuracy(nn.Sequential(toy.Centred(), whole))

    assert robust(child("pgd-at?eps=0.1&attack=(pgd?steps=3&size=0.5)")) > 0.7
    assert robust(child(None)) < 0.1


def test_a_source_of_another_build_is_refused(parent):
    with pytest.raises(CaromError, match="built otherwise"):
        trained(Transferring(parent, "zoo:other", "full", 0.0), toy.network())
    with pytest.raises(UnknownName, match="probe"):
        Transferring(parent, "zoo:other", "prob", 0.0)


def test_alignment_is_the_papers():
    one, other = torch.eye(2)
    assert float(alignment(torch.stack([one, one])[:, None])) == pytest.approx(1.0)
    assert float(alignment(torch.stack([one, other])[:, None])) == pytest.approx(0.0)
    three = torch.stack([one, other, -one])[:, None]
    assert float(alignment(three)) == pytest.approx(torch.tensor([0.0, -1.0, 0.0]).logsumexp(0).item())


def cosine(averaged: Averaged) -> float:
    x, labels = toy.inputs(200, 9)
    ways = []
    for member in averaged.members:
        own = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(member(own), labels, reduction="sum"), own)
        ways.append(F.normalize(grad.flatten(1), dim=1))
    return float((ways[0] * ways[1]).sum(1).mean())


def test_members_differ_and_their_gradients_turn_apart():
    plain = carom.train_defended(toy.model(deep(0)), toy.data(), "averaging?members=2", epochs=8, lr=0.02)
    apart = carom.train_defended(toy.model(deep(0)), toy.data(), "gal?members=2&weight=2", epochs=8, lr=0.02)
    for ensemble in (plain, apart):
        one, other = (member.module for member in ensemble.members)
        assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        x, labels = toy.inputs(200, 9)
        wanted = Averaged([one, other])(x).softmax(1)
        assert torch.allclose(ensemble(x).logits.softmax(1), wanted, atol=1e-5)
        assert (wanted.argmax(1) == labels).float().mean() > 0.85
    members = [Averaged([member.module for member in ensemble.members]) for ensemble in (apart, plain)]
    assert cosine(members[0]) < cosine(members[1]) - 0.2


def grown(recipe: Recipe, progress: object) -> TreeEnsemble:
    from sklearn.ensemble import RandomForestClassifier

    x, labels = toy.inputs(400, 0)

    def fit_trees(seen: torch.Tensor, told: torch.Tensor) -> TreeEnsemble:
        forest = RandomForestClassifier(15, max_depth=5, random_state=recipe.seed)
        return TreeEnsemble.from_sklearn(forest.fit(seen.flatten(1).numpy(), told.numpy()))

    def model(found: TreeEnsemble) -> TreeModel:
        return TreeModel(found, name="forest", modality="image", space=PIXELS, classes=("a", "b"))

    return (recipe.method or Method()).grow(fit_trees, model, x, labels, recipe.seed)


def forest() -> Recipe:
    return replace(toy.recipe(), name="forest", family="tree", build=TreeEnsemble.empty, train=grown)


def test_hardened_trees_are_fooled_less():
    attack, threat = carom.get_attack("soft-leaf-path", "image"), Linf(toy.EPS)
    defence, steps = Hardening(attack, threat, rounds=3, share=0.5), []
    recipe = trained_by(forest(), defence, "harden", "forest-hard", "hardened")
    plain, hard = forest().train(forest(), None), recipe.train(recipe, lambda *told: steps.append(told))
    x, labels = toy.inputs(200, 9)
    ids = [str(i) for i in range(200)]

    def withstands(trees: TreeEnsemble) -> float:
        victim = TreeModel(trees, name="forest", modality="image", space=PIXELS, classes=("a", "b"))
        result = attack(Problem(victim, Goal(labels), threat), Batch(x, labels, ids), carom.Rng.of(1, ids))
        return (victim(result.inputs).logits.argmax(1) == labels).float().mean().item()

    assert withstands(hard) > withstands(plain) + 0.2
    assert [told[:2] for told in steps] == [(1, 3), (2, 3), (3, 3)]
    again = recipe.train(recipe, None)
    assert torch.equal(again.threshold, hard.threshold)


def test_trees_and_networks_are_not_mistaken_for_each_other():
    with pytest.raises(CaromError, match="grows trees, and pgd-at trains networks"):
        trained_by(forest(), carom.list_defences("image")[0].build(), "pgd-at", "x", "x")
    hard = Hardening(carom.get_attack("soft-leaf-path", "image"), Linf(0.1), 1, 0.1)
    with pytest.raises(CaromError, match="is a network"):
        hard.train(toy.recipe(), None)


def test_a_recipe_with_a_method_of_its_own_takes_no_other():
    with pytest.raises(CaromError, match="a method of its own already"):
        taught(replace(toy.recipe(), method=Method()), Method(), None)
    assert toy.recipe().folder == Path()
