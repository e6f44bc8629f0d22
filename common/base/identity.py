"""What names a part, a network or a file in the store: equal names mean equal results."""

from __future__ import annotations

import dataclasses
import inspect
import math
import secrets
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any

import torch

from carom.common.base.fingerprint import Unreadable, fingerprint
from carom.common.base.notices import notice


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
    """What a class or function is called in the store: "Ascent"; "Ascent@2" in its second revision. Those from outside
    Carom go by their name and their code, so that an edited one is another."""
    revision = getattr(part, "revision", 1)
    tail = "" if revision == 1 else f"@{revision}"
    if part.__module__.partition(".")[0] != "carom":
        tail += f"#{_code_of(part)}"
    return f"{part.__qualname__}{tail}"


_DRAWN: dict[tuple[str, str], str] = {}
"""What stands for the code of parts that cannot be read, in this process: nothing is found under it again."""


def _code_of(part: Any) -> str:
    try:
        return fingerprint(part)[:16]
    except Unreadable as error:
        known = (part.__module__, part.__qualname__)
        if known not in _DRAWN:
            _DRAWN[known] = secrets.token_hex(8)
            notice(f"{part.__qualname__}: {error}. What it computes is not kept, but computed afresh each run.")
        return _DRAWN[known]


class Digest(str):
    """64 hexadecimal digits that name a model in the store. `why` says what could not be read of it, "" where all was:
    then the digits are drawn at random, nothing is found under them again, and the model is computed afresh each run.
    `again` reads the model once more: it may have been trained since.
    """

    why: str = ""
    again: Callable[[], Digest] | None = None


def digest_of(thing: Any, *facts: object) -> Digest:
    """A model's identity in the store: of all that its answers rest on, and of facts that Carom was told of it."""
    try:
        found = Digest(fingerprint(thing, *facts))
    except Unreadable as error:
        found = Digest(secrets.token_hex(32))
        found.why = str(error)
    found.again = partial(digest_of, thing, *facts)
    return found
