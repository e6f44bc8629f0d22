"""A model that is handed in again is what it is now: trained further, fitted anew, with other settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import carom
from carom.common.base.errors import CaromError
from carom.common.base.identity import name_of


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
    both = carom.ensemble([carom.load_model(model)], name="both")

    def accuracy(of: object) -> float:
        outcome = carom.transfer([of], [of], ["fgsm"], data, eps="1/255", controls=1, store=tmp_path)
        return float(outcome.models()[0]["clean_accuracy"])

    behind = carom.defend(model, "bit-depth?bits=6")
    before, digest = (accuracy(model), accuracy(both)), behind.digest
    with torch.no_grad():
        module.weight.neg_()
    assert (accuracy(model), accuracy(both)) == pytest.approx((1 - before[0], 1 - before[1]))
    assert carom.load_model(behind).digest != digest


def test_facts_about_a_loaded_model_are_refused_and_not_dropped() -> None:
    model = carom.load_model("zoo:image-mlp")
    with pytest.raises(CaromError, match="loaded already"):
        carom.load_model(model, classes=["a"])


class Reads:
    """A tokenizer of characters."""

    pad_id = 0

    def encode(self, texts: list[str]) -> tuple[torch.Tensor, list[list[tuple[int, int]]]]:
        width = max(map(len, texts))
        ids = torch.tensor([[ord(c) % 8 for c in text.ljust(width)] for text in texts])
        return ids, [[(at, at + 1) for at in range(len(text))] for text in texts]


class TwoEmbeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Embedding(8, 2), nn.Embedding(8, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return (self.one(ids) + self.other(ids)).mean(1)


def test_what_a_user_states_of_a_module_tells_models_apart() -> None:
    heard = {"modality": "audio", "sample_rate": 8000, "classes": 2}
    takes: list[dict[str, object]] = [{}, {"takes_lengths": True}, {"samples": 8000}, {"bounds": (-2, 2)}]
    module = nn.Identity()
    assert len({carom.load_model(module, **heard, **facts).digest for facts in takes}) == len(takes)
    read = {"modality": "text", "tokenizer": Reads(), "classes": 2}
    texts = TwoEmbeddings()
    ways: list[dict[str, object]] = [{}, {"embedding": "one"}, {"embedding": "other"}]
    assert len({carom.load_model(texts, **read, **facts).digest for facts in ways}) == len(ways)


def computed(x: float) -> float:
    with open("outside.txt") as file:
        return x * float(file.read())


def test_a_part_whose_code_cannot_be_read_has_a_name_of_this_process() -> None:
    with pytest.warns(UserWarning, match="computed afresh each run"):
        first = name_of(computed)
    assert first == name_of(computed)
    assert first.startswith("computed#")
