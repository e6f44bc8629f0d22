"""Models, behind defences or not, as plain torch modules: for code that knows nothing of Carom's models."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs


class Exported(nn.Module):
    """A model as a module: raw inputs of its space (float[N, C, H, W] pixels in [0, 1], float[N, L] samples, list[str])
    -> logits float[N, C], with its preprocessing and its defences inside.

    Of a model that rejects, one more column comes last, the largest of an input that is rejected and of no other:
    rejection as a class of its own (Carlini and Wagner 2017, Adversarial examples are not easily detected). A random
    one draws anew at each call, the same from call to call of a fresh copy. Gradients are those of an attacker who
    knows the defences.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.networks = nn.ModuleList(_networks(self.model))

    def forward(self, inputs: Inputs, lengths: Tensor | None = None) -> Tensor:
        output = self.model(inputs, lengths)
        logits = output.logits
        if output.rejected is None:
            return logits
        most = logits.amax(1)
        alarm = torch.where(output.rejected, 1.0, -1.0).to(logits) if output.alarm is None else output.alarm.to(logits)
        up, down = (torch.nextafter(most.detach(), torch.full_like(most, to)) for to in (torch.inf, -torch.inf))
        last = most + alarm
        last = torch.where(output.rejected, last.maximum(up), last.minimum(down))
        return torch.cat([logits, last[:, None]], 1)


def export_module(model: Model) -> nn.Module:
    """The model as a plain torch module in evaluation mode, a copy that shares nothing with it (`Exported`).

    Args:
        model: a model of torch networks, behind defences or not.

    Returns:
        A module from raw inputs of the model's space (float[N, C, H, W] pixels in [0, 1], float[N, L] samples, list[str])
        to logits float[N, C]; of a model that rejects float[N, C + 1], the last the largest where it rejects.

    Raises:
        CaromError: the model holds no torch network: a forest, an estimator, a function.

    Examples:
        >>> import carom, torch
        >>> module = carom.export_module(carom.defend("zoo:image-resnet", "jpeg?quality=50"))
        >>> module(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    return Exported(model).eval()


def _networks(model: Model) -> Iterator[nn.Module]:
    if (base := getattr(model, "base", None)) is not None:
        yield from _networks(base)
    elif members := getattr(model, "members", ()):
        for member in members:
            yield from _networks(member)
    elif isinstance(module := getattr(model, "module", None), nn.Module):
        yield module
    else:
        raise CaromError(f"model {model.name} holds no torch network: only networks can be exported as modules.")
