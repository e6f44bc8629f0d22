"""What attacks cost: the attack with as many steps as an allowance pays for."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import fields, is_dataclass, replace

from carom.common.attacks.gradient.ascent import climb_of, with_climb
from carom.common.attacks.info import AttackChoice
from carom.common.core.model import Model
from carom.common.core.problem import Attack


def affording(chosen: AttackChoice, unit: str, amount: int, source: Model | None = None) -> AttackChoice | None:
    """The attack with as many steps, or queries, as the allowance per example pays for; None if not one fits, or if it
    has no such budget. A gradient of an ensemble is paid for as one of each of its members, one of a random model as one
    of each draw that it averages."""
    if unit == "gradients":
        attack = _costing(chosen.attack, amount // gradients_taken(chosen, source))
    else:
        attack = _asking(chosen.attack, amount)
    return None if attack is None else replace(chosen, attack=attack)


def gradients_taken(chosen: AttackChoice, source: Model | None) -> int:
    """How many networks one gradient asks, for each draw that it averages."""
    if source is None:
        return 1
    climb = climb_of(chosen.attack)
    draws = (chosen.eot or source.eot) if source.random else 1
    return draws * (1 if climb is not None and climb.alone else source.passes)


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
