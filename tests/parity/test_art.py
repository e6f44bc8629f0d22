"""Square against the Adversarial Robustness Toolbox 1.20.1: same model, examples, budget and number of queries."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from carom.common.modality import get_modality
from carom.common.problem import Goal, Problem
from carom.common.rng import Rng
from carom.common.threats import Linf

pytestmark = pytest.mark.peers
evasion = pytest.importorskip("art.attacks.evasion")
classification = pytest.importorskip("art.estimators.classification")

QUERIES, EPS = 40, 20 / 255


def test_square_is_as_strong_at_equal_queries():
    """Of 200 examples, the share of those that are right before: ours no more than two points below.

    Ours is the paper's, and a little stronger at few queries. ART departs from it: it keeps the clean image as the
    point to start from where the first stripes do not help, all examples share one square and its signs in each
    iteration, the schedule has a tenth level (at .05), and no square touches the last row and column (as in the
    paper's released code). It also asks three times per iteration; only the question about the new point is counted.
    """
    image = get_modality("image")
    model = image.load_model("zoo:image-resnet")
    data = image.load_data("builtin:fashion-mnist", split="test", limit=200)
    batch = data.batch()
    batch = batch.take((model.predict(batch).argmax(1) == batch.labels).nonzero().squeeze(1))
    problem = Problem(model, Goal(batch.labels), Linf(EPS))
    square = image.attacks["square"].build(queries=QUERIES)
    ours = np.mean([square(problem, batch, Rng.of(s, batch.ids)).success.float().mean().item() for s in range(3)])

    labels = batch.labels.numpy()
    peer = classification.PyTorchClassifier(
        model.module.eval(),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(batch.inputs.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    np.random.seed(0)
    # Two of our queries are for the clean input and the stripes.
    attack = evasion.SquareAttack(
        peer, norm=np.inf, eps=EPS, max_iter=QUERIES - 2, p_init=0.8, nb_restarts=1, batch_size=256, verbose=False
    )
    adversarial = attack.generate(batch.inputs.numpy().copy(), np.eye(10)[labels])
    theirs = (peer.predict(adversarial, batch_size=256).argmax(1) != labels).mean()
    assert theirs > 0.3
    assert theirs - 0.02 <= ours <= theirs + 0.15
