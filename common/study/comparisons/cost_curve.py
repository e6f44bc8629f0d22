"""Equal cost: every attack once more with a number of gradients, or of queries, that is the same for all.

Published attacks differ in what they spend by two orders of magnitude, so a table of attacks at their own defaults
ranks their cost as much as their idea. Here each attack is given as many steps as an allowance pays for: one that
samples twenty neighbours makes a twentieth of the steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from carom.common.base.errors import CaromError, UnknownName

AMOUNTS = {"gradients": (1, 10, 50, 200, 1000), "queries": (100, 300, 1000)}
"""What a curve measures against -> the allowances per example, unless told otherwise."""


@dataclass(frozen=True)
class Curve:
    """Excess transfer against cost: in which unit, at which allowances per example, on how many examples."""

    unit: str
    amounts: tuple[int, ...]
    limit: int | None = None  # examples; None: all of the study


def parse_curve(text: str, limit: int | None = None) -> Curve:
    """The curve that "gradients" or "gradients=1,10,50" asks for.

    >>> parse_curve("gradients=50,1,10").amounts
    (1, 10, 50)
    """
    unit, equals, listed = text.partition("=")
    if unit not in AMOUNTS:
        raise UnknownName("unit of cost", unit, AMOUNTS)
    try:
        amounts = tuple(sorted({int(part) for part in listed.split(",")})) if equals else AMOUNTS[unit]
    except ValueError:
        amounts = (0,)
    if amounts[0] < 1:
        raise CaromError(f"curve {text!r}: write {unit}, or {unit}=1,10,50 with whole numbers of 1 or more.")
    return Curve(unit, amounts, limit)
