"""Cells from what a store holds: the rows of crafts and judges become rates, costs and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from carom.common.core.metrics import summarised
from carom.common.core.model import Model
from carom.common.core.problem import COUNTS, Status
from carom.common.core.tasks import Values
from carom.common.core.threats import Threat
from carom.common.measure.cells import Cell, Over, Spent, Terms
from carom.common.measure.rates import LEAST_EXAMPLES, LEAST_WHITE_BOX, Judged, Measure, Verdict
from carom.common.measure.stats import Array, Bootstrap
from carom.common.study.comparisons.matching import Match
from carom.common.study.plan import Plan
from carom.common.work.answers import verdict_of
from carom.common.work.store import Store
from carom.common.work.units import KEPT, NOTE, Clean, Craft, Judge


@dataclass(frozen=True)
class StoredCells:
    """The cells of a plan, as far as the store holds what they are made of."""

    plan: Plan
    store: Store

    def verdict(self, judges: Sequence[Judge], wanted: Values | None = None) -> Verdict | None:
        """What the task makes of a model's answers, by its judges on every shard; None where one is not in the store."""
        if not all(self.store.has(judge.key) for judge in judges):
            return None
        data = self.plan.data
        return verdict_of([self.store.rows(judge.key) for judge in judges], data.task, data.reference, wanted)

    def clean(self, model: Model) -> Verdict | None:
        """Of the model's answers to the clean data."""
        return self.verdict([Judge(model, Clean(s), s, "") for s in self.plan.shards()])

    def at_budget(self) -> list[tuple[Cell, Array]]:
        """Each cell at the study's own budget, with its excess transfer in every resample of the examples, float64[B]. The
        resamples are the same for all cells, so intervals of means and differences of cells are paired."""
        bootstrap, terms = Bootstrap.of(len(self.plan.data)), Terms(self.plan.threat_label, self.plan.eps)
        by_shard = [list(self.plan.crafts(shard)) for shard in self.plan.shards()]
        return [cell for crafts in zip(*by_shard, strict=True) for cell in self._of(crafts, bootstrap, terms)]

    def at_success(self, matches: Sequence[Match]) -> Iterator[Cell]:
        """The cells at the budgets that bring each source to equal white-box success."""
        if not matches:
            return
        part = StoredCells(self.plan.for_matching(), self.store)
        bootstrap = Bootstrap.of(len(part.plan.data))
        for match in matches:
            terms = Terms(match.budget.label, match.budget.eps, match.level)
            for crafts in part.plan.matched_crafts(match):
                for cell, _ in part._of(crafts, bootstrap, terms):
                    own = cell.rates.white_box
                    assert own.value is not None
                    assert own.low is not None
                    assert own.high is not None
                    at_level = own.low <= match.level <= own.high
                    yield replace(cell, at_level=at_level, why=None if at_level else match.why(own.value, own.high))

    def at_cost(self) -> Iterator[Cell]:
        """The cells at equal cost."""
        if self.plan.curve is None:
            return
        part, unit = StoredCells(self.plan.for_curve(), self.store), self.plan.curve.unit
        bootstrap = Bootstrap.of(len(part.plan.data))
        for amount, crafts in part.plan.curve_crafts():
            terms = Terms(self.plan.threat_label, self.plan.eps, unit=unit, allowed=amount)
            for cell, _ in part._of(crafts, bootstrap, terms):
                yield cell

    def _of(self, crafts: Sequence[Craft], bootstrap: Bootstrap, terms: Terms) -> Iterator[tuple[Cell, Array]]:
        """The cells of one source, attack and seed, from its craft on every shard; each with its resampled excess."""
        craft, plan = crafts[0], self.plan
        if not all(self.store.has(c.key) for c in crafts):
            return
        table = pa.concat_tables([self.store.rows(c.key) for c in crafts])
        wanted = table["target"].to_numpy() if plan.targeted else None
        judged = {model.digest: self._judged(crafts, model, wanted) for model in plan.judged(craft)}
        source_clean, own = self.clean(craft.source), judged.get(craft.source.digest)
        if (source_clean is None or own is None) and not craft.source.silent:
            return
        measure, spent, size = Measure(bootstrap, source_clean, own), self._spent(crafts, table), self.size(crafts)
        all_right = self._all_right() if plan.denominators else None
        for target in plan.targets:
            clean, answers = self.clean(target), judged[target.digest]
            if clean is None or answers is None:
                continue
            rates, draws = measure.rates(clean, answers)
            limit = craft.threat.control_limit(rates.white_box.value)
            cell = Cell(
                source=craft.source.name,
                target=target.name,
                source_family=craft.source.family.value,
                target_family=target.family.value,
                attack=craft.chosen.label,
                terms=terms,
                seed=craft.seed,
                rates=rates,
                spent=spent,
                size=size,
                control_limit=limit,
                denominators={}
                if all_right is None
                else {name: Over(measure.over(clean, answers, all_right)[name]) for name in plan.denominators},
            )
            said = (*_of_rates(cell), *_of_controls(craft.threat, *self._broken(crafts, target)), *_of_rows(table))
            yield replace(cell, warnings=(*_of_source(craft.source), *said, *_of_size(size, table))), draws

    def _all_right(self) -> NDArray[np.bool_] | None:
        """bool[n]: which examples every model of the plan gets right when clean; None where that is not known of one."""
        known = [self.clean(model) for model in self.plan.models if not model.silent]
        found = [verdict.right for verdict in known if verdict is not None]
        return np.logical_and.reduce(found) if len(found) == len(known) and found else None

    def _judged(self, crafts: Sequence[Craft], model: Model, wanted: Values | None) -> Judged | None:
        attacked, controls, swapped = zip(*(self.plan.judges(c, model) for c in crafts), strict=True)
        found = [self.verdict(judges, wanted) for judges in (attacked, *zip(*controls, strict=True), swapped)]
        verdicts = [verdict for verdict in found if verdict is not None]
        if len(verdicts) < len(found):
            return None
        blind = [self.verdict(judges) for judges in zip(*(self.plan.blind(c, model) for c in crafts), strict=True)]
        return Judged(verdicts[0], verdicts[1:-1], verdicts[-1], [one for one in blind if one is not None])

    def _broken(self, crafts: Sequence[Craft], model: Model) -> tuple[int, int]:
        """(control draws that do not keep what the attack has to keep, all that were looked at)"""
        judges = [judge for craft in crafts for judge in self.plan.judges(craft, model)[1]]
        tables = [rows for judge in judges if KEPT in (rows := self.store.rows(judge.key)).column_names]
        kept = [table[KEPT].to_numpy(zero_copy_only=False) for table in tables]
        return sum(int((~one).sum()) for one in kept), sum(map(len, kept))

    def _spent(self, crafts: Sequence[Craft], table: pa.Table) -> Spent:
        seconds = sum(self.store.seconds(c.key) for c in crafts) / len(self.plan.data)
        return Spent(**{name: float(np.mean(table[name].to_numpy())) for name in COUNTS}, seconds=seconds)

    def size(self, crafts: Sequence[Craft]) -> Mapping[str, object] | None:
        """How large the perturbations of a craft are; None where that was not measured."""
        sizes = [self.plan.size(craft) for craft in crafts]
        if not self.plan.metrics or not all(self.store.has(size.key) for size in sizes):
            return None
        return summarised(pa.concat_tables([self.store.rows(size.key) for size in sizes]).to_pydict())


# What is to be said of a cell.


def _of_source(source: Model) -> Iterator[str]:
    if source.silent:
        yield "what the source answered is not known: counted is all that the target gets right"
    elif source.recorded:
        yield "the source is known by its recorded answers alone: it has no control, and E none to relate to"


def _of_rates(cell: Cell) -> Iterator[str]:
    white, null = cell.rates.white_box.value, cell.rates.white_box_control.value
    if white is not None and white < LEAST_WHITE_BOX and not (cell.terms.matched or cell.terms.allowed):
        yield f"white-box success is only {white:.2f}: low transfer may be the attack's failure"
    if cell.high_control:
        yield f"random perturbations of this budget already fool the source at {null:.2f}"
    blind, transfer = cell.rates.blind.value, cell.rates.transfer.value
    if blind is not None and transfer is not None and blind > transfer:
        yield f"a change that knows neither model nor input fools {blind:.2f} of the examples, more than this attack"
    if cell.rates.n < LEAST_EXAMPLES:
        yield f"only {cell.rates.n} examples are right on both models"


def _of_controls(threat: Threat, broken: int, drawn: int) -> Iterator[str]:
    if broken:
        yield (
            f"{broken} of {drawn} control draws break a constraint of the attack, each in all of {threat.redraws} tries: "
            "they stand as drawn last, and N is of changes that the attack may not make"
        )
    if threat.unkept:
        yield f"controls are not held to the attack's constraints ({', '.join(threat.unkept)}): N may be too high"


def _of_rows(table: pa.Table) -> Iterator[str]:
    """Of what an attack says of its examples."""
    marks: NDArray[np.int64] = np.bincount(table["status"].to_numpy(), minlength=len(Status))
    for status, words in (
        (Status.BAD_GRADIENT, "gave gradients or scores that are not finite"),
        (Status.NO_GRADIENT, "gave zero gradients"),
    ):
        if marks[status]:
            yield f"{marks[status]} examples {words} and were left unchanged"
    if idle := int(marks[Status.INFEASIBLE]):
        of = "all" if idle == len(table) else f"{idle} of"
        yield (
            f"{of} {len(table)} examples had nothing that the attack could change within the budget and were left "
            "unchanged: success says nothing of them"
        )
    for name in table.column_names:
        if name.startswith(NOTE) and (count := int(np.sum(table[name].to_numpy(zero_copy_only=False)))):
            yield f"{count} examples {name.removeprefix(NOTE)}"


def _of_size(size: Mapping[str, object] | None, table: pa.Table) -> Iterator[str]:
    idle = bool((table["status"].to_numpy() == Status.INFEASIBLE).all())  # that is said
    if size is not None and size.get("changed") == 0 and not idle:
        yield "no example was changed: nothing that can be stored lies within this budget, or the attack found no way"


def warned_of_masking(cells: Sequence[Cell]) -> list[Cell]:
    """An attack that has the model should not do worse than the same attack without it: where what was crafted on
    another model fools it more often, beyond both intervals, its gradients mislead."""

    def said_of(own: Cell) -> Iterator[str]:
        most = own.rates.white_box.high
        if not own.own or most is None:
            return
        for other in cells:
            same = (own.target, own.attack, own.seed) == (other.target, other.attack, other.seed)
            if same and other.source != own.source and (other.rates.transfer.low or 0) > most:
                said = f"the same attack on {other.source} fools this model more often than on itself"
                yield f"{said}: its gradients may be masked"

    return [replace(cell, warnings=(*cell.warnings, *said_of(cell))) for cell in cells]
