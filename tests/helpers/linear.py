"""A linear model of two classes, whose robust accuracy has a closed form, and pictures for it."""

from __future__ import annotations

import torch
from torch import nn

from carom.common.core.data import Dataset
from carom.common.core.spaces import Box
from carom.common.models.networks import TorchModel

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
N, SIDE = 24, 3
EPS = 8 / 255


def data_of(n: int = N) -> Dataset:
    """Grey pictures far from both bounds, so that no change within the budgets is cut off."""
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(80, 176, (n, 1, SIDE, SIDE), generator=generator).to(torch.uint8)
    labels = (stored.float().flatten(1) @ WEIGHTS + OFFSET > 0).long()
    labels[:3] = 1 - labels[:3]  # wrong when clean
    return Dataset("toy", "image", PIXELS, stored, labels, [f"e{i}" for i in range(n)], ("dark", "bright"))


WEIGHTS = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.5]) / 255
OFFSET = -0.25


class Linear(nn.Module):
    """The classes by one linear function; `before` stands between input and it."""

    def __init__(self, before=lambda x: x, after=lambda z: z, scale=5.0):
        super().__init__()
        self.line = nn.Linear(SIDE * SIDE, 1)
        with torch.no_grad():
            self.line.weight.copy_(WEIGHTS[None] * 255)
            self.line.bias.fill_(OFFSET)
        self.before, self.after, self.scale = before, after, scale

    def forward(self, x):
        z = self.after(self.line(self.before(x).flatten(1)) * self.scale)
        return torch.cat([-z, z], 1)


def model_of(module: nn.Module, name: str = "m") -> TorchModel:
    return TorchModel(module, name=name, modality="image", family="linear", space=PIXELS, classes=("dark", "bright"))


def margins(data: Dataset) -> torch.Tensor:
    """How far each example is on the right side of the linear function."""
    value = data.stored.double().flatten(1) @ WEIGHTS.double() + OFFSET
    return value * (2 * data.labels - 1)


def stands(data: Dataset, eps: float) -> torch.Tensor:
    return margins(data) > eps * 255 * WEIGHTS.double().abs().sum() + 1e-9
