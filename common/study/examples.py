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
from carom.common.work.units import Craft

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
            wanted = [(kind, kinds[kind][k]) for k in range(per_cell) for kind in OUTCOMES if k < len(kinds[kind])]
            for kind, (row, source_says, target_says) in wanted[:per_cell]:
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
                    label=plan.data.classes[int(shard.labels[i])],
                    source_says="not known" if source_says is None else plan.data.classes[source_says],
                    target_says=plan.data.classes[target_says],
                    outcome=kind,
                    panels=panels,
                    size=sizes(part)[i] if sizes(part) else "",
                )


Found = tuple[int, int | None, int]
"""A row of the data, what the source says of it (None where that is not known), what the target does."""


def _kinds(outcome: Transfer, crafts: Sequence[Craft], target: Model) -> dict[str, list[Found]]:
    """What there is of each outcome, of the examples that both get right when clean (the target, where nothing is known
    of the source); nothing of a source as its own target, unless there is no other."""
    plan, source = outcome.plan, crafts[0].source
    kinds: dict[str, list[Found]] = {kind: [] for kind in OUTCOMES}
    clean_source, clean_target = outcome.clean(source), outcome.clean(target)
    by_source, by_target = (outcome.answers([plan.judges(c, m)[0] for c in crafts]) for m in (source, target))
    own, alone = target.digest == source.digest, all(t.digest == source.digest for t in plan.targets)
    if (own and not alone) or clean_target is None or by_target is None:
        return kinds
    if (clean_source is None or by_source is None) and not source.silent:
        return kinds
    for row in _mixed(plan.data.ids, source.name, target.name):
        label = int(plan.data.labels[row])
        if clean_target.answer[row] == label and (clean_source is None or clean_source.answer[row] == label):
            says, told = None if by_source is None else int(by_source.answer[row]), int(by_target.answer[row])
            flipped = "fooled" if own else "transferred"
            kind = flipped if told != label else "failed" if says in (None, label) else "source only"
            kinds[kind].append((row, says, told))
    return kinds


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
