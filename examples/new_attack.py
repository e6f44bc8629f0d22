"""An attack of one's own, composed of the parts that Carom's gradient attacks are made of.

It shows an update rule of its own (the majority of the signs of all gradients so far), the attack that uses it, and its
transfer beside MI-FGSM's on the same examples, at the same budget and cost. Parts are frozen dataclasses: their fields
are the attack's identity in the store.
"""

from dataclasses import dataclass

import torch

import carom
from carom.common.attacks.gradient.updates import chain


@dataclass(frozen=True)
class Majority:
    """Each gradient casts its signs as votes; votes fade by `decay` a step."""

    decay: float = 0.9

    def init(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    def apply(self, grad: torch.Tensor, votes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        votes = self.decay * votes + grad.sign()
        return votes, votes


def majority_fgsm(steps: int = 10, decay: float = 0.9) -> carom.Ascent:
    return carom.Ascent(steps=steps, size=1 / steps, update=chain(Majority(decay)))


data = carom.load_data("builtin:fashion-mnist", limit=100)
models = ["zoo:image-resnet", "zoo:image-vgg"]
outcome = carom.transfer(models[:1], models[1:], [majority_fgsm(), "mi-fgsm"], data, eps="16/255")
for name, cell in zip(("majority of signs", "mi-fgsm"), outcome.rows(), strict=True):
    print(f"{name}: E {cell['excess']:.2f} [{cell['excess_low']:.2f}, {cell['excess_high']:.2f}]")
