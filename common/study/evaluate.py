"""Computing what a plan asks for and the store does not hold."""

from __future__ import annotations

import time

from carom.common.models.mismatch import settle
from carom.common.study.budget_search import search_together
from carom.common.study.outcome import Transfer
from carom.common.study.plan import Plan
from carom.common.work.executor import Executor, Progress, inline
from carom.common.work.store import Store
from carom.common.work.units import Unit


def evaluate(
    plan: Plan, store: Store, batch: int = 64, executor: Executor = inline, progress: Progress | None = None
) -> Transfer:
    """Compute what the store does not hold yet, and hand over the outcome."""
    started = time.perf_counter()
    for model in plan.models:
        settle(model, plan.data)
    outcome = Transfer(plan, store, executor(plan.units(), store, batch, progress))
    if plan.matching is not None:

        def compute(units: list[Unit]) -> None:
            if progress is not None:
                progress(0, 1, "searching budgets of equal white-box success")
            outcome.failures += executor(units, store, batch, None)

        outcome.matches = search_together(plan.searches(store), store, compute)
        part = plan.for_matching()
        crafts = [c for match in outcome.matches for of_seed in part.matched_crafts(match) for c in of_seed]
        outcome.failures += executor(part.units_of(crafts) if crafts else [], store, batch, progress)
    if units := plan.curve_units():
        outcome.failures += executor(units, store, batch, progress)
    outcome.seconds = time.perf_counter() - started
    return outcome
