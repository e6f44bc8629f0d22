"""Detectors on features compute what their papers say, on features whose values are known."""

from __future__ import annotations

import pytest
import torch

import carom
from carom.common.base.errors import CaromError
from carom.vision.defences.features import Lid, Mahalanobis, Trained, features_of, pooled


def data(split: str = "test", n: int = 40):
    return carom.load_data("builtin:fashion-mnist", split, limit=n)


def test_features_are_those_of_every_part_but_the_last():
    model, batch = carom.load_model("zoo:image-resnet"), data(n=5).batch()
    with model.frozen():
        output, features = features_of(model, batch.inputs)
        assert torch.allclose(output.logits, model(batch.inputs).logits, atol=1e-4)
        with pooled(model) as seen:
            model(batch.inputs)
            assert len(seen) == len(features) > 2
    assert all(part.shape[0] == 5 and part.dim() == 2 for part in features)
    assert not any(module._forward_hooks for module in model.module.modules())


def test_mahalanobis_is_the_distance_to_the_nearest_class():
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0]]).double()
    precision = torch.diag(torch.tensor([1.0, 4.0])).double()
    at = torch.tensor([[3.0, 0.0], [9.0, 1.0], [10.0, 0.0]]).double()
    part = Mahalanobis(0.05, fitted=[(means, precision, torch.tensor(2.0).double())])
    assert part.suspicion([at]).tolist() == pytest.approx([4.5, 2.5, 0.0])


def test_the_dimension_of_a_line_is_one_and_of_a_plane_two():
    rng = torch.Generator().manual_seed(0)
    for dimension in (1, 2):
        others = torch.zeros(4000, 5).double()
        others[:, :dimension] = torch.rand(4000, dimension, generator=rng).double() - 0.5
        found = Lid(0.05, 100).dimension(torch.zeros(1, 5).double(), others)
        assert found.item() == pytest.approx(dimension, rel=0.15)
    by_hand = Lid(0.05, 2).dimension(torch.zeros(1, 1).double(), torch.tensor([[1.0], [4.0], [9.0]]).double())
    assert by_hand.item() == pytest.approx(-2 / torch.tensor(0.25).log().item())


def test_a_regression_tells_what_it_was_fitted_to():
    model, clean = carom.load_model("zoo:image-mlp"), data("train", 120)
    part = Trained(0.05, 32 / 255, 0.1)
    with model.frozen():
        fitted = part.fit(model, clean)
        told = Trained(0.05, 32 / 255, 0.1, fitted=fitted)
        honest = told.score(model, clean.batch().inputs, None)[1]
        attacked = told.score(model, part._attacked(model, clean).batch().inputs, None)[1]
    assert attacked.median() > honest.median() + 1


@pytest.mark.parametrize("defence", ["mahalanobis", "lid", "trained"])
def test_one_half_is_fitted_to_and_the_other_sets_the_threshold(defence):
    guarded = carom.defend("zoo:image-mlp", f"{defence}?limit=240&fpr=0.1")
    rejected = guarded.ask(data(n=100).batch(), lambda output: output.rejected, size=100)[0][1].float().mean().item()
    assert 0.02 < rejected < 0.25
    assert len(guarded.calibrated_on) == 240
    other = carom.defend("zoo:image-mlp", f"{defence}?limit=220&fpr=0.1")
    assert other.digest != guarded.digest
    with pytest.raises(CaromError, match="one half is fitted to"):
        carom.defend("zoo:image-mlp", f"{defence}?limit=30")
    with pytest.raises(CaromError, match="no single network"):
        carom.defend("zoo:image-mlp", "noise", defence)
    with pytest.raises(CaromError, match="no single network"):
        carom.defend("zoo:image-forest", defence)
