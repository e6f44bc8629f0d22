"""Which adversarial examples the report shows of each cell: transferred, fooled the source only, failed; of a source that
is measured on itself alone, fooled and failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.model import Model
from carom.common.modality.installed import get_modality
from carom.common.report.page import Example
from carom.common.report.values import amount
from carom.common.work.units import Craft, Judge

if TYPE_CHECKING:
    from carom.common.study.outcome import Transfer

OUTCOMES = ("transferred", "fooled", "source only", "failed")


def choose_examples(outcome: Transfer, per_cell: int) -> Iterator[Example]:
    """Up to `per_cell` examples of each cell; different kinds before more of one kind. They are taken in the order of
    a hash of their ids, another one in each cell: data often come sorted by class."""
    plan = outcome.plan
    shards = plan.shards()
    for crafts in zip(*(list(plan.crafts(shard)) for shard in shards), strict=True):
        craft = crafts[0]
        if craft.seed != plan.seeds[0] or not all(outcome.store.has(part.key) for part in crafts):
            continue
        shown = [(shard, part, i) for shard, part in zip(shards, crafts, strict=True) for i in range(len(shard))]
        inputs, sizes = _once(lambda part: part.inputs(outcome.store)), _once(lambda part: _sizes(outcome, part))
        for target in plan.targets:
            kinds = _kinds(outcome, crafts, target)
            says, told = (_said(outcome, crafts, model) for model in (craft.source, target))
            wanted = [(kind, kinds[kind][k]) for k in range(per_cell) for kind in OUTCOMES if k < len(kinds[kind])]
            for kind, row in wanted[:per_cell]:
                shard, part, i = shown[row]
                facts = dict(shard.facts)
                if isinstance(shard.lengths, Tensor):
                    facts["length"] = int(shard.lengths[i])
                panels = get_modality(plan.modality).panels(shard.space, shard.stored[i], inputs(part)[i], facts)
                yield Example(
                    modality=plan.modality,
                    id=shard.ids[i],
                    source=craft.source.name,
                    target=target.name,
                    attack=craft.chosen.label,
                    label=shard.task.asked(shard.reference[i], shard.classes),
                    source_says=says[row],
                    target_says=told[row],
                    outcome=kind,
                    panels=panels,
                    size=sizes(part)[i] if sizes(part) else "",
                )


def _kinds(outcome: Transfer, crafts: Sequence[Craft], target: Model) -> dict[str, list[int]]:
    """The rows of the data by outcome, of the examples that both get right when clean (the target, where nothing is known
    of the source); nothing of a source as its own target, unless there is no other."""
    plan, source, stored = outcome.plan, crafts[0].source, outcome.stored
    kinds: dict[str, list[int]] = {kind: [] for kind in OUTCOMES}
    clean_source, clean_target = stored.clean(source), stored.clean(target)
    by_source, by_target = (stored.verdict(_judges(outcome, crafts, model)) for model in (source, target))
    own, alone = target.digest == source.digest, all(t.digest == source.digest for t in plan.targets)
    if (own and not alone) or clean_target is None or by_target is None:
        return kinds
    if (clean_source is None or by_source is None) and not source.silent:
        return kinds
    for row in _mixed(plan.data.ids, source.name, target.name):
        if clean_target.right[row] and (clean_source is None or clean_source.right[row]):
            if by_target.fooled[row]:
                kind = "fooled" if own else "transferred"
            else:
                kind = "source only" if by_source is not None and by_source.fooled[row] else "failed"
            kinds[kind].append(row)
    return kinds


def _judges(outcome: Transfer, crafts: Sequence[Craft], model: Model) -> list[Judge]:
    """What a model was asked about what was crafted."""
    return [outcome.plan.judges(craft, model)[0] for craft in crafts]


def _said(outcome: Transfer, crafts: Sequence[Craft], model: Model) -> list[str]:
    """What a model answers to what was crafted, in words."""
    data, judges = outcome.plan.data, _judges(outcome, crafts, model)
    if not all(outcome.store.has(judge.key) for judge in judges):
        return ["not known"] * len(data)
    rows = [row for judge in judges for row in outcome.store.rows(judge.key).to_pylist()]
    return ["rejected" if row.get("rejected") else data.task.shown(row["answer"], data.classes) for row in rows]


def _mixed(ids: Sequence[str], *key: str) -> list[int]:
    """The rows in the order of a hash of their ids."""
    return Rng.of(0, ids).fold("shown", *key).uniform().argsort().tolist()


def _once(read: Callable[[Craft], Any]) -> Callable[[Craft], Any]:
    """`read`, which is asked about each craft only when first needed."""
    found: dict[str, Any] = {}

    def get(part: Craft) -> Any:
        if part.key not in found:
            found[part.key] = read(part)
        return found[part.key]

    return get


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
