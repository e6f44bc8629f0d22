"""Several networks of one architecture that answer as one module."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Averaged(nn.Module):
    """The logarithm of the mean probabilities of its members, as logits float[N, C]."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *inputs: Tensor) -> Tensor:
        answers = torch.stack([member(*inputs) for member in self.members])
        return answers.log_softmax(2).logsumexp(0) - torch.tensor(float(len(answers))).log().item()
