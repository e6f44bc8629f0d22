"""The gradient attacks against torchattacks 3.5.1 on the same network, steps and starting points.

Nothing is rounded (`unit=0`) and the network computes in float64, so that only the algorithms can differ.
Perturbations agree to 1e-5; where torchattacks departs from a paper, the test says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from carom.common.attacks.catalogue.gradient import bim, fgsm, mi_fgsm, pgd
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.networks import TorchModel

pytestmark = pytest.mark.peers
torchattacks = pytest.importorskip("torchattacks")

PIXELS = Box("pixels", 0.0, 1.0, 0.0)
N, CLASSES = 32, 5
IDS = [f"e{i}" for i in range(N)]


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3), nn.Tanh(), nn.Flatten()
        ).double()
        self.head = nn.Linear(12 * 9, CLASSES).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.double()))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Cnn().eval()


@pytest.fixture(scope="module")
def batch(net):
    x = Rng.of(0, IDS).uniform(3, 10, 10)
    x[:4] = x[:4].round()  # some pixels at the ends of the box, where clipping acts
    with torch.no_grad():
        return Batch(x, net(x).argmax(1), IDS)


def ours(attack, net, batch, threat, targets=None):
    names = tuple(map(str, range(CLASSES)))
    model = TorchModel(net, name="cnn", modality="image", family="cnn", space=PIXELS, classes=names)
    return attack(Problem(model, Goal(batch.labels, targets), threat), batch, Rng.of(0, IDS)).inputs


def theirs(attack, batch, targets=None):
    if targets is not None:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(batch.inputs, batch.labels if targets is None else targets)


def agree(one, other, batch, moved):
    assert (one - other).abs().max() < 1e-5
    assert (other - batch.inputs).abs().max() > moved


EPS, STEPS = 8 / 255, 10
RULES = {
    "fgsm": (fgsm(), lambda net: torchattacks.FGSM(net, eps=EPS)),
    "bim": (bim(steps=STEPS), lambda net: torchattacks.BIM(net, eps=EPS, alpha=EPS / STEPS, steps=STEPS)),
    "pgd": (
        pgd(steps=STEPS, start=False),
        lambda net: torchattacks.PGD(net, eps=EPS, alpha=EPS / 4, steps=STEPS, random_start=False),
    ),
    "mi-fgsm": (
        mi_fgsm(steps=STEPS, decay=1.0),
        lambda net: torchattacks.MIFGSM(net, eps=EPS, alpha=EPS / STEPS, steps=STEPS, decay=1.0),
    ),
    "mi-fgsm-half": (
        mi_fgsm(steps=STEPS, decay=0.5, size=0.25),
        lambda net: torchattacks.MIFGSM(net, eps=EPS, alpha=EPS / 4, steps=STEPS, decay=0.5),
    ),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_linf(name, targeted, net, batch):
    """torchattacks' BIM takes steps=0 for the paper's min(eps + 4, 1.25 eps) steps; given steps it is the paper's. Its
    MI-FGSM divides by the mean, not the sum, of the absolute gradient: a constant factor that no sign can see."""
    targets = (batch.labels + 1) % CLASSES if targeted else None
    mine, peer = RULES[name]
    agree(ours(mine, net, batch, Linf(EPS), targets), theirs(peer(net), batch, targets), batch, moved=0.99 * EPS)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_l2(targeted, net, batch):
    """The paper's PGD in the L2 ball; torchattacks adds 1e-10 to gradient norms."""
    targets = (batch.labels + 1) % CLASSES if targeted else None
    peer = torchattacks.PGDL2(net, eps=1.0, alpha=0.25, steps=STEPS, random_start=False)
    mine = ours(pgd(steps=STEPS, start=False), net, batch, L2(1.0), targets)
    agree(mine, theirs(peer, batch, targets), batch, moved=0.05)


@dataclass(frozen=True)
class LinfFrom(Linf):
    begin: Tensor | None = None

    def start(self, x0, rng):
        return self.begin


@dataclass(frozen=True)
class L2From(L2):
    begin: Tensor | None = None

    def start(self, x0, rng):
        return self.begin


def test_linf_from_the_same_random_start(net, batch):
    """torchattacks draws from the global generator; the point it drew is given to ours."""
    torch.manual_seed(3)
    found = theirs(torchattacks.PGD(net, eps=EPS, alpha=EPS / 4, steps=STEPS, random_start=True), batch)
    torch.manual_seed(3)
    begin = batch.inputs + torch.empty_like(batch.inputs).uniform_(-EPS, EPS)
    agree(ours(pgd(steps=STEPS), net, batch, LinfFrom(EPS, begin)), found, batch, moved=0.99 * EPS)


def test_l2_from_the_same_random_start(net, batch):
    """torchattacks' start has a norm that is uniform between 0 and eps, which crowds the centre: in a uniform point of
    the ball, as ours, the norm to the power of the dimension is uniform. From the same start both go the same way."""
    torch.manual_seed(3)
    found = theirs(torchattacks.PGDL2(net, eps=1.0, alpha=0.25, steps=STEPS, random_start=True), batch)
    torch.manual_seed(3)
    change = torch.empty_like(batch.inputs).normal_()
    norm = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    begin = batch.inputs + change * torch.zeros_like(norm).uniform_(0, 1) / norm
    agree(ours(pgd(steps=STEPS), net, batch, L2From(1.0, begin)), found, batch, moved=0.05)
