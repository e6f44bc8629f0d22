"""Adversarial training on a problem whose answer is known in closed form, its losses on numbers worked out by hand, and
the watch over its collapse."""

from __future__ import annotations

import copy

import pytest
import robust_toy as toy
import torch
from torch import nn
from torch.nn import functional as F

import carom
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.notices import Notice
from carom.common.core.batch import Goal
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.threats import Linf
from carom.common.defences.training.adversarial import (
    Adversarial,
    Awp,
    BothLosses,
    Distilled,
    Free,
    Mart,
    Trades,
    Watched,
    divergence,
)
from carom.common.defences.training.inner import Crafted, Divergence, Ground, Learner, Transferred
from carom.common.defences.training.watch import Watch
from carom.common.modality.defences import choose_defence
from carom.common.modality.installed import get_modality
from carom.common.models.training import Method, Schedule, fit
from carom.vision.defences.training import TRAINING
from carom.vision.space import PIXELS

PGD = "attack=(pgd?steps=3&size=0.5)"


def trained(defence: str, seed: int = 0, **more) -> carom.Model:
    return carom.train_defended(toy.model(), toy.data(), defence, epochs=12, lr=0.05, batch=50, seed=seed, **more)


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    x, labels = toy.inputs(400, 0)
    torch.manual_seed(0)
    module = toy.network()
    return fit(module, lambda rows, _: (x[rows], labels[rows]), torch.arange(400), Schedule(12, 50, 0.05), 0)


@pytest.mark.parametrize(
    "defence",
    [
        f"pgd-at?eps=0.1&{PGD}",
        f"pgd-at?eps=0.1&awp=0.01&{PGD}",
        f"trades?eps=0.1&{PGD}",
        f"mart?eps=0.1&{PGD}",
        f"awp?eps=0.1&{PGD}",
        "fast-at?eps=0.1",
        "free-at?eps=0.1&replays=3",
        "pgd-at?eps=0.1&attack=(mi-fgsm?steps=3)",
    ],
)
def test_it_learns_the_feature_that_no_attack_crosses(plain, defence):
    """A plain network of as many epochs is fooled on nearly everything, an adversarially trained one on what it gets
    wrong. Of a linear network both numbers are exact."""
    assert toy.robust_accuracy(plain, eps=0.0) > 0.97
    assert toy.robust_accuracy(plain) < 0.05
    made = trained(defence)
    assert toy.robust_accuracy(made.module) > 0.8
    assert toy.robust_accuracy(made.module, eps=0.0) >= toy.robust_accuracy(made.module)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    defence = f"trades?eps=0.1&{PGD}"
    one, again, other = trained(defence), trained(defence), trained(defence, seed=1)
    assert one.digest == again.digest != other.digest
    assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), again.module.parameters(), strict=True))


def test_what_is_trained_is_left_alone_and_what_comes_is_plain():
    base = toy.model()
    before = copy.deepcopy(base.module.state_dict())
    made = carom.train_defended(base, toy.data(), "fast-at?eps=0.1", epochs=2, held_out=toy.data(seed=1, name="other"))
    assert all(torch.equal(before[name], value) for name, value in base.module.state_dict().items())
    assert all(p.requires_grad for p in made.module.parameters())
    assert not made.module.training
    assert made.card["defence"].startswith("fast-at")
    assert 0 <= made.card["clean_accuracy"] <= 1


def test_a_defended_network_is_saved_and_loaded(tmp_path):
    made = carom.train_defended(toy.model(), toy.data(), "averaging?members=2", epochs=1)
    one = carom.train_defended(toy.model(), toy.data(), "fast-at?eps=0.1", epochs=1)
    for model in (made, one):
        path = tmp_path / "made.safetensors"
        carom.save_surrogate(model, path)
        again = carom.load_surrogate(path, like=toy.model())
        assert again.digest == model.digest
        x, _ = toy.inputs(8, 5)
        assert torch.equal(again(x).logits, model(x).logits)


def test_the_method_of_the_loop_is_the_plain_way(plain):
    """`Method` itself changes nothing, and a `Watched` one without a watch neither."""
    x, labels = toy.inputs(400, 0)

    def train(method: Method | None) -> nn.Module:
        torch.manual_seed(0)
        return fit(
            toy.network(),
            lambda rows, _: (x[rows], labels[rows]),
            torch.arange(400),
            Schedule(12, 50, 0.05),
            0,
            method=method,
        )

    for method in (Method(), Watched()):
        assert all(torch.equal(a, b) for a, b in zip(train(method).parameters(), plain.parameters(), strict=True))


NATURAL, ATTACKED = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.5, 1.5, 0.0]])


def answers(x: torch.Tensor) -> torch.Tensor:
    """A network that answers NATURAL to zeros and ATTACKED to ones."""
    return NATURAL + x * (ATTACKED - NATURAL)


def test_losses_are_those_of_the_papers():
    clean, adversarial, labels = torch.zeros(1, 3), torch.ones(1, 3), torch.tensor([0])
    p, q = NATURAL.softmax(1)[0], ATTACKED.softmax(1)[0]
    kl = float((p * (p / q).log()).sum())
    natural, attacked = -float(p[0].log()), -float(q[0].log())
    boosted = attacked - float((1 - q[1]).log())
    found = {
        BothLosses(): attacked,
        BothLosses(0.25): 0.25 * natural + 0.75 * attacked,
        Trades(6.0): natural + 6 * kl,
        Mart(5.0): boosted + 5 * kl * (1 - float(p[0])),
    }
    for outer, wanted in found.items():
        assert float(outer(answers, clean, adversarial, labels)) == pytest.approx(wanted, rel=1e-5), outer
    teacher = lambda x: torch.tensor([[1.0, 1.0, 0.0]])  # noqa: E731
    softer = float(divergence(teacher(clean) / 2, ATTACKED / 2))
    outer = Distilled(teacher, temperature=2.0, alpha=0.75)
    assert float(outer(answers, clean, adversarial, labels)) == pytest.approx(0.75 * 4 * softer + 0.25 * natural)


def test_weights_are_perturbed_against_the_loss_and_put_back():
    torch.manual_seed(0)
    network, (x, labels) = toy.deep().train(), toy.inputs(50, 3)
    before = copy.deepcopy(network.state_dict())
    outer, gamma = BothLosses(), 0.05
    loss = Awp(outer, gamma)(network, x, x, labels)
    for name, value in network.named_parameters():
        assert torch.equal(before[name], value), name
    moved = copy.deepcopy(network)
    moved.load_state_dict(before)
    matrices = [value for value in moved.parameters() if value.ndim > 1]
    grads = torch.autograd.grad(outer(moved, x, x, labels), matrices)
    with torch.no_grad():
        for value, grad in zip(matrices, grads, strict=True):
            value += gamma * value.norm() / grad.norm() * grad
    wanted = outer(moved, x, x, labels)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert float(loss) > float(outer(network, x, x, labels))
    own = torch.autograd.grad(loss, list(network.parameters()))
    theirs = torch.autograd.grad(wanted, list(moved.parameters()))
    for a, b in zip(own, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)
    # Statistics of batches move as in one pass, not in two.
    once = toy.deep().train()
    once.load_state_dict(before)
    once(x)
    fresh = toy.deep().train()
    fresh.load_state_dict(before)
    Awp(outer, 0.0)(fresh, x, x, labels)
    assert torch.allclose(fresh[2].running_mean, once[2].running_mean)


def test_the_divergence_is_climbed_from_a_random_point():
    """At the clean inputs its gradient is nothing but rounding, so the attack of TRADES never starts there."""
    learner = Learner(toy.model().module, "image", PIXELS, 2)
    batch, threat = toy.data(16, 4).batch(), Linf(0.1)
    rng, problem = carom.Rng.of(0, batch.ids), Problem(learner, Goal(batch.labels), threat)
    with Divergence().prepared(Oracle(problem, batch), rng) as objective:
        grad, loss, _ = Oracle(problem, batch).gradient(objective, batch.inputs)
        there, _, _ = Oracle(problem, batch).gradient(objective, threat.start(batch.inputs, rng))
    assert float(loss.abs().max()) < 1e-6
    assert float(grad.abs().max()) < 1e-5 < 1e-4 < float(there.abs().max())
    (info,) = [info for info in TRAINING.listed if info.name == "trades"]
    assert info.build(attack="mi-fgsm").method().inner.attack.random_start


def test_the_inner_attack_leaves_the_network_as_it_is_and_stays_in_the_budget():
    method = choose_defence(get_modality("image"), f"pgd-at?eps=0.1&{PGD}").defence.method()
    network, (x, labels) = toy.deep().train(), toy.inputs(50, 3)
    before, generator = copy.deepcopy(network.state_dict()), torch.Generator().manual_seed(0)
    found = method.inner(network, x, labels, generator)
    assert float((found - x).abs().max()) <= 0.1 + 1e-6
    assert float((found - x).abs().max()) > 0.09
    assert bool(((found >= 0) & (found <= 1)).all())
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    again = method.inner(network, x, labels, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    assert not torch.equal(found, method.inner(network, x, labels, generator))


def test_free_training_replays_batches_and_keeps_the_change():
    threat, space = Linf(0.1), PIXELS
    method = Free(threat, space, replays=4, size=1.0)
    assert method.schedule(Schedule(12)).epochs == 3
    x, labels = toy.inputs(100, 0)
    asked, steps = [], []

    def sample(rows, generator):
        asked.append(rows)
        return x[rows], labels[rows]

    torch.manual_seed(0)
    fit(toy.network(), sample, torch.arange(100), Schedule(4, 50, 0.05), 0, after=steps.append, method=method)
    assert len(asked) == 2
    assert steps == list(range(1, 9))
    change = method._change
    assert change is not None
    assert float(change.abs().max()) == pytest.approx(0.1, abs=1e-6)


class Shift:
    """An attack that moves every input against its label by so much in the weak features."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, module, inputs, labels, generator):
        moved = inputs.clone()
        moved.flatten(1)[:, 1:] -= (self.by * (2.0 * labels - 1))[:, None]
        return moved


class Forgets(Watched):
    """Learns the robust feature for two epochs, then only the weak ones: what catastrophic overfitting looks like."""

    seen = 0

    def loss(self, module, inputs, labels, generator, smoothing):
        self.seen += 1
        kept = inputs.clone()
        if self.seen <= 14:
            kept.flatten(1)[:, 1:] = 0.5
            return F.cross_entropy(module(kept), labels)
        kept.flatten(1)[:, 0] = 0.5
        return F.cross_entropy(module(kept), labels) + module[1].weight[:, 0].square().sum()


def test_the_watch_rings_and_puts_the_best_epoch_back():
    x, labels = toy.inputs(400, 0)
    torch.manual_seed(0)
    states = []

    class Recorded(Forgets):
        def look(self, network, epoch):
            states.append(copy.deepcopy(network.state_dict()))
            return super().look(network, epoch)

    method = Recorded(watch=Watch(Shift(0.0), Shift(0.1)))
    with pytest.warns(Notice, match="catastrophic overfitting in epoch"):
        made = fit(
            toy.network(),
            lambda rows, _: (x[rows], labels[rows]),
            torch.arange(400),
            Schedule(20, 50, 0.3),
            0,
            method=method,
        )
    watch = method.watch
    assert watch is not None
    assert watch.rung is not None
    assert 2 < watch.rung < 20
    assert len(watch.looks) == watch.rung  # training stopped there
    last, best = watch.looks[-1], max(watch.looks, key=lambda look: look.robust)
    assert last.quick > last.robust + 0.2
    assert best.robust > last.robust + 0.2
    wanted = states[best.epoch - 1]
    assert all(torch.equal(wanted[name], value) for name, value in made.state_dict().items())


def test_the_watch_is_silent_where_nothing_collapses(recwarn):
    made = trained("fast-at?eps=0.1")
    assert toy.robust_accuracy(made.module) > 0.8
    assert not [w for w in recwarn if "catastrophic" in str(w.message)]


def test_what_is_held_out_is_not_trained_on():
    x, labels = toy.inputs(100, 0)
    seen = set()

    def sample(rows, generator):
        seen.update(rows.tolist())
        return x[rows], labels[rows]

    watch = Watch(Shift(0.0), Shift(0.1), held=20)
    left = watch.hold_out(sample, torch.arange(100), torch.Generator().manual_seed(0))
    held = set(seen)
    assert len(held) == 20
    assert held | set(left.tolist()) == set(range(100))
    assert not held & set(left.tolist())


def test_ensemble_training_draws_every_source():
    drawn = []

    def source(name):
        def craft(module, inputs, labels, generator):
            drawn.append(name)
            return inputs

        return craft

    inner, generator = Transferred([source("own"), source("a"), source("b")]), torch.Generator().manual_seed(0)
    x, labels = toy.inputs(4, 0)
    for _ in range(60):
        inner(toy.network(), x, labels, generator)
    counts = [drawn.count(name) for name in ("own", "a", "b")]
    assert sum(counts) == 60
    assert min(counts) > 8


def test_ensemble_training_lowers_transfer_from_its_static_model(plain):
    """A linear attack transfers fully between plain linear networks, and hardly to one that was trained on it."""
    static = toy.model(plain, "static")
    attack, threat = carom.get_attack("fgsm", "image"), Linf(0.1)
    ground = Ground("image", PIXELS, {}, {}, lambda spec: static, "linf", 0.1, "")
    own, other = Crafted(attack, threat, ground), Crafted(attack, threat, ground, static)
    x, labels = toy.inputs(400, 0)
    torch.manual_seed(1)
    made = fit(
        toy.network(),
        lambda rows, _: (x[rows], labels[rows]),
        torch.arange(400),
        Schedule(12, 50, 0.05),
        0,
        method=Adversarial(Transferred((own, other)), BothLosses(0.5)),
    )
    test, truth = toy.inputs(400, 7)
    attacked = other(plain, test, truth, torch.Generator().manual_seed(0))
    assert (plain(attacked).argmax(1) == truth).float().mean() < 0.2
    assert (made(attacked).argmax(1) == truth).float().mean() > 0.75


@pytest.mark.parametrize(
    ("defence", "error", "words"),
    [
        ("pgd-at?attack=pdg", UnknownName, "Did you mean pgn or pgd"),
        ("pgd-at?threat=linff", UnknownName, "Did you mean linf"),
        ("pgd-at?threat=l0", CaromError, "pgd works in linf, l2, l1, not in l0"),
        ("pgd-at?attack=leaf-path", CaromError, "leaf-path needs leaves, which it does not grant"),
        ("trades?attack=square", CaromError, "climbs a divergence of its own"),
        ("distillation?temperature=0", CaromError, "above 0"),
        ("jpeg", CaromError, r"carom.defend\(model, 'jpeg'\)"),
        ("ensemble-at?static=zoo:image-forest", CaromError, "fgsm needs gradient, which image-forest does not grant"),
        ("harden", CaromError, "harden grows trees"),
    ],
)
def test_what_cannot_be_trained_is_refused(defence, error, words):
    with pytest.raises(error, match=words):
        carom.train_defended(toy.model(), toy.data(60), defence, epochs=1)


def test_a_training_defence_stands_around_no_model():
    with pytest.raises(CaromError, match=r"carom train zoo:NAME --defence 'pgd-at\?eps=0.1'"):
        carom.defend(toy.model(), "pgd-at?eps=0.1")
