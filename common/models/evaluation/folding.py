"""A network made faster for evaluation: batch norms folded into the layers before them, images channels-last. It answers
the same to rounding, which is checked on the first inputs. Where it is used: `carom.common.models.evaluation.evaluator`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

CLOSE = 1e-4
"""Largest difference of folded logits, as a share of the largest logit, that counts as rounding."""

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d


class NotFolded(Exception):
    """Why a network is computed as it is, in words that follow its name: "has nothing to fold"."""


def folded(module: nn.Module, given: Sequence[Tensor | None]) -> tuple[nn.Module, Tensor]:
    """A faster network with the same answers, in evaluation mode, its weights frozen; and its logits of the `given` rows.
    Raises `NotFolded` where there is none.

    A batch norm is folded into a convolution or dense layer whose answer it is given. Whether something else reads that
    answer too cannot be seen in modules; it shows in the logits of the `given` rows (one block of them), which have to
    stay as they were.
    """
    if not any(isinstance(part, _BatchNorm | nn.Conv2d | nn.Linear) for part in module.modules()):
        raise NotFolded("has no batch norm, 2-d convolution or dense layer to gain from")
    with reason_kept("cannot be copied"):
        fast = copy.deepcopy(module).eval().requires_grad_(False)
        ready_for_cudnn(fast)
    with reason_kept("fails on its first inputs"):
        before = logits_of(fast(*given))
    with reason_kept("cannot be rebuilt"):
        for name, norm in _followed(fast, given).items():
            _fold(fast, name, norm)
        if any(isinstance(part, nn.Conv2d) for part in fast.modules()):
            fast = fast.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        after = logits_of(fast(*given))
    if not _same(before, after):
        raise NotFolded("answers otherwise when folded: something else reads what goes into a batch norm")
    return fast, after


def ready_for_cudnn(module: nn.Module) -> None:
    """Have recurrent layers on a GPU keep what a backward pass needs: in training mode, which differs from evaluation mode
    by nothing but the dropout that is taken away here."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase) and any(weight.is_cuda for weight in part.parameters(recurse=False)):
            part.training, part.dropout = True, 0.0


@contextlib.contextmanager
def reason_kept(what: str) -> Iterator[None]:
    """Whatever a network raises becomes the reason why it is not folded."""
    try:
        yield
    except Exception as error:  # a user's module may raise anything; as it is, it is computed all the same
        said = " ".join(str(error).split())
        raise NotFolded(f"{what} ({type(error).__name__}{f': {said[:120]}' if said else ''})") from error


def logits_of(answer: object) -> Tensor:
    logits = getattr(answer, "logits", answer)
    if not isinstance(logits, Tensor):
        raise TypeError(f"answers with {type(logits).__name__}, not with a tensor of logits")
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
