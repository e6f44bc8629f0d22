"""Factories that specs in the tests name."""

from __future__ import annotations

import torch
from torch import nn

from carom.common.attacks.info import AttackChoice, AttackInfo
from carom.common.core.batch import Access


class Tiny(nn.Module):
    """A CNN of one convolution."""

    def __init__(self, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, width, 3, padding=1)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.features(x).relu().mean((2, 3)))


def tiny(width: int = 4) -> nn.Module:
    """A factory that knows nothing of classes."""
    return Tiny(width)


def brightness(images, sharpness: float = 1.0):
    """float32[N, C, H, W] as numpy -> logits[N, 2]."""
    bright = sharpness * (images.mean((1, 2, 3)) - 0.5)
    return torch.stack([-torch.as_tensor(bright), torch.as_tensor(bright)], 1).numpy()


def choice(name: str, attack: object, kind: str = "linf") -> AttackChoice:
    """An attack as a study asks for it, of one kind of threat."""
    facts = {"summary": "", "reference": "", "cost": "1 forward", "needs": Access.SCORE, "threats": (kind,)}
    return AttackChoice(AttackInfo(name=name, build=lambda: attack, **facts), {}, attack)
