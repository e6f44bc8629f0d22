"""Which adversarial examples the report shows of each cell: transferred, fooled the source only, failed."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from carom.common.modality import get_modality
from carom.common.report import Example
from carom.common.report_values import amount
from carom.common.transfer import Transfer
from carom.common.units import Craft

OUTCOMES = ("transferred", "source only", "failed")


def choose_examples(outcome: Transfer, per_cell: int) -> Iterator[Example]:
    """Up to `per_cell` examples of each cell, from the first shard; different kinds before more of one kind."""
    plan, store = outcome.plan, outcome.store
    shard = plan.shards()[0]
    panels, classes = get_modality(plan.modality).panels, plan.data.classes
    labels = shard.labels.tolist()
    for craft in plan.crafts(shard):
        if craft.seed != plan.seeds[0] or not store.has(craft.key):
            continue
        adversarial = craft.inputs(store)
        sizes = _sizes(outcome, craft)
        silent = craft.source.silent
        by_source = outcome._answers([plan.judges(craft, craft.source)[0]])
        clean_source = outcome.clean(craft.source)
        for target in plan.targets:
            by_target = outcome._answers([plan.judges(craft, target)[0]])
            clean_target = outcome.clean(target)
            if target.digest == craft.source.digest or by_target is None or clean_target is None:
                continue
            if (by_source is None or clean_source is None) and not silent:
                continue
            kinds: dict[str, list[int]] = {kind: [] for kind in OUTCOMES}
            for i, label in enumerate(labels):
                if (clean_source is None or clean_source.answer[i] == label) and clean_target.answer[i] == label:
                    hit_source = by_source is not None and by_source.answer[i] != label
                    hit_target = by_target.answer[i] != label
                    kinds["transferred" if hit_target else "source only" if hit_source else "failed"].append(i)
            wanted = [(kind, kinds[kind][k]) for k in range(per_cell) for kind in OUTCOMES if k < len(kinds[kind])]
            for kind, i in wanted[:per_cell]:
                facts = dict(shard.facts)
                if isinstance(shard.lengths, Tensor):
                    facts["length"] = int(shard.lengths[i])
                yield Example(
                    modality=plan.modality,
                    id=shard.ids[i],
                    source=craft.source.name,
                    target=target.name,
                    attack=craft.chosen.label,
                    label=classes[labels[i]],
                    source_says="not known" if by_source is None else classes[int(by_source.answer[i])],
                    target_says=classes[int(by_target.answer[i])],
                    outcome=kind,
                    panels=panels(shard.space, shard.stored[i], adversarial[i], facts),
                    size=sizes[i] if sizes else "",
                )


def _sizes(outcome: Transfer, craft: Craft) -> list[str]:
    """What is said of the size of each perturbation; empty where it was not measured."""
    size = outcome.plan.size(craft)
    if not size.metrics or not outcome.store.has(size.key):
        return []
    rows = outcome.store.rows(size.key).to_pylist()
    return [
        ", ".join(f"{m.label} {amount(row[m.name])}" for m in size.metrics if math.isfinite(row[m.name]))
        for row in rows
    ]
