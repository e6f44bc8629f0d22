"""The plan of a study of one modality: which units of work it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from carom.common.attacks.cost import affording, why_not
from carom.common.attacks.info import AttackChoice
from carom.common.core.class_names import places
from carom.common.core.data import Dataset
from carom.common.core.metrics import Metric
from carom.common.core.model import Model
from carom.common.core.threats import Threat
from carom.common.modality.budgets import ScalePoint, check_reach
from carom.common.models.class_matching import matched
from carom.common.models.kinds import builds_of
from carom.common.models.mismatch import fitting
from carom.common.study.checks import (
    check_controls,
    check_denominators,
    check_model,
    check_names,
    check_others,
    check_source,
    check_targeted,
    check_threat,
    why_unsuited,
)
from carom.common.study.comparisons.budget_search import BudgetSearch
from carom.common.study.comparisons.cost_curve import Curve
from carom.common.study.comparisons.matching import Match, Matching
from carom.common.study.target_classes import take_aim
from carom.common.work.store import Store
from carom.common.work.units import (
    Aim,
    Blind,
    Clean,
    Control,
    Craft,
    Judge,
    Size,
    Swapped,
    TargetClasses,
    Unit,
)

SHARD = 256
"""Examples in one unit of work: what an interruption can cost. Part of every key, never of a result."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one modality's study asks for: every source with every attack it can run, every target."""

    modality: str
    sources: tuple[Model, ...]
    targets: tuple[Model, ...]
    attacks: tuple[AttackChoice, ...]
    data: Dataset
    threat: Threat
    threat_label: str
    seeds: tuple[int, ...] = (0,)
    controls: int = 5
    targeted: bool = False
    eps: float | None = None  # the budget as a number, where it has one
    matching: Matching | None = None
    curve: Curve | None = None
    metrics: tuple[Metric, ...] = ()  # of the size of perturbations
    others: Dataset | None = None  # clean examples that the attacker has besides
    second_null: bool = True  # whether changes that know neither model nor input are measured beside the control
    aim: Aim = None  # of targeted attacks
    denominators: tuple[str, ...] = ()  # of `DENOMINATORS`: those by which transfer is said besides
    precision: str = "fp32"  # of the gradients that are crafted with

    def __post_init__(self) -> None:
        check_controls(self.controls)
        check_denominators(self.denominators)
        if self.targeted:
            check_targeted(self.attacks)
        for model in self.models:
            check_model(model, self.modality, self.data)
        counted = self.data.classes
        self._match_classes()
        aim, data = take_aim(self.aim, self.targeted, self.data, counted, self.sources)
        object.__setattr__(self, "aim", aim)
        object.__setattr__(self, "data", data)
        check_threat(self.threat)
        check_reach(self.threat, self.data)
        check_names(self.models)
        check_others(self.attacks, self.others)
        for source in self.sources:
            check_source(source, self.modality, [(c.info.name, self._unsuited(c, source)) for c in self.attacks])

    @property
    def aimed_at(self) -> str | None:
        """What targeted attacks aim at, in words; None when untargeted."""
        if not self.targeted:
            return None
        if isinstance(self.aim, TargetClasses):
            return "a class for each example"
        return self.data.classes[self.aim] if isinstance(self.aim, int) else str(self.aim or "random")

    def _match_classes(self) -> None:
        """From here on, labels are counted in the classes of the models, and all models answer in the same."""
        data, models = matched(self.data, (*self.sources, *self.targets))
        if self.others is not None and self.others.classes != data.classes:
            others = self.others.with_classes(data.classes, places(self.others.classes, data.classes) or [])
            object.__setattr__(self, "others", others)
        object.__setattr__(self, "data", data)
        for role in ("sources", "targets"):
            object.__setattr__(self, role, tuple(models[id(model)] for model in getattr(self, role)))

    @property
    def models(self) -> tuple[Model, ...]:
        """Targets, then sources that are not targets."""
        known = {m.digest for m in self.targets}
        return (*self.targets, *(s for s in self.sources if s.digest not in known))

    def attacks_on(self, source: Model) -> list[AttackChoice]:
        return [c for c in self.attacks if self._unsuited(c, source) is None]

    def left_out(self) -> list[dict[str, str]]:
        """Attacks that a source would let in, but whose build they do not suit, and those that no source lets in:
        {"source", "attack", "why"} each."""
        idle = [c for c in self.attacks if not any(c.runs_on(source) for source in self.sources)]
        pairs = [(source, c) for source in self.sources for c in self.attacks if c.runs_on(source) or c in idle]
        found = [(source.name, chosen.label, self._unsuited(chosen, source)) for source, chosen in pairs]
        return [{"source": source, "attack": attack, "why": why} for source, attack, why in found if why is not None]

    def _unsuited(self, chosen: AttackChoice, source: Model) -> str | None:
        """Why an attack cannot run on a source; None if it can."""
        return why_unsuited(chosen, source, lambda: self._builds(source))

    def _builds(self, source: Model) -> set[str]:
        """Which kinds of network a source is, found out when an attack first asks."""
        known = self._known_builds
        if source.digest not in known:
            with fitting(source, self.data):
                known[source.digest] = builds_of(source, self.data.batch(0, 1))
        return known[source.digest]

    @cached_property
    def _known_builds(self) -> dict[str, set[str]]:
        return {}

    def shards(self) -> list[Dataset]:
        return shards(self.data)

    def crafts(self, shard: Dataset) -> Iterable[Craft]:
        for source in self.sources:
            for chosen in self.attacks_on(source):
                for seed in self.seeds:
                    yield self.craft(source, chosen, self.threat, shard, seed)

    def craft(self, source: Model, chosen: AttackChoice, threat: Threat, shard: Dataset, seed: int) -> Craft:
        others = self.others if chosen.needs_others else None
        return Craft(
            source, chosen, chosen.threat(threat), shard, seed, self.targeted, others, self.aim, self.precision
        )

    def judged(self, craft: Craft) -> list[Model]:
        """The targets and, for its white-box success, the source itself."""
        known = {m.digest for m in self.targets}
        return [*self.targets, *([] if craft.source.digest in known or craft.source.silent else [craft.source])]

    def judges(self, craft: Craft, model: Model) -> tuple[Judge, list[Judge], Judge]:
        """(on the adversarial inputs, on each control, on the swapped perturbations)

        A recorded model cannot be asked about inputs drawn here: it has no controls."""
        name = model.name
        attacked = Judge(model, craft, craft.data, f"{name} on {craft.what}")
        if model.recorded:
            return attacked, [], attacked
        controls = [
            Judge(model, Control(craft, k), craft.data, f"{name} on controls of {craft.what}")
            for k in range(self.controls)
        ]
        return attacked, controls, Judge(model, Swapped(craft), craft.data, f"{name} on swapped {craft.what}")

    def blind(self, craft: Craft, model: Model) -> list[Judge]:
        """On changes that know neither model nor input. They belong to no craft: all sources share them."""
        if model.recorded or not self.second_null:
            return []
        return [
            Judge(model, Blind(craft, k), craft.data, f"{model.name} on changes that know no model")
            for k in range(craft.threat.blind_changes)
        ]

    def size(self, craft: Craft) -> Size:
        return Size(craft, tuple(m for m in self.metrics if m.missing() is None))

    def units(self) -> list[Unit]:
        """Everything to compute, in an order in which each unit finds what it needs; each key once."""
        return self.units_of(craft for shard in self.shards() for craft in self.crafts(shard))

    def clean_units(self) -> list[Judge]:
        """The answers of all models to the clean data."""
        known = [m for m in self.models if not m.silent]
        return [Judge(m, Clean(s), s, f"{m.name} on clean inputs") for s in self.shards() for m in known]

    def units_of(self, crafts: Iterable[Craft]) -> list[Unit]:
        """The clean answers, these crafts and what is asked about them."""
        units: dict[str, Unit] = {}
        for clean in self.clean_units():
            units.setdefault(clean.key, clean)
        for craft in crafts:
            units.setdefault(craft.key, craft)
            if self.metrics:
                size = self.size(craft)
                units.setdefault(size.key, size)
            for model in self.judged(craft):
                attacked, controls, swapped = self.judges(craft, model)
                for judge in (attacked, *controls, swapped, *self.blind(craft, model)):
                    units.setdefault(judge.key, judge)
        return list(units.values())

    # At equal white-box success: the same sources, targets and attacks, each attack with the budget found for it.

    def for_matching(self) -> Plan:
        """This plan on the examples and control draws of its matched comparison."""
        assert self.matching is not None
        controls = self.controls if self.matching.controls is None else self.matching.controls
        return replace(self, data=self.data.sample(self.matching.limit), controls=controls, second_null=False)

    def searches(self, store: Store) -> list[BudgetSearch]:
        """One search for each attack on each source. Those whose crafts failed at the study's budget are left out."""
        assert self.matching is not None
        data, found = self.for_matching().data, []
        for first in self.crafts(self.shards()[0]):
            if first.seed == self.seeds[0] and store.has(first.key):

                def craft(budget: ScalePoint, part: Dataset, first: Craft = first) -> Craft:
                    return replace(first, threat=first.chosen.threat(budget.threat), data=part)

                found.append(BudgetSearch(first.source, first.chosen, data, self.matching, shards, craft))
        return found

    def matched_crafts(self, match: Match) -> list[list[Craft]]:
        """For each seed, the crafts of a match on every shard. To be asked of the plan for matching."""
        return [
            [self.craft(match.source, match.chosen, match.budget.threat, shard, seed) for shard in self.shards()]
            for seed in self.seeds
        ]

    # At equal cost: the same sources, targets and attacks, each attack with the steps that an allowance pays for.

    def for_curve(self) -> Plan:
        """This plan on the examples of its curve."""
        assert self.curve is not None
        return replace(self, data=self.data.sample(self.curve.limit), second_null=False)

    def curve_crafts(self) -> list[tuple[int, list[Craft]]]:
        """(allowance, the crafts on every shard) for each source, attack and seed. To be asked of the plan for it."""
        assert self.curve is not None
        return [
            (amount, [self.craft(source, affordable, self.threat, shard, seed) for shard in self.shards()])
            for source in self.sources
            for chosen in self.attacks_on(source)
            for amount in self.curve.amounts
            if (affordable := affording(chosen, self.curve.unit, amount, source)) is not None
            for seed in self.seeds
        ]

    def curve_units(self) -> list[Unit]:
        """What the curve needs; empty without one."""
        if self.curve is None:
            return []
        part = self.for_curve()
        crafts = [craft for _, of_shards in part.curve_crafts() for craft in of_shards]
        return part.units_of(crafts) if crafts else []

    def off_curve(self) -> list[str]:
        """Which attacks have no point on the curve at some allowances, and why."""
        if self.curve is None:
            return []
        curve, said = self.curve, []
        for chosen in self.attacks:
            for source in self.sources:
                missing = tuple(a for a in curve.amounts if affording(chosen, curve.unit, a, source) is None)
                if missing and self._unsuited(chosen, source) is None:
                    said.append(f"{chosen.label}: {why_not(chosen, curve.unit, missing, source)}")
        return list(dict.fromkeys(said))


def shards(data: Dataset) -> list[Dataset]:
    """The data in parts of at most `SHARD` examples."""
    n = len(data)
    if n <= SHARD:
        return [data]
    return [data.take(torch.arange(start, min(start + SHARD, n))) for start in range(0, n, SHARD)]
