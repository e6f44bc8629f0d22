"""Weights from files fill the module that they were saved of, under the names that wrappers and sharing leave them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.loading.weights import fill


class Tied(nn.Module):
    """An encoder and a decoder that share a matrix, behind a norm that counts its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.encoder = nn.Linear(4, 4, bias=False)
        self.decoder = nn.Linear(4, 4, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(self.norm(x)))


SAVED = Tied().eval()
STATE = SAVED.state_dict()
GIVEN = {
    "as it is": STATE,
    "a shared tensor once": {k: v for k, v in STATE.items() if k != "decoder.weight"},
    "under its second name": {k: v for k, v in STATE.items() if k != "encoder.weight"},
    "of DataParallel": {f"module.{k}": v for k, v in STATE.items()},
    "of torch.compile": {f"_orig_mod.{k}": v for k, v in STATE.items()},
    "of Lightning": {f"model.{k}": v for k, v in STATE.items()},
    "without counts of batches": {k: v for k, v in STATE.items() if "num_batches" not in k},
    "in half precision": {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()},
}


@pytest.mark.parametrize("name", GIVEN)
def test_weights_are_found_under_the_names_that_they_were_saved_by(name: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(3, 4)
    torch.testing.assert_close(fill(Tied(), GIVEN[name], "w.safetensors")(x), SAVED(x), atol=1e-2, rtol=1e-2)


def untied() -> nn.Module:
    made = Tied()
    made.decoder = nn.Linear(4, 4, bias=False)
    return made


@pytest.mark.parametrize(
    ("module", "state", "words"),
    [
        (untied, GIVEN["a shared tensor once"], "missing: decoder.weight"),  # nothing is shared here
        (Tied, {**STATE, "head.weight": torch.ones(1)}, "unexpected: head.weight"),
        (Tied, {f"net.{k}": v for k, v in STATE.items()}, "missing: norm.weight"),
        (Tied, {**GIVEN["of DataParallel"], "module.extra": torch.ones(1)}, "unexpected: extra"),
        (Tied, {**STATE, "norm.weight": torch.ones(5)}, "norm.weight"),
    ],
)
def test_weights_of_something_else_are_refused_by_their_names(module, state, words) -> None:
    with pytest.raises(CaromError, match=words):
        fill(module(), state, "w.safetensors")
