"""A network as it is computed under attack: batch norms folded into the layers before them, images channels-last, dense
layers in whole blocks of rows.

Made once per network, behind the model, and seen by nobody: it answers the same to rounding (checked on the first
inputs), and steps aside wherever hooks want to see the network itself.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from carom.common.models.row_blocks import FEW_TOGETHER, ROWS_TOGETHER, steady

CLOSE = 1e-4
"""Largest difference of folded logits, as a share of the largest logit, that counts as rounding."""

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d


@dataclass(frozen=True)
class Fast:
    """A network as it is computed, and the multiples in which it computes rows."""

    network: nn.Module
    rows: int = ROWS_TOGETHER


def folded(module: nn.Module, given: Sequence[Tensor | None]) -> Fast:
    """A faster network with the same answers, in evaluation mode, its weights frozen; the network itself where there is
    none.

    A batch norm is folded into a convolution or dense layer whose answer it is given. Whether something else reads that
    answer too cannot be seen in modules; it shows in the logits of the `given` rows (one block of them), which have to
    stay as they were. So does whether batches may come in pairs (`steady`): the first two answer the same to the last digit.
    """
    if not any(isinstance(part, _BatchNorm | nn.Conv2d | nn.Linear) for part in module.modules()):
        return Fast(module)
    try:
        fast = copy.deepcopy(module).eval().requires_grad_(False)
        before = _plain(fast(*given))
        for name, norm in _followed(fast, given).items():
            _fold(fast, name, norm)
        if any(isinstance(part, nn.Conv2d) for part in fast.modules()):
            fast = fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        after = _plain(fast(*given))
        if not _same(before, after):
            return Fast(module)
        few = [None if part is None else part[:FEW_TOGETHER] for part in given]
        in_pairs = steady(fast) and torch.equal(_plain(fast(*few)), after[:FEW_TOGETHER])
    except Exception:  # a network that cannot be copied or rebuilt is computed as it is
        return Fast(module)
    return Fast(fast, FEW_TOGETHER if in_pairs else ROWS_TOGETHER)


def _plain(answer: object) -> Tensor:
    logits = getattr(answer, "logits", answer)
    assert isinstance(logits, Tensor)
    return logits


def _same(one: Tensor, other: Tensor) -> bool:
    finite = bool(one.isfinite().all()) and one.shape == other.shape
    return finite and bool((one - other).abs().amax() <= CLOSE * one.abs().amax().clamp_min(1e-3))


def _followed(module: nn.Module, given: Sequence[Tensor | None]) -> dict[str, str]:
    """Name of a layer -> name of the batch norm that is given its answer, of modules used once in a pass."""
    made: dict[int, str] = {}
    kept: list[Tensor] = []  # alive, so that no other tensor gets the same identity
    pairs: dict[str, str] = {}
    used: dict[str, int] = {}

    def note(name: str, part: nn.Module) -> None:
        def hook(_: nn.Module, takes: tuple[object, ...], out: object) -> None:
            used[name] = used.get(name, 0) + 1
            if isinstance(part, _BatchNorm):
                if takes and (before := made.get(id(takes[0]))) is not None:
                    pairs[before] = name
            elif isinstance(out, Tensor):
                made[id(out)] = name
                kept.append(out)

        handles.append(part.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm | Conv | nn.Linear):
            note(name, part)
    try:
        with torch.no_grad():
            module(*given)
    finally:
        for handle in handles:
            handle.remove()
    return {layer: norm for layer, norm in pairs.items() if used[layer] == used[norm] == 1}


def _fold(module: nn.Module, layer: str, norm: str) -> None:
    before, after = module.get_submodule(layer), module.get_submodule(norm)
    assert isinstance(after, _BatchNorm)
    if after.running_mean is None or after.running_var is None:
        return
    if isinstance(before, nn.Linear):
        module.set_submodule(layer, fuse_linear_bn_eval(before, after))
    else:
        module.set_submodule(layer, fuse_conv_bn_eval(before, after))  # type: ignore[type-var]
    module.set_submodule(norm, nn.Identity())


_HELD = attrgetter("_parameters", "_buffers", "_modules")
_HOOKS = attrgetter("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Parts:
    """The parts of a network, listed once: `TorchModel` looks at all of them before every answer, and walking through
    modules and parameters takes four times as long as going along a list.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._inside = list(module.modules())
        self._seen = self.state()

    def stale(self, module: nn.Module) -> bool:
        """Whether the network is another one, or has other weights, buffers or parts than when it was listed."""
        return module is not self.module or self.state() != self._seen

    def state(self) -> Hashable:
        """What tells one state of weights and buffers from another; the parts hold one another, so it tells them too."""
        held = [thing for tables in map(_HELD, self._inside) for table in tables for thing in table.values()]
        return tuple(map(id, held)), tuple(t._version for t in held if isinstance(t, Tensor))

    def watched(self) -> bool:
        """Whether hooks are waiting to see what the network's own modules do."""
        return any(chain.from_iterable(map(_HOOKS, self._inside)))


def state_of(module: nn.Module) -> Hashable:
    """What tells that a network's weights, buffers or parts are others than before."""
    return Parts(module).state()


def watched(module: nn.Module) -> bool:
    """Whether hooks are waiting to see what the network's own modules do."""
    return Parts(module).watched()
