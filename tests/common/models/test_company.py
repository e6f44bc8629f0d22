"""An input is answered as its owner is answered who asks for it alone, whatever stands beside it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import carom


class Centred(nn.Module):
    """Takes the spread of the whole batch away: copies of an input are company too."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.flatten(1).mean(1, keepdim=True)
        return torch.cat([level - level.mean(), level / (1 + len(x))], 1)


def test_statistics_of_the_batch_are_named_and_kept_away() -> None:
    data, module = carom.load_data("builtin:fashion-mnist", limit=6), Centred()
    model = carom.load_model(module, modality="image", normalise=None, classes=["a", "b"], name="centred")
    batch = data.batch()
    with pytest.warns(UserWarning, match="statistics of the batch"):
        model.settle(batch, 2)
    alone = torch.cat([module(batch.inputs[row : row + 1]) for row in range(len(batch))])
    for size in (1, 4, 6):
        assert torch.equal(model.predict(batch, size), alone)
    assert "each input is asked alone" in model.facts["company"]
