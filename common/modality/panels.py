"""Views of an example that a report shows: a protocol, and the views that Carom's own modalities share.

A modality may bring views of its own. A view says what stands inside its figure as a fragment of a jinja2 template, in
which every value is escaped, and which values those are.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

Visible = Callable[..., str]
"""(text, keep="") -> the text with every character that would not be seen shown by its code point."""


@runtime_checkable
class Panel(Protocol):
    """One view of an example."""

    kind: ClassVar[str]
    """The class of its figure in the style sheet: "picture", "sound", "words", or one without a style of its own."""
    template: ClassVar[str]
    """What stands inside the figure; `p` are the values."""
    note: ClassVar[str]
    """What is said once above examples that are shown so, or ""."""

    @property
    def caption(self) -> str: ...

    def values(self, visible: Visible) -> Mapping[str, Any]:
        """What the template shows. Text that comes from data or models goes through `visible`."""


@dataclass(frozen=True)
class Picture:
    """A PNG shown pixel by pixel."""

    caption: str
    png: bytes
    kind: ClassVar[str] = "picture"
    note: ClassVar[str] = ""
    template: ClassVar[str] = (
        '<img src="{{ p.uri }}" alt="{{ p.caption }}" width="{{ p.width }}" height="{{ p.height }}"'
        '{% if p.small %} class="pixels"{% endif %}>\n<figcaption>{{ p.caption }}</figcaption>\n'
    )

    def values(self, visible: Visible) -> Mapping[str, Any]:
        # The width and height in a PNG's header keep the page from moving while it is decoded.
        width, height = struct.unpack(">II", self.png[16:24]) if len(self.png) >= 24 else (1, 1)
        small = max(width, height) <= 96
        uri = data_uri("image/png", self.png)
        return {"caption": visible(self.caption), "uri": uri, "width": width, "height": height, "small": small}


@dataclass(frozen=True)
class Sound:
    """A WAV with a player and the outline of its waveform: (lowest, highest) sample per column, in [-1, 1]."""

    caption: str
    wav: bytes
    outline: Sequence[tuple[float, float]]
    kind: ClassVar[str] = "sound"
    note: ClassVar[str] = (
        "Sounds are lossless. A perturbation is amplified by the factor in its caption: mind the volume."
    )
    template: ClassVar[str] = (
        "<figcaption>{{ p.caption }}</figcaption>\n"
        '<svg viewBox="0 0 {{ p.columns }} 200" preserveAspectRatio="none" aria-hidden="true">'
        '<path d="{{ p.outline }}"/></svg>\n'
        '<audio controls preload="none" src="{{ p.uri }}" aria-label="{{ p.caption }}"></audio>\n'
    )

    def values(self, visible: Visible) -> Mapping[str, Any]:
        return {
            "caption": visible(self.caption),
            "uri": data_uri("audio/wav", self.wav),
            "outline": outline_path(self.outline),
            "columns": max(1, len(self.outline) - 1),
        }


@dataclass(frozen=True)
class WordDiff:
    """A text as runs: ("", same), ("del", removed), ("ins", added)."""

    caption: str
    runs: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "words"
    note: ClassVar[str] = ""
    template: ClassVar[str] = (
        "{% if p.caption %}<figcaption>{{ p.caption }}</figcaption>\n{% endif %}"
        '<p dir="auto">{% for how, text in p.runs %}'
        "{% if how %}<{{ how }}>{{ text }}</{{ how }}>{% else %}{{ text }}{% endif %}{% endfor %}</p>\n"
    )

    def values(self, visible: Visible) -> Mapping[str, Any]:
        runs = [(how if how in ("del", "ins") else "", visible(text, keep="\n\t")) for how, text in self.runs]
        return {"caption": visible(self.caption), "runs": runs}


def outline_path(outline: Sequence[tuple[float, float]]) -> str:
    """An SVG path around the waveform, one unit a column, 200 high: along its highest samples and back along the
    lowest."""

    def y(value: float, thicker: int) -> int:
        return round(100 - 100 * max(-1.0, min(1.0, value if math.isfinite(value) else 0.0))) + thicker

    above = [f"{x} {y(high, -1)}" for x, (_, high) in enumerate(outline)]
    below = [f"{x} {y(low, 1)}" for x, (low, _) in enumerate(outline)]
    return f"M{'L'.join(above + below[::-1])}Z" if outline else ""


def data_uri(kind: str, data: bytes) -> str:
    """The data in the page itself: a report asks nothing of the network."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
