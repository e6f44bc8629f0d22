"""What has to be on a machine before something can be had, told without importing any of it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def torch_checkpoints() -> Path:
    """Where torch keeps the checkpoints that it fetches: torch.hub.get_dir, without an import of torch."""
    if (hub := sys.modules.get("torch.hub")) is not None:
        return Path(hub.get_dir()) / "checkpoints"
    home = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def has_package(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def has_program(name: str) -> bool:
    return shutil.which(name) is not None


def has_checkpoint(name: str) -> bool:
    return (torch_checkpoints() / name).exists()


def has_folder(*patterns: str) -> bool:
    """Whether there is a folder like the first of these patterns, such as $PLACE/Tool*, whose variables are set."""
    for pattern in patterns:
        if all(os.environ.get(name) for name in re.findall(r"\$(\w+)", pattern)):
            place = Path(os.path.expandvars(os.path.expanduser(pattern)))
            return any(path.is_dir() for path in place.parent.glob(place.name))
    return False


KINDS: dict[str, Callable[..., bool]] = {
    "package": has_package,
    "program": has_program,
    "checkpoint": has_checkpoint,
    "folder": has_folder,
}


@dataclass(frozen=True)
class Requirement:
    """One thing that has to be here."""

    kind: str  # one of KINDS
    names: tuple[str, ...]  # what its function takes
    how: str  # what is said where it is not here: what is needed and how to have it

    @property
    def met(self) -> bool:
        return KINDS[self.kind](*self.names)


@dataclass(frozen=True)
class Requires:
    """Called, it says why something cannot be had, and None where it can. What only a try can tell, `try_out` tells once
    all that it needs is here."""

    these: tuple[Requirement, ...] = ()
    try_out: Callable[[], str | None] | None = None

    def __call__(self) -> str | None:
        lacking = next((requirement.how for requirement in self.these if not requirement.met), None)
        return lacking if lacking is not None or self.try_out is None else self.try_out()


nothing = Requires()
