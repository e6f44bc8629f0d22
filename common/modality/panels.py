"""Views of an example that a report can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


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
