"""What networks and functions answer with, read as logits: tensors, outputs with a field `logits`, tuples, mappings."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.core.tasks import on_sides as two_sides

BELOW_ABOVE = ("below", "above")
"""The classes of models that answer a number, which is on one side of a threshold or on the other."""

NARROW = (torch.float16, torch.bfloat16)


def read_logits(answer: Any, rows: int, classes: int, who: str) -> Tensor:
    """float[rows, classes]: the logits in what a module answered to that many rows.

    A tensor is taken as it is, without sides of 1 behind its classes; of an output or a mapping the field `logits`; else,
    of a tuple, mapping or dataclass, the one tensor of the right shape. Raises `CaromError` that says what the module
    answers with.
    """
    found = answer if isinstance(answer, Tensor) else getattr(answer, "logits", None)
    if isinstance(answer, Mapping):
        found = answer.get("logits")
    if found is None:
        found = _among(answer, (rows, classes), who)
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
        raise CaromError(f"model {who} answers with {kind}; Carom needs logits, a float for each class.")
    if classes != 1 and found.shape in ((rows,), (rows, 1)):
        raise CaromError(
            f"model {who} answers one number for each example, and {classes} classes are named. Say with threshold= "
            "where the second class begins: threshold=0 for a logit, threshold=0.5 for a probability."
            if classes == 2
            else f"model {who} answers one number for each example, and {classes} classes are named. Hand in a module "
            "that answers a number for each class."
        )
    if found.dim() > 2 and found.shape[:2] == (rows, classes) and found[0, 0].numel() == 1:
        found = found.flatten(1)
    return found.float() if found.dtype in NARROW else found


def numbers_of(answer: Any, who: str) -> Tensor:
    """float32: what a function answered, a table or rows of numbers."""
    import numpy as np

    try:
        return answer.float() if isinstance(answer, Tensor) else torch.from_numpy(np.array(answer, dtype=np.float32))
    except (TypeError, ValueError):
        one = next(iter(answer), None) if isinstance(answer, Sequence) and not isinstance(answer, str) else None
        kind = type(answer).__name__ + ("" if one is None else f" of {type(one).__name__}")
        raise CaromError(
            f"model {who} answers with a {kind}; Carom needs a row of numbers for each example, one a class."
        ) from None


def check_probabilities(function: Callable[[Any], Any], who: str, given: Any) -> Tensor:
    """float32[N, C]: what a function answers that is said to answer probabilities. Raises CaromError where it does not."""
    answer = numbers_of(function(given), who)
    if answer.shape[:1] != (len(given),) or answer.dim() > 2:
        raise CaromError(
            f"{who} answered with shape {list(answer.shape)} for {len(given)} inputs; expected one row of probabilities "
            "for each."
        )
    if answer.dim() == 2 and answer.shape[1] > 1:
        off = (answer < 0).any(1) | ((answer.sum(1) - 1).abs() > 1e-3)
        if bool(off.any()) and bool(answer.isfinite().all()):
            raise CaromError(f'{who} answers no probabilities: its rows do not sum to 1. Pass answers="logits".')
    return answer


def _among(answer: Any, shape: tuple[int, int], who: str) -> Tensor:
    """The tensor of that shape among several."""
    named: dict[str, Any] = {}
    if isinstance(answer, Mapping):
        kind, named = "mapping", {str(key): value for key, value in answer.items()}
    elif dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        kind, named = type(answer).__name__, {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer)}
    elif isinstance(answer, Sequence) and not isinstance(answer, str):
        kind, named = type(answer).__name__, {str(place): value for place, value in enumerate(answer)}
    else:
        raise CaromError(
            f"model {who} answers with {type(answer).__name__}; Carom needs a tensor of logits [N, classes]."
        )
    fits = [value for value in named.values() if isinstance(value, Tensor) and tuple(value.shape) == shape]
    if len(fits) == 1:
        return fits[0]
    parts = ", ".join(f"{name}: {_said(value)}" for name, value in named.items()) or "nothing"
    raise CaromError(
        f"model {who} answers with a {kind} ({parts}), in which {'several' if fits else 'no'} tensors could be the logits "
        f"[{shape[0]}, {shape[1]}]. Wrap it in a module that answers its logits alone."
    )


def _said(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def on_sides(answer: Tensor, threshold: float, who: str) -> Tensor:
    """float[N, 2]: logits of the two sides of a threshold, below and above, from one number for each example. Their
    difference is the number's distance to the threshold."""
    if answer.dim() > 2 or (answer.dim() == 2 and answer.shape[1] != 1):
        raise CaromError(
            f"{who} answered with shape {list(answer.shape)}, and threshold= is for models that answer one number for "
            "each example: leave it out."
        )
    return two_sides(answer, threshold)


def computes_in_double(module: nn.Module) -> bool:
    """Whether all its weights are of double precision, so that it asks for such inputs."""
    kinds = {tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()}
    return kinds == {torch.float64}


def in_single_precision(module: nn.Module) -> tuple[nn.Module, str | None]:
    """(the module, or a copy of it in float32 where it has parameters of half precision; which that was)"""
    kinds = {tensor.dtype for tensor in (*module.parameters(), *module.buffers())}
    narrow = kinds & set(NARROW)
    if not narrow:
        return module, None
    name = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in narrow))
    return copy.deepcopy(module).float(), name
