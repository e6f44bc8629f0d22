"""Computing what a plan asks for and the store does not hold."""

from __future__ import annotations

import time
from collections.abc import Iterator

from carom.common.models.mismatch import settle
from carom.common.study.comparisons.budget_search import search_together
from carom.common.study.doubts import Warn, by_warnings
from carom.common.study.outcome import Transfer
from carom.common.study.plan import Plan
from carom.common.work.executor import Executor, Progress, inline
from carom.common.work.store import Store
from carom.common.work.units import Unit


def evaluate(
    plan: Plan,
    store: Store,
    batch: int = 64,
    executor: Executor = inline,
    progress: Progress | None = None,
    warn: Warn = by_warnings,
) -> Transfer:
    """Compute what the store does not hold yet, and hand over the outcome. `warn` hears of models whose clean accuracy
    is near chance as soon as it is known, before anything is attacked."""
    started = time.perf_counter()
    for model in plan.models:
        settle(model, plan.data)
    outcome = Transfer(plan, store)
    telling = _telling(outcome, warn)

    def advance(done: int, total: int, what: str) -> None:
        next(telling)
        if progress is not None:
            progress(done, total, what)

    outcome.failures = executor(plan.units(), store, batch, advance)
    next(telling)
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


def _telling(outcome: Transfer, warn: Warn) -> Iterator[None]:
    """Each time it is asked: tells what is to be doubted, once the clean answers of all models are there."""
    while not all(outcome.store.has(unit.key) for unit in outcome.plan.clean_units()):
        yield
    for line in outcome.doubts():
        warn(line)
    while True:
        yield
