"""Modalities: what a kind of input brings to the shared machinery. A new one is a new folder; nothing here changes.

Each installs a `Modality` under the entry-point group `carom.modalities`. Third parties add models, attacks and data
under `carom.models`, `carom.attacks` and `carom.datasets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from carom.common.data import Dataset
from carom.common.errors import UnknownName
from carom.common.models import Model
from carom.common.problem import Access, Attack
from carom.common.spaces import Inputs, Space
from carom.common.threats import Threat
from carom.common.zoo import Recipe


@dataclass(frozen=True)
class Picture:
    """A PNG shown pixel by pixel."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Sound:
    """A WAV with a player and the outline of its waveform: (lowest, highest) sample per column, in [-1, 1]."""

    caption: str
    wav: bytes
    outline: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class WordDiff:
    """A text as runs: ("", same), ("del", removed), ("ins", added)."""

    caption: str
    runs: Sequence[tuple[str, str]]


Panel = Picture | Sound | WordDiff
"""One view of an example in the report."""


@dataclass(frozen=True)
class AttackInfo:
    """One entry of the attack registry."""

    name: str
    summary: str  # one line
    reference: str  # authors, year, title
    needs: Access
    threats: tuple[str, ...]  # kinds of threat it works in: linf, l2, snr, words
    build: Callable[..., Attack]  # its keyword parameters are the attack's
    cost: str  # per example: "steps forward and backward"
    targeted: bool = True  # can be aimed at a class
    threat: Callable[[Threat], Threat] = field(default=lambda threat: threat)  # the threat it implies, if it fixes one


class LoadModel(Protocol):
    """From a parsed spec or an object to a Model of this modality."""

    def __call__(self, source: Any, **facts: Any) -> Model: ...


class LoadData(Protocol):
    """From a data spec to a Dataset; `on_error` is "raise" or "skip"."""

    def __call__(self, spec: str, *, split: str = "test", limit: int | None = None, **facts: Any) -> Dataset: ...


@dataclass(frozen=True)
class Defaults:
    """The embedded study of a modality: what `carom demo` runs, and what `carom run` falls back on."""

    data: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    attacks: tuple[str, ...]  # attack of each source, in order; or one for all
    eps: str
    threat: str
    limit: int


@dataclass(frozen=True)
class Modality:
    """Everything the shared machinery asks of a modality."""

    name: str
    summary: str
    attacks: Mapping[str, AttackInfo]
    recipes: Mapping[str, Recipe]
    data: Mapping[str, str]  # builtin data: name -> one line
    threats: Mapping[str, Callable[..., Threat]]  # kind -> threat of a budget: linf, l2, snr, words
    defaults: Defaults
    load_model: LoadModel
    load_data: LoadData
    panels: Callable[[Space, Inputs, Inputs, Mapping[str, Any]], list[Panel]]
    """(space, one clean stored input, one adversarial, {"length", "sample_rate", ...}) -> what the report shows."""


def modality_names() -> list[str]:
    return sorted(point.name for point in entry_points(group="carom.modalities"))


@lru_cache
def get_modality(name: str) -> Modality:
    """The modality of that name, imported on first use."""
    for point in entry_points(group="carom.modalities"):
        if point.name == name:
            return point.load()
    raise UnknownName("modality", name, modality_names())
