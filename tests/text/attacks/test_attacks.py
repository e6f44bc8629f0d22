"""The registered attacks on the models that ship."""

from __future__ import annotations

import pytest
import torch

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Problem, Status
from carom.text import MODALITY
from carom.text.language import reviews
from carom.text.models.load import load_model

SENTENCES = 100


@pytest.fixture(scope="module")
def batch():
    texts, labels, ids = (column[:SENTENCES] for column in reviews.load("rotten-tomatoes", "test"))
    return Batch(texts, torch.from_numpy(labels), ids)


@pytest.mark.parametrize("name", ["text-cnn", "text-bilstm", "text-transformer"])
def test_the_embedded_study_fools_each_network_and_chance_does_not(batch, name):
    model = load_model(f"zoo:{name}")
    info = MODALITY.attacks[MODALITY.defaults.attacks[0].partition("?")[0]]
    threat = info.threat(MODALITY.threats["words"](float(MODALITY.defaults.eps)))
    result = info.build(until=0.3)(Problem(model, Goal(batch.labels), threat), batch, Rng.of(0, batch.ids))
    right = result.status != Status.SKIPPED
    fooled = result.success[right].float().mean()
    assert threat.allows(result.inputs, batch.inputs).all()
    nulls = []
    for draw in range(3):
        drawn = threat.control(batch, Rng.of(0, batch.ids).fold("control", draw), result.inputs)
        nulls.append((model.predict(Batch(drawn, batch.labels, batch.ids)).argmax(1) != batch.labels)[right])
    assert fooled >= 0.9
    assert torch.stack(nulls).float().mean() < 0.2


@pytest.mark.parametrize("name", ["text-linear", "text-forest", "text-tree"])
def test_models_over_features_read_what_their_encoder_reads(batch, name):
    model = load_model(f"zoo:{name}")
    codes = model.codes(batch.inputs)
    assert torch.allclose(model.read(codes), model(batch.inputs).logits)
    features = model.encoder.encode(batch.inputs)
    logits = model.body(features) if name == "text-linear" else model.body.probabilities(features).clamp_min(1e-6).log()
    assert torch.allclose(model(batch.inputs).logits, logits, atol=1e-4)
    assert torch.isfinite(model(["", "zzzz", "\ud800"]).logits).all()
