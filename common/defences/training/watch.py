"""A watch over training: robust accuracy after each epoch, and the bell when it collapses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.base.notices import notice
from carom.common.defences.training.inner import Inner
from carom.common.models.training import Sampler

DROP = 0.2
"""By how much robust accuracy falls below its best when training is stopped (Wong et al. 2020)."""


@dataclass(frozen=True)
class Look:
    """Accuracy on the examples held out, after one epoch."""

    epoch: int
    clean: float
    quick: float  # under the attack that is trained with
    robust: float  # under a stronger one


@dataclass
class Watch:
    """Some training examples are held out, and attacked after each epoch by the `quick` attack of training and by a
    `strong` one of more steps. In catastrophic overfitting the network learns to defeat the quick attack alone: its
    accuracy under the strong one falls to nothing within an epoch (Wong et al. 2020, section 5.4). The watch then says
    so, stops the training, and the network is put back to the epoch where it was most robust."""

    quick: Inner
    strong: Inner
    held: int = 256
    looks: list[Look] = field(default_factory=list)
    rung: int | None = None  # the epoch at which the bell rang

    def hold_out(self, sample: Sampler, indices: Tensor, generator: torch.Generator) -> Tensor:
        """The indices that are left to train on."""
        shuffled = indices[torch.randperm(len(indices), generator=generator)]
        held = min(self.held, len(indices) // 5)
        self.inputs, self.labels = sample(shuffled[:held], generator)
        self._best: dict[str, Any] | None = None
        return shuffled[held:]

    def look(self, network: nn.Module, epoch: int) -> bool:
        mode = network.training
        network.eval()

        def accuracy(attack: Callable[..., Tensor] | None) -> float:
            generator = torch.Generator().manual_seed(epoch)
            x = self.inputs if attack is None else attack(network, self.inputs, self.labels, generator)
            with torch.no_grad():
                return (network(x).argmax(1) == self.labels).float().mean().item()

        best = max((look.robust for look in self.looks), default=-1.0)
        now = Look(epoch, accuracy(None), accuracy(self.quick), accuracy(self.strong))
        network.train(mode)
        self.looks.append(now)
        if now.robust > best:
            self._best = copy.deepcopy(network.state_dict())
        if now.robust < best - DROP and now.quick - now.robust > DROP:
            self.rung = epoch
            notice(
                f"catastrophic overfitting in epoch {epoch}: accuracy under the strong attack fell from {best:.2f} to "
                f"{now.robust:.2f}, while it is {now.quick:.2f} under the attack of training. Training stops, and the "
                "network is that of the best epoch. More steps or a smaller eps avoid it."
            )
        return self.rung is not None

    def put_back(self, network: nn.Module) -> None:
        """To the epoch with the highest robust accuracy, if the bell rang."""
        if self.rung is not None and self._best is not None:
            network.load_state_dict(self._best)
