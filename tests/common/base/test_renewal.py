"""A model that is handed in again is what it is now: trained further, fitted anew, with other settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import carom
from carom.common.base.errors import CaromError


class Sign(nn.Module):
    """Says by the mean of a picture, and by a weight, on which side it is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x.flatten(1).mean(1) - 0.5) * self.weight
        return torch.stack([-score, score], 1)


def test_a_network_that_was_trained_since_is_measured_as_it_is(tmp_path: Path) -> None:
    data = carom.load_data("builtin:fashion-mnist", limit=8)
    data = data.with_classes(["dark", "light"], [0] * 10)
    module = Sign()
    model = carom.load_model(module, "image", normalise=None, classes=["dark", "light"], name="sign")
    both = carom.ensemble([model], name="both")

    def accuracy(of: object) -> float:
        outcome = carom.transfer([of], [of], ["fgsm"], data, eps="1/255", controls=1, store=tmp_path)
        return float(outcome.models()[0]["clean_accuracy"])

    before = accuracy(model), accuracy(both)
    with torch.no_grad():
        module.weight.neg_()
    assert (accuracy(model), accuracy(both)) == pytest.approx((1 - before[0], 1 - before[1]))


def test_facts_about_a_loaded_model_are_refused_and_not_dropped() -> None:
    model = carom.load_model("zoo:image-mlp")
    with pytest.raises(CaromError, match="loaded already"):
        carom.load_model(model, classes=["a"])
