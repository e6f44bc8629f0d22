"""Which units of the store each cell was made of: what somebody needs who computes the cells again without Carom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from carom.common.core.model import Model
from carom.common.measure.cells import Terms
from carom.common.study.plan import Plan
from carom.common.work.units import Clean, Craft, Judge

if TYPE_CHECKING:
    from carom.common.study.outcome import Transfer


def ledger_of(outcome: Transfer) -> dict[str, Any]:
    """The keys behind the cells of one modality, of those at the study's budget, at equal white-box success and at equal
    cost apart: they are over other examples. A list of keys has one for each shard of the data, in their order."""
    plan = outcome.plan
    parts = {"cells": _part(plan, _at_budget(plan))}
    if outcome.matches:
        parts["matched"] = _part(part := plan.for_matching(), _at_success(part, outcome))
    if plan.curve is not None:
        parts["curve"] = _part(part := plan.for_curve(), _at_cost(part))
    return parts


Numbered = tuple[Terms, Sequence[Craft]]


def _at_budget(plan: Plan) -> Iterator[Numbered]:
    terms = Terms(plan.threat_label, plan.eps)
    yield from ((terms, crafts) for crafts in zip(*map(plan.crafts, plan.shards()), strict=True))


def _at_success(plan: Plan, outcome: Transfer) -> Iterator[Numbered]:
    for match in outcome.matches:
        terms = Terms(match.budget.label, match.budget.eps, match.level)
        yield from ((terms, crafts) for crafts in plan.matched_crafts(match))


def _at_cost(plan: Plan) -> Iterator[Numbered]:
    assert plan.curve is not None
    for amount, crafts in plan.curve_crafts():
        yield Terms(plan.threat_label, plan.eps, unit=plan.curve.unit, allowed=amount), crafts


def _part(plan: Plan, crafts: Iterable[Numbered]) -> dict[str, Any]:
    known = [model for model in plan.models if not model.silent]
    return {
        "examples": len(plan.data),
        "clean": {m.name: [Judge(m, Clean(shard), shard, "").key for shard in plan.shards()] for m in known},
        "crafts": [_entry(plan, terms, of_shards) for terms, of_shards in crafts],
    }


def _entry(plan: Plan, terms: Terms, crafts: Sequence[Craft]) -> dict[str, Any]:
    first = crafts[0]
    return {
        "source": first.source.name,
        "attack": first.chosen.label,
        "seed": first.seed,
        "threat": terms.threat,
        "matched": terms.matched,
        "allowed": terms.allowed,
        "craft": [craft.key for craft in crafts],
        "answers": {model.name: _answers(plan, crafts, model) for model in plan.judged(first)},
    }


def _answers(plan: Plan, crafts: Sequence[Craft], model: Model) -> dict[str, Any]:
    attacked, controls, swapped = zip(*(plan.judges(craft, model) for craft in crafts), strict=True)
    blind = [plan.blind(craft, model) for craft in crafts]

    def keys(judges: Iterable[Judge]) -> list[str]:
        return [judge.key for judge in judges]

    return {
        "attacked": keys(attacked),
        "controls": [keys(draw) for draw in zip(*controls, strict=True)],
        "swapped": keys(swapped),
        "blind": [keys(change) for change in zip(*blind, strict=True)],
    }
