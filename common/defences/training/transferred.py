"""Robust transfer learning: a network of the same build, trained on other data before, taught anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.base.errors import CaromError, UnknownName
from carom.common.defences.training.adversarial import Watched
from carom.common.models.networks import FrozenModule
from carom.common.models.training import Sampler, answer

WAYS = ("probe", "full", "penalty")


class Transferring(Watched):
    """Begins with the weights of a parent, but for the last linear layer. "probe" trains that layer alone; "full" all of
    them; "penalty" all of them, and `weight` times the mean distance of the features before that layer from the parent's
    keeps these (Shafahi et al. 2020, eq. 3)."""

    def __init__(self, parent: nn.Module, called: str, how: str, weight: float, epochs: int | None = None) -> None:
        super().__init__(epochs)
        if how not in WAYS:
            raise UnknownName("way to transfer", how, WAYS)
        self.parent, self.called, self.how, self.weight = parent.eval(), called, how, weight

    def begin(self, module: nn.Module, sample: Sampler, indices: Tensor, generator: torch.Generator) -> Tensor:
        self.head, self.parent_head = head_of(module), head_of(self.parent)
        (prefix,) = [name for name, part in module.named_modules() if part is self.head]
        fresh = {name for name in module.state_dict() if name.startswith(f"{prefix}.")}
        kept = {name: value for name, value in self.parent.state_dict().items() if name not in fresh}
        wanted = {name: value.shape for name, value in module.state_dict().items() if name not in fresh}
        if {name: value.shape for name, value in kept.items()} != wanted:
            raise CaromError(
                f"robust-transfer: {self.called} is built otherwise than what is trained: name another source."
            )
        module.load_state_dict(kept, strict=False)
        if self.how == "probe":
            module.requires_grad_(False)
            self.head.requires_grad_(True)
        return indices

    def mode(self, module: nn.Module) -> None:
        if self.how == "probe":  # statistics of batches are the parent's, too
            module.eval()
        else:
            module.train()

    def loss(
        self, module: nn.Module, inputs: Any, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        with _input_of(self.head) as own:
            loss = F.cross_entropy(answer(module, inputs), labels, label_smoothing=smoothing)
        if self.how != "penalty":
            return loss
        with FrozenModule(self.parent)(), torch.no_grad(), _input_of(self.parent_head) as before:
            answer(self.parent, inputs)
        return loss + self.weight * (own[0] - before[0]).flatten(1).norm(dim=1).mean()

    def end(self, network: nn.Module) -> None:
        network.requires_grad_(True)


def head_of(module: nn.Module) -> nn.Linear:
    """The last linear layer, in the order in which a network lists its parts."""
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise CaromError(f"{type(module).__name__} has no linear layer to be taught anew: name another network.")
    return linear[-1]


@contextlib.contextmanager
def _input_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What a layer is given, while inside."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0])

    handle = layer.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def parent_of(model: Any) -> nn.Module:
    """The network of a model that may be a parent."""
    module = getattr(model, "module", None)
    if not isinstance(module, nn.Module):
        raise CaromError(f"{model.name} is no torch network to transfer from: name another source.")
    return module
