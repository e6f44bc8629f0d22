"""What names a part, a network or a file in the store: equal names mean equal results."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
from enum import Enum
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    pass


def describe(part: Any) -> Any:
    """The parameters of an attack or threat as JSON: its identity in the store.

    Dataclasses become their fields, functions their names; anything else is refused, because what cannot be named
    cannot be recognised when the same work is asked for again. Carom's own parts go by their names alone, which are
    unique, so that a file can move without changing what its parts are. A part that has been mended says so in an
    attribute `revision`: what its former self computed is then computed again.
    """
    if isinstance(part, float) and not math.isfinite(part):
        return str(part)  # JSON has no infinity: the radius of an unbounded threat
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, Enum):
        return part.value
    if isinstance(part, list | tuple):
        return [describe(p) for p in part]
    if isinstance(part, dict):
        return {str(k): describe(v) for k, v in part.items()}
    if isinstance(part, torch.dtype):
        return str(part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {f.name: describe(getattr(part, f.name)) for f in dataclasses.fields(part) if f.compare}
        return {"is": name_of(type(part)), **fields}
    # Not a bound method: its name says nothing of the object that it belongs to.
    if callable(part) and "<" not in getattr(part, "__qualname__", "<") and not inspect.ismethod(part):
        return {"is": name_of(part)}
    raise TypeError(f"{part!r} has no name to store results under: use a dataclass or a module-level function")


def name_of(part: Any) -> str:
    """What a class or function is called in the store: "Ascent"; "Ascent@2" in its second revision. Names from outside
    Carom keep their module."""
    own = part.__module__.partition(".")[0] == "carom"
    revision = getattr(part, "revision", 1)
    return f"{'' if own else part.__module__ + '.'}{part.__qualname__}{'' if revision == 1 else f'@{revision}'}"


def digest_of(module: nn.Module, *facts: object) -> str:
    """sha256 over a module's class, settings, weights and buffers and the given facts: a model's identity in the store.

    Settings are what the module prints of itself and the numbers that its parts hold: a stride, an activation or a
    temperature changes what the same weights compute.
    """
    digest = hashlib.sha256(repr((type(module).__qualname__, *facts)).encode())
    digest.update(repr(module).encode())
    for name, part in module.named_modules():
        plain = {k: v for k, v in vars(part).items() if isinstance(v, bool | int | float) and k[0] != "_"}
        plain.pop("training", None)
        digest.update(f"{name}{sorted(plain.items())}".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
