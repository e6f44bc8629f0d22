"""Which examples the page of a judgement shows of each model: rejected, fooled, and what stood."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.modality.installed import get_modality
from carom.common.report.page import Example
from carom.common.robustness.judgement import Judgement
from carom.common.robustness.outcome import Remnant, Robust
from carom.common.work.store import Store
from carom.common.work.units import Craft, Judge


def examples_of(judgement: Judgement, per_outcome: int = 2) -> Iterator[Example]:
    """Of what the adaptive attacks made of examples that were right when clean, some of each outcome."""
    for entry in judgement.entries:
        found = entry.robust
        own = [row for row in found.rows if row.kind == "adaptive"]
        for row in own[:1]:
            yield from _of(judgement.store, found, row, per_outcome)


def _of(store: Store, found: Robust, row: Remnant, per_outcome: int) -> Iterator[Example]:
    right, verdict = found.clean.right, row.verdict
    outcomes = {
        "rejected": right & ~verdict.right & ~verdict.fooled,
        "fooled": right & verdict.fooled,
        "stood": right & verdict.right,
    }
    places = [(craft, at) for craft in row.crafts for at in range(len(craft.data))]
    order = Rng.of(0, found.data.ids).fold("shown", found.model.name).uniform().argsort().numpy()
    for outcome, among in outcomes.items():
        for at in [int(at) for at in order if among[at]][:per_outcome]:
            craft, place = places[at]
            yield _example(store, found, row, craft, place, outcome)


def _example(store: Store, found: Robust, row: Remnant, craft: Craft, at: int, outcome: str) -> Example:
    data, model = craft.data, found.model
    facts = dict(data.facts)
    if isinstance(data.lengths, Tensor):
        facts["length"] = int(data.lengths[at])
    told = store.rows(Judge(model, craft, data, "").key).to_pylist()[at]
    said = data.task.shown(told["answer"], data.classes)
    return Example(
        modality=model.modality,
        id=data.ids[at],
        source=model.name,
        target=model.name,
        attack=row.attack,
        label=data.task.asked(np.asarray(data.reference)[at], data.classes),
        source_says=said,
        target_says=f"rejected ({said})" if told.get("rejected") else said,
        outcome=outcome,
        panels=get_modality(model.modality).panels(data.space, data.stored[at], craft.inputs(store)[at], facts),
    )
