"""Feature mixing: what a layer hands on, what it costs, and when it keeps out of the way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carom.common.attacks.inside.feature_mixup import FeatureMix
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.objectives import logit
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf
from carom.common.models.networks import TorchModel

N, K = 6, 9
SPACE = Box("floats", 0.0, 1.0, 0.0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        self.handed_on = self.conv(x)
        return self.head(self.handed_on.relu().mean((2, 3)))


def drawn(name, n):
    ids = [f"{name}{i}" for i in range(n)]
    return Batch(Rng.of(0, ids).uniform(1, 4, 4), torch.arange(n) % 3, ids)


@pytest.fixture
def oracle():
    model = TorchModel(Net(), name="net", modality="image", family="cnn", space=SPACE, classes=tuple("abc"))
    batch = drawn("x", N)
    return Oracle(Problem(model, Goal(batch.labels), Linf(0.1), others=drawn("o", K)), batch)


def partners(oracle, count):
    return Rng.of(0, oracle.batch.ids).fold("partner").integers(K, count)


def test_features_are_mixed_channel_by_channel_with_the_partners_clean_ones(oracle):
    """p = 1 mixes every row of both layers; rows are those of the batch, twice, and two that fill it up to a multiple
    of four at the clean pass (8 of 6) and none after it (12)."""
    module, x = oracle.problem.model.module, oracle.batch.inputs
    rng = Rng.of(5, [f"{i}" for i in range(2 * N)])
    with FeatureMix(p=1.0, most=0.75, partners=1, width=1.0)(oracle) as announce:
        assert oracle.forward.tolist() == [1] * N
        announce(rng)
        oracle.gradient(logit, torch.cat([x, x]), 2)
        found = module.handed_on.detach()[: 2 * N]  # rows that fill up the batch lie behind
    with torch.no_grad():
        own, clean = module.conv(x), module.conv(oracle.problem.others.inputs)[partners(oracle, 1)[:, 0]]
    share = 0.75 * rng.fold("mix", "conv").fold("share").uniform(4)[:, :, None, None]
    wanted = torch.lerp(torch.cat([own, own]), torch.cat([clean, clean]), share)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert oracle.backward.tolist() == [2] * N
    assert not module.conv._forward_hooks


def test_some_rows_are_mixed_and_gradients_take_the_rest(oracle):
    module, x = oracle.problem.model.module, oracle.batch.inputs.repeat(40, 1, 1, 1)
    rng = Rng.of(5, [f"{i}" for i in range(len(x))])
    with FeatureMix(p=0.1, partners=2, width=1.0)(oracle) as announce:
        assert oracle.forward.tolist() == [2] * N
        announce(rng)
        oracle.gradient(logit, x, 40)
        found = module.handed_on.detach()[: len(x)]
    with torch.no_grad():
        same = (found - module.conv(x)).abs().flatten(1).amax(1) < 1e-6
    assert torch.equal(same, rng.fold("mix", "conv").fold("whether").uniform() >= 0.1)
    assert 0.8 < same.float().mean() < 0.97


@pytest.mark.parametrize(("width", "mixed"), [(1.0, True), (0.99, False), (0.25, False)])
def test_wide_features_of_convolutions_are_left_alone(oracle, width, mixed):
    """The convolution's are as wide as the image, 4 pixels: only the linear layer behind it is mixed."""
    module, x, rng = oracle.problem.model.module, oracle.batch.inputs, Rng.of(5, oracle.batch.ids)
    with FeatureMix(p=1.0, partners=1, width=width)(oracle) as announce, torch.enable_grad():
        announce(rng)
        answers = oracle.problem.model(x).logits
        conv = module.handed_on.detach()[:N]
    with torch.no_grad():
        assert (not torch.allclose(conv, module.conv(x))) is mixed
        assert not torch.allclose(answers, module(x))


def test_answers_that_are_not_climbed_are_the_models_own(oracle):
    x = oracle.batch.inputs
    plain = oracle.logits(x)
    with FeatureMix(p=1.0)(oracle) as announce:
        announce(Rng.of(5, oracle.batch.ids))
        assert torch.equal(oracle.logits(x), plain)


def test_what_it_needs(oracle):
    bare = Oracle(Problem(oracle.problem.model, oracle.problem.goal, Linf(0.1)), oracle.batch)
    with pytest.raises(CaromError, match="none were given"), FeatureMix()(bare):
        pass
    with pytest.raises(CaromError, match="one example at least"):
        FeatureMix(partners=0)
