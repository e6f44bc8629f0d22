"""HopSkipJump against foolbox 3.3.4: same network, examples, starting points and number of queries.

Nothing is rounded (`unit=0`). foolbox runs one example at a time: in a batch it divides the normals of all examples by
one norm over the batch, which shortens the steps of each (29 at once end at a median L2 of 2.34 after 1495 queries, one
at a time at 1.90 after 1105). Ours asks one question more a turn, about the stored form, and keeps the nearest point of
all turns, where foolbox hands back the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from carom.common.attacks.query.hopskipjump import HopSkipJump
from carom.common.attacks.query.label_search import DecisionSearch
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.modality.installed import get_modality
from carom.common.models.networks import TorchModel

pytestmark = pytest.mark.peers
foolbox = pytest.importorskip("foolbox")

FLOATS = Box("pixels", 0.0, 1.0, 0.0)
N, TURNS, PROBES = 16, 6, 30


class Counted(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, x):
        self.calls += 1
        return self.net(x)


@dataclass(frozen=True)
class Beginning:
    """Only looks for a point to start from."""

    def __call__(self, hunt):
        while len(rows := hunt.searching()):
            hunt.offer(hunt.random(rows, hunt.rng[rows].fold("try", int(hunt.left.min()))), rows)
        hunt.leave(hunt.rows())


@pytest.fixture(scope="module")
def task():
    image = get_modality("image")
    model = image.load_model("zoo:image-mlp")
    batch = image.load_data("builtin:fashion-mnist", split="test", limit=2 * N).batch()
    batch = batch.take((model.predict(batch).argmax(1) == batch.labels).nonzero().squeeze(1)[:N])
    floats = TorchModel(model.module, name="f", modality="image", family="mlp", space=FLOATS, classes=model.classes)
    return floats, batch


@pytest.mark.parametrize(("ball", "constraint"), [(L2, "l2"), (Linf, "linf")])
def test_median_distance_at_equal_queries(ball, constraint, task):
    model, batch = task
    problem = Problem(model, Goal(batch.labels), ball(math.inf))
    begun = DecisionSearch(Beginning(), 1000)(problem, batch, Rng.of(0, batch.ids))
    assert begun.success.all()
    net = Counted(model.module.eval()).eval()
    peer = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.HopSkipJumpAttack(steps=TURNS, initial_gradient_eval_steps=PROBES, constraint=constraint)
    found, asked = [], []
    for i in range(len(batch)):
        torch.manual_seed(i)
        net.calls, x, start = 0, batch.inputs[i : i + 1], begun.inputs[i : i + 1]
        wrong = foolbox.criteria.Misclassification(batch.labels[i : i + 1])
        found.append(attack.run(peer, x, wrong, starting_points=start))
        asked.append(net.calls)
    theirs = ball(1.0).norm(torch.cat(found) - batch.inputs).median().item()
    search = DecisionSearch(HopSkipJump(PROBES), queries=min(asked))
    results = [search(problem, batch, Rng.of(seed, batch.ids)) for seed in range(2)]
    ours = sum(ball(1.0).norm(r.inputs - batch.inputs).median().item() for r in results) / len(results)
    assert all(r.success.float().mean() > 0.9 for r in results)
    assert theirs < 0.5 * ball(1.0).norm(begun.inputs - batch.inputs).median()
    assert ours < 1.1 * theirs
