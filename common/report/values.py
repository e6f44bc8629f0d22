"""How the report writes values: rates, intervals, counts, names, hostile text, and the colours of a heat map."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

DASH = "–"
"""What is not defined."""

HIDDEN = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
"""Unicode categories without a shape of their own: controls, formats (bidirectional, zero width), lone surrogates,
unassigned code points, line and paragraph breaks."""


def visible(text: str, keep: str = "") -> str:
    """The text with each character that would not be seen, `keep` apart, replaced by its code point.

    >>> visible("a\\x00b\\u202ec")
    'a⟨U+0000⟩b⟨U+202E⟩c'
    """
    return "".join(f"⟨U+{ord(c):04X}⟩" if c not in keep and unicodedata.category(c) in HIDDEN else c for c in text)


def plain(value: Any, text: Callable[[str], str] = str) -> Any:
    """The value as JSON can hold it: numbers that are not finite become None, strings pass through `text`."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {text(str(k)): plain(v, text) for k, v in value.items()}
    if isinstance(value, Iterable):
        return [plain(v, text) for v in value]
    return plain(value.item(), text) if hasattr(value, "item") else text(str(value))


def rate(value: float | None) -> str:
    """.31, −.05, 1.00; an en dash where it is not defined."""
    if value is None:
        return DASH
    digits = f"{abs(value):.2f}"
    sign = "−" if value < 0 and digits != "0.00" else ""
    return sign + (digits[1:] if digits.startswith("0") else digits)


def interval(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"[{rate(low)}, {rate(high)}]"


def span(values: Iterable[float | None]) -> str:
    """The smallest and the largest as ".91 to .99"; one number where they read the same."""
    known = [v for v in values if v is not None]
    if not known:
        return DASH
    low, high = rate(min(known)), rate(max(known))
    return low if low == high else f"{low} to {high}"


def amount(value: float | None) -> str:
    """A cost: three digits, grouped by thousands."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def listing(names: Iterable[str]) -> str:
    names = list(names)
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def short(name: str, most: int) -> str:
    """The name in at most so many characters, its two ends kept: models often differ in their last letters."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def plural(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def flatten(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """A nested record as (dotted name, text) pairs."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flatten(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        for i, part in enumerate(value):
            yield from flatten(part, f"{name}.{i}")
    elif isinstance(value, list):
        yield name, " ".join(str(v) for v in value) or DASH
    else:
        yield name, DASH if value is None else str(value)


# Colour: one scale from 0 to 1 in blue, darker (on a dark page: lighter) for more; below 0 in orange and hatched.

LEVELS = 20
LIGHT = ("#f3f6fa", "#c6daec", "#86b3d9", "#3f7fb9", "#0b3d70")
LIGHT_BELOW = ("#fdf1e4", "#f2b878", "#a34b00")
DARK = ("#20262d", "#25435f", "#2f6b9f", "#62a5d8", "#c9e6ff")
DARK_BELOW = ("#30271d", "#8a5a22", "#f2ad66")


def shade(value: float | None) -> str:
    """The class of a cell's colour: p0 to p20 for 0 to 1, n1 to n20 below 0."""
    if value is None:
        return "undefined"
    if rate(value).startswith("−"):
        return f"n{max(1, round(min(-value, 1) * LEVELS))}"
    return f"p{round(max(0, min(value, 1)) * LEVELS)}"


def blend(stops: Sequence[str], share: float) -> tuple[int, ...]:
    """The colour at `share` of the way along the stops, (red, green, blue) of 0 to 255."""
    place = share * (len(stops) - 1)
    i = min(int(place), len(stops) - 2)
    ends = [[int(stop[k : k + 2], 16) for k in (1, 3, 5)] for stop in stops[i : i + 2]]
    return tuple(round(a + (b - a) * (place - i)) for a, b in zip(*ends, strict=True))


def luminance(colour: Sequence[int]) -> float:
    """Relative luminance as in WCAG 2."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@cache
def scale_css() -> str:
    """Fill and ink of every level, ink being whichever of black and white stands out more."""

    def rules(above: Sequence[str], below: Sequence[str]) -> str:
        out = []
        for name, stops in (("p", above), ("n", below)):
            for level in range(LEVELS + 1):
                fill = blend(stops, level / LEVELS)
                ink = "#fff" if luminance(fill) < 0.179 else "#000"
                out.append(f".{name}{level} rect{{fill:#{bytes(fill).hex()}}}.{name}{level} text{{fill:{ink}}}")
        return "\n".join(out)

    dark = rules(DARK, DARK_BELOW)
    return f"{rules(LIGHT, LIGHT_BELOW)}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"
