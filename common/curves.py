"""Equal cost: every attack once more with a number of gradients, or of queries, that is the same for all.

Published attacks differ in what they spend by two orders of magnitude, so a table of attacks at their own defaults
ranks their cost as much as their idea. Here each attack is given as many steps as an allowance pays for: one that
samples twenty neighbours makes a twentieth of the steps.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, fields, is_dataclass, replace

from carom.common.ascent import climb_of, with_climb
from carom.common.errors import CaromError, UnknownName
from carom.common.models import Model
from carom.common.problem import Attack
from carom.common.units import AttackChoice

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


def affording(chosen: AttackChoice, unit: str, amount: int, source: Model | None = None) -> AttackChoice | None:
    """The attack with as many steps, or queries, as the allowance per example pays for; None if not one fits, or if it
    has no such budget. A gradient of an ensemble is paid for as one of each of its members."""
    if unit == "gradients":
        attack = _costing(chosen.attack, amount // members_asked(chosen.attack, source))
    else:
        attack = _asking(chosen.attack, amount)
    return None if attack is None else replace(chosen, attack=attack)


def members_asked(attack: Attack, source: Model | None) -> int:
    """How many networks one gradient asks."""
    climb = climb_of(attack)
    return 1 if source is None or (climb is not None and climb.alone) else source.passes


def _costing(attack: Attack, gradients: int) -> Attack | None:
    """By the attack's own `costing`, or by that of its climb."""
    own, climb = getattr(attack, "costing", None), climb_of(attack)
    if own is not None:
        return own(gradients)
    changed = None if climb is None else climb.costing(gradients)
    return None if changed is None else with_climb(attack, changed)


def _asking(attack: Attack, queries: int) -> Attack | None:
    known = is_dataclass(attack) and not isinstance(attack, type) and "queries" in {f.name for f in fields(attack)}
    return replace(attack, queries=queries) if known else None  # type: ignore[type-var]


def why_not(chosen: AttackChoice, unit: str, amounts: tuple[int, ...], source: Model | None = None) -> str:
    """Why an attack has no point at these allowances, of which at least one it cannot use."""
    most, step = max(amounts), _least(chosen, unit, source)
    if step is not None:
        return f"{most} {'gradient' if most == 1 else 'gradients'} or fewer pay for no step, which costs {step}"
    return f"its cost is not set by a number of {unit}"


def _least(chosen: AttackChoice, unit: str, source: Model | None) -> int | None:
    """The smallest allowance that an attack can use, with all it does before its first step; None if it uses none."""
    allowances = range(1, 1 << 24)  # far above what anybody pays for a step
    at = bisect_left(allowances, True, key=lambda amount: affording(chosen, unit, amount, source) is not None)
    return allowances[at] if at < len(allowances) else None
