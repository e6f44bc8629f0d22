"""Square and SimBA against the Adversarial Robustness Toolbox 1.20.1: same model, examples, budget and queries."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from carom.common.base.rng import Rng
from carom.common.core.batch import Goal
from carom.common.core.problem import Problem
from carom.common.core.threats import L2, Linf
from carom.common.modality.installed import get_modality

pytestmark = pytest.mark.peers
evasion = pytest.importorskip("art.attacks.evasion")
classification = pytest.importorskip("art.estimators.classification")

IMAGE = get_modality("image")


def right(name, limit):
    """A model and the examples, of so many, that it gets right."""
    model = IMAGE.load_model(name)
    batch = IMAGE.load_data("builtin:fashion-mnist", split="test", limit=limit).batch()
    return model, batch.take((model.predict(batch).argmax(1) == batch.labels).nonzero().squeeze(1))


def ours(attack, model, batch, threat, seeds=3):
    """Mean share fooled over seeds."""
    problem = Problem(model, Goal(batch.labels), threat)
    return np.mean([attack(problem, batch, Rng.of(s, batch.ids)).success.float().mean().item() for s in range(seeds)])


def peer_of(net, batch):
    return classification.PyTorchClassifier(
        net.eval(),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(batch.inputs.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )


def theirs(attack, peer, batch):
    labels = batch.labels.numpy()
    random.seed(0)  # it draws from both
    np.random.seed(0)
    adversarial = attack.generate(batch.inputs.numpy().copy(), np.eye(10)[labels])
    whole = np.isfinite(adversarial).all(axis=(1, 2, 3))  # within L2 some of ART's images end as not a number
    return (whole & (peer.predict(adversarial, batch_size=256).argmax(1) != labels)).mean()


@pytest.mark.parametrize(("norm", "eps", "queries"), [(np.inf, 24 / 255, 60), (2, 1.5, 100)])
def test_square_is_as_strong_at_equal_queries(norm, eps, queries):
    """Of the examples that are right before: ours no more than two points below.

    Ours is the paper's, and a little stronger at few queries. ART departs from it: it keeps the clean image as the
    point to start from where the first stripes do not help, all examples share one square and its signs in each
    iteration, the schedule has a tenth level (at .05), and no square touches the last row and column (as in the
    paper's released code). It also asks three times per iteration; only the question about the new point is counted.
    That they share squares matters little: on image-resnet within 20/255, at 40 queries and of 107 examples, ART fools
    .24 both together and one at a time, ours .30.
    """
    model, batch = right("zoo:image-mlp", 120)
    threat, p = (Linf(eps), 0.8) if norm == np.inf else (L2(eps), 0.1)
    peer = peer_of(model.module, batch)
    # Two of our queries are for the clean input and the first pattern.
    attack = evasion.SquareAttack(
        peer, norm=norm, eps=eps, max_iter=queries - 2, p_init=p, nb_restarts=1, batch_size=256, verbose=False
    )
    share = theirs(attack, peer, batch)
    assert share > (0.15 if norm == np.inf else 0.03)
    assert share - 0.02 <= ours(IMAGE.attacks["square"].build(queries=queries), model, batch, threat) <= share + 0.15


@pytest.mark.parametrize(("basis", "named"), [("pixel", "px"), ("dct", "dct")])
def test_simba_is_as_strong_at_equal_queries(basis, named):
    """Steps of .6 without a ball, as in ART: 20 is never reached.

    The paper tries the second sign only where the first does not help; ART always asks about both and takes the better
    (about the worse, too, if that is what lowers the probability at all), so that it has half the directions. Its
    directions are pixels in a random order, or the lowest waves in a fixed one.
    """
    queries, step, radius = 120, 0.6, 20.0
    model, batch = right("zoo:image-mlp", 50)
    peer = peer_of(nn.Sequential(model.module, nn.Softmax(1)), batch)
    attack = evasion.SimBA(
        peer, attack=named, max_iter=(queries - 1) // 2, epsilon=step, freq_dim=7, stride=7, verbose=False
    )
    share = theirs(attack, peer, batch)
    simba = IMAGE.attacks["simba"].build(queries=queries, step=step / radius, basis=basis, share=0.25)
    assert share > 0.1
    assert ours(simba, model, batch, L2(radius)) >= share - 0.02
