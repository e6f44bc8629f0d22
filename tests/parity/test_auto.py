"""`auto` against the four attacks of torchattacks 3.5.1's AutoAttack, which makes 10 steps where AutoAttack's standard
version makes 100: robust accuracy on ordinary networks and on an adversarially trained one. Nothing is rounded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carom.common.base.rng import Rng
from carom.common.core.batch import Goal
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf
from carom.common.modality.installed import get_modality
from carom.common.models.networks import TorchModel

pytestmark = pytest.mark.peers
torchattacks = pytest.importorskip("torchattacks")

PIXELS = Box("pixels", 0.0, 1.0, 0.0)


def trained(eps=16 / 255, epochs=6, size=128):
    """A small MLP on PGD-5 examples (Madry et al. 2018) of 6 000 images."""
    data = get_modality("image").load_data("builtin:fashion-mnist", split="train", limit=6000)
    batch, order = data.batch(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(batch), generator=order).split(size):
            x, y = batch.inputs[rows], batch.labels[rows]
            change = torch.zeros_like(x)
            for _ in range(5):
                change.requires_grad_()
                (grad,) = torch.autograd.grad(nn.functional.cross_entropy(net(x + change), y), change)
                change = ((x + (change + eps / 3 * grad.sign()).clamp(-eps, eps)).clamp(0, 1) - x).detach()
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x + change), y).backward()
            optimiser.step()
    return TorchModel(
        net.eval(), name="robust", modality="image", family="mlp", space=PIXELS, classes=tuple(map(str, range(10)))
    )


# (model, radius, images, our steps, queries of both): the first two slow ones at AutoAttack's own numbers.
CASES = [
    pytest.param("robust", 16 / 255, 40, 10, 300, id="robust"),
    pytest.param("robust", 16 / 255, 200, 100, 5000, id="robust-200", marks=pytest.mark.slow),
    pytest.param("zoo:image-mlp", 8 / 255, 200, 100, 5000, id="mlp-200", marks=pytest.mark.slow),
    pytest.param("zoo:image-resnet", 6 / 255, 50, 50, 500, id="resnet-50", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "eps", "count", "steps", "queries"), CASES)
def test_robust_accuracy_is_not_above_torchattacks(name, eps, count, steps, queries):
    """By more than half a point."""
    image = get_modality("image")
    model = trained() if name == "robust" else image.load_model(name)
    model.space = PIXELS
    batch = image.load_data("builtin:fashion-mnist", split="test", limit=count).batch()
    auto = image.attacks["auto"].build(steps=steps, queries=queries)
    ours = auto(Problem(model, Goal(batch.labels), Linf(eps)), batch, Rng.of(0, batch.ids))
    net, more = model.module.eval(), {"eps": eps, "seed": 0}
    peer = torchattacks.MultiAttack(
        [
            torchattacks.APGD(net, **more),
            torchattacks.APGDT(net, n_classes=10, **more),
            torchattacks.FAB(net, multi_targeted=True, n_classes=10, **more),
            torchattacks.Square(net, n_queries=queries, **more),
        ]
    )
    theirs = model.predict(type(batch)(peer(batch.inputs.clone(), batch.labels), batch.labels, batch.ids)).argmax(1)
    stands = (theirs == batch.labels).float().mean().item()
    print(f"{name}: standing {1 - ours.success.float().mean().item():.3f}, torchattacks {stands:.3f}")
    assert 0.1 < stands < 0.9
    assert 1 - ours.success.float().mean().item() <= stands + 0.005
