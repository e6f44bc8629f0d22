"""The transfer evaluator: sources x attacks x targets on the same examples, with controls, intervals and warnings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from carom.common.builds import builds_of
from carom.common.curves import Curve, affording, why_not
from carom.common.data import Dataset
from carom.common.errors import CaromError
from carom.common.matching import Budget, Match, Matching, Search, search, together
from carom.common.metrics import Metric, summarised
from carom.common.modality import MODELS
from carom.common.models import Model, check_shape
from carom.common.problem import COUNTS, Access, Status
from carom.common.stats import Array, Bootstrap, excess, interval, wilson
from carom.common.store import Store
from carom.common.threats import Ball, Threat
from carom.common.units import NOTE, Chosen, Clean, Control, Craft, Judge, Size, Swapped, Unit, needed
from carom.common.within import success_within

SHARD = 256
"""Examples in one unit of work: what an interruption can cost. Part of every key, never of a result."""

PATIENCE = 0.05  # seconds between looks at units that are all in the hands of other processes

LEAST_EXAMPLES = 100  # below this a cell is marked: its interval is wider than most differences
LEAST_WHITE_BOX = 0.9  # below this the attack, not the target, may be what fails
MOST_CONTROL = 0.1  # above this the budget alone breaks the source
LEAST_SELF_EXCESS = 0.05  # below this relative transfer divides by nothing

MEASURES = (
    *("transfer", "control", "excess", "relative", "conditional", "same_mistake", "swapped", "white_box"),
    *("white_box_control", "targeted", "targeted_control"),
)
"""The rates of a cell."""

Progress = Callable[[int, int, str], None]
"""(units finished, units in all, what the current one is)"""


class Executor(Protocol):
    """Computes units that the store does not hold. The inline one below is the reference for all others, and what each
    of several processes runs (workers.py)."""

    def __call__(self, units: Sequence[Unit], store: Store, batch: int, progress: Progress | None) -> list[Failure]: ...


@dataclass(frozen=True)
class Failure:
    """A unit that could not be computed. Nothing of it is stored: the next run tries again."""

    what: str
    error: str


def inline(units: Sequence[Unit], store: Store, batch: int, progress: Progress | None = None) -> list[Failure]:
    """One unit after another in this process. What a failed craft would have fed is left out and named once.

    Units that another process on the same store is computing are passed over, and looked at again after the others.
    """
    failures, broken, left = [], set(), list(units)
    while left:
        open_keys, put_off = {unit.key for unit in left}, []
        for unit in left:
            needs = needed(unit)
            if needs is not None and needs.key in open_keys and not store.has(needs.key):
                put_off.append(unit)
                continue
            if progress is not None:
                progress(len(units) - len(open_keys), len(units), unit.what)
            if not store.has(unit.key) and not (needs is not None and needs.key in broken):
                with store.claim(unit.key) as mine:
                    if not mine:
                        put_off.append(unit)
                        continue
                    try:
                        if not store.has(unit.key):
                            unit.run(store, batch)
                    except CaromError:
                        raise
                    except Exception as error:
                        broken.add(unit.key)
                        failures.append(Failure(unit.what, f"{type(error).__name__}: {error}"))
            open_keys.discard(unit.key)
        if len(put_off) == len(left):
            time.sleep(PATIENCE)
        left = put_off
    if progress is not None:
        progress(len(units), len(units), "done")
    return failures


@dataclass(frozen=True)
class Plan:
    """What one modality's study asks for: every source with every attack it can run, every target."""

    modality: str
    sources: tuple[Model, ...]
    targets: tuple[Model, ...]
    attacks: tuple[Chosen, ...]
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

    def __post_init__(self) -> None:
        if self.controls < 1:
            raise CaromError("at least one control draw is needed; five or more give a steadier null.")
        if self.targeted and (aimless := [c.info.name for c in self.attacks if not c.info.targeted]):
            raise CaromError(f"attack {', '.join(aimless)} cannot be aimed at a class. Leave --targeted out.")
        for model in self.models:
            if model.modality != self.modality:
                raise CaromError(f"model {model.name} is for {model.modality}, this study is for {self.modality}.")
            if model.space != self.data.space:
                remedy = getattr(model.space, "remedy", "Convert the data, or choose a model made for it.")
                raise CaromError(
                    f"model {model.name} takes {_differs(model.space, self.data.space)}, the data {self.data.name} is "
                    f"{_differs(self.data.space, model.space)}. {remedy}"
                )
            if getattr(model, "shape", None) is not None and isinstance(self.data.stored, Tensor):
                check_shape(model, self.data.stored[:1])
            if model.classes != self.data.classes:
                raise CaromError(
                    f"model {model.name} knows {len(model.classes)} classes ({_some(model.classes)}), the data "
                    f"{self.data.name} has {len(self.data.classes)} ({_some(self.data.classes)}). Choose data and "
                    "models of the same classes in the same order, or pass classes=[...]."
                )
        names = [m.name for m in self.models]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise CaromError(f"two different models are called {', '.join(twice)}. Give one of them a name=...")
        if self.others is None and (hungry := [c.label for c in self.attacks if c.needs_others]):
            raise CaromError(
                f"attack {', '.join(hungry)} needs labelled examples that are not under attack: pass others=, for "
                "example others=load_data(..., split='train', limit=64)."
            )
        for source in self.sources:
            if not self.attacks_on(source):
                why = ", ".join(f"{c.info.name} {self._unsuited(c, source)}" for c in self.attacks)
                raise CaromError(
                    f"no chosen attack can run on {source.name}, which grants {_words(source.access)}: {why}. "
                    f"{_deaf(source)}See `carom list attacks --modality {self.modality}`."
                )

    @property
    def models(self) -> tuple[Model, ...]:
        """Targets, then sources that are not targets."""
        known = {m.digest for m in self.targets}
        return (*self.targets, *(s for s in self.sources if s.digest not in known))

    def attacks_on(self, source: Model) -> list[Chosen]:
        return [c for c in self.attacks if self._unsuited(c, source) is None]

    def left_out(self) -> list[dict[str, str]]:
        """Attacks that a source would let in, but whose build they do not suit: {"source", "attack", "why"} each."""
        pairs = [(source, c) for source in self.sources for c in self.attacks if c.runs_on(source)]
        found = [(source.name, chosen.label, self._unsuited(chosen, source)) for source, chosen in pairs]
        return [{"source": source, "attack": attack, "why": why} for source, attack, why in found if why is not None]

    def _unsuited(self, chosen: Chosen, source: Model) -> str | None:
        """Why an attack cannot run on a source; None if it can."""
        info = chosen.info
        if not chosen.runs_on(source):
            return f"needs {_words(info.needs)}"
        if info.models == "any" or info.models in self._builds(source):
            return None
        return f"works on {MODELS[info.models]}"

    def _builds(self, source: Model) -> set[str]:
        """Which kinds of network a source is, found out when an attack first asks."""
        known = self._known_builds
        if source.digest not in known:
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

    def craft(self, source: Model, chosen: Chosen, threat: Threat, shard: Dataset, seed: int) -> Craft:
        others = self.others if chosen.needs_others else None
        return Craft(source, chosen, chosen.threat(threat), shard, seed, self.targeted, others)

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

    def size(self, craft: Craft) -> Size:
        return Size(craft, tuple(m for m in self.metrics if m.missing() is None))

    def units(self) -> list[Unit]:
        """Everything to compute, in an order in which each unit finds what it needs; each key once."""
        return self.units_of(craft for shard in self.shards() for craft in self.crafts(shard))

    def units_of(self, crafts: Iterable[Craft]) -> list[Unit]:
        """The clean answers, these crafts and what is asked about them."""
        units: dict[str, Unit] = {}
        for shard in self.shards():
            for model in (m for m in self.models if not m.silent):
                clean = Judge(model, Clean(shard), shard, f"{model.name} on clean inputs")
                units.setdefault(clean.key, clean)
        for craft in crafts:
            units.setdefault(craft.key, craft)
            if self.metrics:
                size = self.size(craft)
                units.setdefault(size.key, size)
            for model in self.judged(craft):
                attacked, controls, swapped = self.judges(craft, model)
                for judge in (attacked, *controls, swapped):
                    units.setdefault(judge.key, judge)
        return list(units.values())

    # At equal white-box success: the same sources, targets and attacks, each attack with the budget found for it.

    def for_matching(self) -> Plan:
        """This plan on the examples and control draws of its matched comparison."""
        assert self.matching is not None
        controls = self.controls if self.matching.controls is None else self.matching.controls
        return replace(self, data=self.data.sample(self.matching.limit), controls=controls)

    def searches(self, store: Store) -> list[Search]:
        """One search for each attack on each source. Those whose crafts failed at the study's budget are left out."""
        assert self.matching is not None
        data, found = self.for_matching().data, []
        for first in self.crafts(self.shards()[0]):
            if first.seed == self.seeds[0] and store.has(first.key):

                def craft(budget: Budget, part: Dataset, first: Craft = first) -> Craft:
                    return replace(first, threat=first.chosen.threat(budget.threat), data=part)

                found.append(search(first.source, first.chosen, data, self.matching, store, shards, craft))
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
        return replace(self, data=self.data.sample(self.curve.limit))

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


def _deaf(source: Model) -> str:
    """Which members keep an ensemble from granting gradients."""
    members = getattr(source, "members", ())
    deaf = [m.name for m in members if Access.GRADIENT not in m.access]
    return f"Without {', '.join(deaf)} it would grant gradients. " if deaf and len(deaf) < len(members) else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _differs(space: object, other: object) -> str:
    """What a space has otherwise than another: "waveform with sample_rate 8000", or its own words for itself."""
    if type(space).__str__ is not object.__str__:
        return str(space)
    mine, theirs = vars(space), vars(other)
    return ", ".join([mine["name"], *(f"{k} {v}" for k, v in mine.items() if k != "name" and theirs.get(k) != v)])


def _words(access: Access) -> str:
    return " and ".join(access.words())


@dataclass(frozen=True)
class Answers:
    """What one model said about one artefact, over all shards."""

    answer: np.ndarray  # int64[n]
    margin: np.ndarray  # float64[n]: the label's logit minus the best other


@dataclass
class Transfer:
    """The outcome of a study of one modality."""

    plan: Plan
    store: Store
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    matches: list[Match] = field(default_factory=list)

    def _answers(self, judges: Sequence[Judge]) -> Answers | None:
        if not all(self.store.has(j.key) for j in judges):
            return None
        tables = [self.store.rows(j.key) for j in judges]
        columns = {name: np.concatenate([t[name].to_numpy() for t in tables]) for name in ("answer", "margin")}
        return Answers(columns["answer"], columns["margin"].astype(np.float64))

    def clean(self, model: Model) -> Answers | None:
        """The model's answers to the clean data."""
        return self._answers([Judge(model, Clean(s), s, "") for s in self.plan.shards()])

    def models(self) -> list[dict[str, Any]]:
        """One row a model: name, family, clean accuracy with its Wilson interval."""
        rows = []
        labels = self.plan.data.labels.numpy()
        sources = {m.digest for m in self.plan.sources}
        targets = {m.digest for m in self.plan.targets}
        for model in self.plan.models:
            answers = self.clean(model)
            right = None if answers is None else int((answers.answer == labels).sum())
            low, high = (None, None) if right is None else wilson(right, len(labels))
            both = model.digest in sources and model.digest in targets
            rows.append(
                {
                    "name": model.name,
                    "family": model.family.value,
                    "role": "both" if both else "source" if model.digest in sources else "target",
                    "clean_accuracy": None if right is None else right / len(labels),
                    "clean_low": low,
                    "clean_high": high,
                    "n": len(labels),
                    "digest": model.digest,
                    "facts": dict(model.facts),
                }
            )
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell: source x attack x seed x target. Rates that are not defined are None."""
        cells = [cell for cell, _ in self.resampled()]
        _warn_of_masking(cells)
        return cells

    def resampled(self) -> list[tuple[dict[str, Any], Array]]:
        """Each cell with its excess transfer in every resample of the examples, float64[B]. The resamples are the same
        for all cells, so intervals of means and differences of cells are paired."""
        bootstrap = Bootstrap.of(len(self.plan.data))
        by_shard = [list(self.plan.crafts(shard)) for shard in self.plan.shards()]
        budget = {"matched": None, "threat": self.plan.threat_label, "eps": self.plan.eps}
        return [cell for crafts in zip(*by_shard, strict=True) for cell in self._cells_of(crafts, bootstrap, budget)]

    def matched_rows(self) -> list[dict[str, Any]]:
        """The same at the budgets that bring each source to equal white-box success: `matched` says to which, `eps` and
        `threat` within what, `white_box` what was reached there, and `at_level` whether its interval holds the level.
        """
        if not self.matches:
            return []
        part = Transfer(self.plan.for_matching(), self.store)
        bootstrap, cells = Bootstrap.of(len(part.plan.data)), []
        for match in self.matches:
            budget = {"matched": match.level, "threat": match.budget.label, "eps": match.budget.eps}
            for crafts in part.plan.matched_crafts(match):
                for row, _ in part._cells_of(crafts, bootstrap, budget):
                    at_level = row["white_box_low"] <= match.level <= row["white_box_high"]
                    why = None if at_level else match.why(row["white_box"], row["white_box_high"])
                    cells.append({**row, "at_level": at_level, "why": why})
        return cells

    def curve_rows(self) -> list[dict[str, Any]]:
        """The cells at equal cost: `allowed` says how many of `unit` (gradients or queries) an example could spend;
        what was spent is in `backward` and `queries`."""
        if self.plan.curve is None:
            return []
        part, unit = Transfer(self.plan.for_curve(), self.store), self.plan.curve.unit
        bootstrap, cells = Bootstrap.of(len(part.plan.data)), []
        for amount, crafts in part.plan.curve_crafts():
            budget = {"matched": None, "threat": self.plan.threat_label, "eps": self.plan.eps}
            budget |= {"unit": unit, "allowed": amount}
            cells += [row for row, _ in part._cells_of(crafts, bootstrap, budget)]
        return cells

    def _cells_of(
        self, crafts: Sequence[Craft], bootstrap: Bootstrap, budget: Mapping[str, Any]
    ) -> list[tuple[dict[str, Any], Array]]:
        """The cells of one source, attack and seed, from its craft on every shard; each with its resampled excess."""
        craft, plan = crafts[0], self.plan
        if not all(self.store.has(c.key) for c in crafts):
            return []
        judged: dict[str, tuple[Answers, list[Answers], Answers]] = {}
        for model in plan.judged(craft):
            attacked, controls, swapped = zip(*(plan.judges(c, model) for c in crafts), strict=True)
            answers = [self._answers(a) for a in (attacked, *zip(*controls, strict=True), swapped)]
            if all(a is not None for a in answers):
                judged[model.digest] = (answers[0], answers[1:-1], answers[-1])  # type: ignore[assignment]
        table = pa.concat_tables([self.store.rows(c.key) for c in crafts])
        cost = {name: float(np.mean(table[name].to_numpy())) for name in COUNTS}
        cost["seconds"] = sum(self.store.seconds(c.key) for c in crafts) / len(plan.data)
        marks = np.bincount(table["status"].to_numpy(), minlength=len(Status))
        size = self._size(crafts)
        notes = {
            name.removeprefix(NOTE): int(np.sum(table[name].to_numpy(zero_copy_only=False)))
            for name in table.column_names
            if name.startswith(NOTE)
        }
        source_clean = self.clean(craft.source)
        own = judged.get(craft.source.digest)
        if (source_clean is None or own is None) and not craft.source.silent:
            return []
        goals = table["target"].to_numpy() if plan.targeted else None
        measure = _Measure(plan.data.labels.numpy(), goals, bootstrap, source_clean, own)
        rows = []
        for target in plan.targets:
            target_clean = self.clean(target)
            if target.digest not in judged or target_clean is None:
                continue
            rates, draws = measure.cell(target_clean, judged[target.digest])
            row: dict[str, Any] = {
                "source": craft.source.name,
                "target": target.name,
                "source_family": craft.source.family.value,
                "target_family": target.family.value,
                "attack": craft.chosen.label,
                **budget,
                "seed": craft.seed,
                **rates,
                **cost,
                "size": size,
            }
            row["warnings"] = self._warnings(row, craft, marks, notes)
            rows.append((row, draws))
        return rows

    def _size(self, crafts: Sequence[Craft]) -> dict[str, Any] | None:
        """How large the perturbations of a craft are; None where that was not measured."""
        sizes = [self.plan.size(craft) for craft in crafts]
        if not self.plan.metrics or not all(self.store.has(size.key) for size in sizes):
            return None
        return summarised(pa.concat_tables([self.store.rows(size.key) for size in sizes]).to_pydict())

    def _warnings(self, row: dict[str, Any], craft: Craft, marks: np.ndarray, notes: Mapping[str, int]) -> list[str]:
        found = []
        if craft.source.silent:
            found.append("what the source answered is not known: counted is all that the target gets right")
        elif craft.source.recorded:
            found.append(
                "the source is known by its recorded answers alone: it has no control, and E none to relate to"
            )
        white, null = row["white_box"], row["white_box_control"]
        if white is not None and white < LEAST_WHITE_BOX and not (row["matched"] or row.get("allowed")):
            found.append(f"white-box success is only {white:.2f}: low transfer may be the attack's failure")
        # Where the null follows what the attack changed, it is compared with the attack, not with a fixed share.
        most = MOST_CONTROL if isinstance(craft.threat, Ball) else (white or 0) / 2
        if null is not None and null > most:
            found.append(f"random perturbations of this budget already fool the source at {null:.2f}")
        if row["n"] < LEAST_EXAMPLES:
            found.append(f"only {row['n']} examples are right on both models")
        for status, words in (
            (Status.BAD_GRADIENT, "gave gradients or scores that are not finite"),
            (Status.NO_GRADIENT, "gave zero gradients"),
        ):
            if marks[status]:
                found.append(f"{marks[status]} examples {words} and were left unchanged")
        return [*found, *(f"{count} examples {words}" for words, count in notes.items() if count)]

    @property
    def cells(self) -> pa.Table:
        """The cells as a pyarrow table; those at equal white-box success have their level in the column `matched`,
        those at equal cost their allowance in `allowed`."""
        return table_of([*self.rows(), *self.matched_rows(), *self.curve_rows()])

    def to_pandas(self) -> Any:
        return self.cells.to_pandas()

    def matrix(self, measure: str = "excess", match: float | None = None) -> dict[str, dict[str, float | None]]:
        """{source: {target: value}}; several attacks on one source are told apart as "source / attack". With `match`,
        at that level of white-box success."""
        rows = self.rows() if match is None else [r for r in self.matched_rows() if r["matched"] == match]
        several = len({(r["source"], r["attack"], r["seed"]) for r in rows}) > len({r["source"] for r in rows})
        table: dict[str, dict[str, float | None]] = {}
        for row in rows:
            name = f"{row['source']} / {row['attack']} / {row['seed']}" if several else row["source"]
            table.setdefault(name, {})[row["target"]] = row[measure]
        return table

    def queries_curve(self, at: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Success on the source against queries, for each source, attack and seed whose answers are paid for: `points`
        with `queries`, `success` and its Wilson interval `low`, `high`, over the n examples that the source gets right
        when clean. `at` says within how many queries; by default 1, 2, 5, 10, 20 ... up to the most that were asked.
        """
        by_shard, curves = [list(self.plan.crafts(shard)) for shard in self.plan.shards()], []
        for crafts in zip(*by_shard, strict=True):
            clean = self.clean(crafts[0].source)
            if clean is None or not all(self.store.has(craft.key) for craft in crafts):
                continue
            tables = [self.store.rows(craft.key).select(["queries", "success"]) for craft in crafts]
            table = pa.concat_tables(tables)
            right = clean.answer == self.plan.data.labels.numpy()
            queries, success = (table[name].to_numpy()[right] for name in ("queries", "success"))
            if queries.any():
                curves.append(
                    {
                        "source": crafts[0].source.name,
                        "attack": crafts[0].chosen.label,
                        "threat": self.plan.threat_label,
                        "eps": self.plan.eps,
                        "seed": crafts[0].seed,
                        "n": len(queries),
                        "points": [asdict(share) for share in success_within(queries, success, at)],
                    }
                )
        return curves

    def summary(self) -> dict[str, Any]:
        """What `--json` prints of one modality."""
        return {
            "data": self.plan.data.name,
            "data_digest": self.plan.data.digest,
            "examples": len(self.plan.data),
            "skipped": list(self.plan.data.skipped),
            "left_out": self.plan.left_out(),
            "classes": list(self.plan.data.classes),
            "threat": self.plan.threat_label,
            "targeted": self.plan.targeted,
            "models": self.models(),
            "metrics": [
                {
                    **{name: getattr(m, name) for name in ("name", "label", "summary", "reference")},
                    "missing": m.missing(),
                }
                for m in self.plan.metrics
            ],
            "cells": self.rows(),
            "matched": self._matched(),
            "curve": self._curve(),
            "queries": self.queries_curve(),
            "failures": [{"what": f.what, "error": f.error} for f in self.failures],
            "seconds": round(self.seconds, 2),
        }

    def _matched(self) -> dict[str, Any] | None:
        """What `--json` prints of the comparison at equal white-box success; None if it was not asked for."""
        if self.plan.matching is None:
            return None
        plan = self.plan.for_matching()
        return {
            "levels": list(self.plan.matching.levels),
            "weakest": self.plan.matching.scale[0].label,
            "cap": self.plan.matching.scale[-1].label,
            "examples": len(plan.data),
            "controls": plan.controls,
            "searched": max((match.searched for match in self.matches), default=0),
            "cells": self.matched_rows(),
        }

    def _curve(self) -> dict[str, Any] | None:
        """What `--json` prints of the comparison at equal cost; None if it was not asked for."""
        curve = self.plan.curve
        if curve is None:
            return None
        return {
            "unit": curve.unit,
            "amounts": list(curve.amounts),
            "examples": len(self.plan.for_curve().data),
            "left_out": self.plan.off_curve(),
            "cells": self.curve_rows(),
        }

    def report(self, path: Path | str) -> None:
        """Write this modality's report: one HTML file."""
        from carom.common.run import write_run_report

        write_run_report([self], Path(path))


@dataclass(frozen=True)
class _Measure:
    """The measures of one source, attack and seed; `cell` applies them to a target."""

    labels: np.ndarray
    goals: np.ndarray | None  # target classes, when targeted
    bootstrap: Bootstrap
    # Of a source that is only known by its log: None where it is silent, and without controls.
    source_clean: Answers | None
    source_judged: tuple[Answers, list[Answers], Answers] | None

    def _null(self, controls: list[Answers]) -> Array:
        """float64[n]: the share of control draws that flip each example; NaN without controls."""
        unknown = np.full(len(self.labels), np.nan)
        return np.mean([c.answer != self.labels for c in controls], axis=0) if controls else unknown

    def cell(
        self, target_clean: Answers, judged: tuple[Answers, list[Answers], Answers]
    ) -> tuple[dict[str, Any], Array]:
        """Rates over J, the examples that source and target both get right when clean; and E in every resample."""
        attacked, controls, swapped = judged
        on_source, source_controls, _ = self.source_judged or (None, [], None)
        unknown = np.full(len(self.labels), np.nan)
        right = np.ones(len(self.labels))
        if self.source_clean is not None:
            right = (self.source_clean.answer == self.labels).astype(np.float64)
        among = right * (target_clean.answer == self.labels)
        n = int(among.sum())
        fooled = (attacked.answer != self.labels).astype(np.float64)
        null = self._null(controls)
        source_fooled = unknown if on_source is None else (on_source.answer != self.labels).astype(np.float64)
        same = unknown if on_source is None else (attacked.answer == on_source.answer).astype(np.float64)
        source_null = self._null(source_controls)

        def share(values: Array, given: Array) -> float | None:
            value = float((values * given).sum() / given.sum()) if given.sum() else np.nan
            return None if np.isnan(value) else value

        transfer, control = share(fooled, among), share(null, among)
        low, high = wilson(float((fooled * among).sum()), n)
        draws_t, draws_n = self.bootstrap.shares(fooled, among), self.bootstrap.shares(null, among)
        draws_e = np.asarray(excess(draws_t, draws_n))
        gain = _gain(transfer, control)
        own_gain = _gain(share(source_fooled, among), share(source_null, among))
        relative, relative_draws = None, np.full(1, np.nan)
        if gain is not None and own_gain is not None and own_gain >= LEAST_SELF_EXCESS:
            relative = gain / own_gain
            own_draws = excess(self.bootstrap.shares(source_fooled, among), self.bootstrap.shares(source_null, among))
            with np.errstate(invalid="ignore", divide="ignore"):
                relative_draws = draws_e / np.asarray(own_draws)
        both = among * fooled
        row: dict[str, Any] = {
            "n": n,
            "transfer": transfer,
            "transfer_low": low if n else None,
            "transfer_high": high if n else None,
            "control": control,
            **_bounds("control", interval(draws_n)),
            "excess": gain,
            **_bounds("excess", interval(draws_e)),
            "relative": relative,
            **_bounds("relative", interval(relative_draws)),
            "conditional": share(fooled, among * source_fooled),
            "conditional_n": 0 if on_source is None else int((among * source_fooled).sum()),
            "same_mistake": share(same, both),
            "swapped": share((swapped.answer != self.labels).astype(np.float64), among),
            "margin_drop": share(target_clean.margin - attacked.margin, among),
            "white_box": share(source_fooled, right),
            **_bounds(
                "white_box",
                wilson(float((source_fooled * right).sum()), int(right.sum()))
                if right.any() and on_source is not None
                else None,
            ),
            "white_box_n": 0 if on_source is None else int(right.sum()),
            "white_box_control": share(source_null, right),
            "targeted": None,
            "targeted_control": None,
        }
        if self.goals is not None:
            hit = (attacked.answer == self.goals).astype(np.float64)
            row["targeted"] = share(hit, among)
            row["targeted_control"] = share(np.mean([c.answer == self.goals for c in controls], axis=0), among)
        return row, draws_e


def _warn_of_masking(cells: Sequence[dict[str, Any]]) -> None:
    """An attack that has the model should not do worse than the same attack without it: where what was crafted on
    another model fools it more often, beyond both intervals, its gradients mislead."""
    for own in cells:
        if own["source"] == own["target"] and own["white_box_high"] is not None:
            for other in cells:
                same = all(own[key] == other[key] for key in ("target", "attack", "seed"))
                if same and other["source"] != own["source"] and (other["transfer_low"] or 0) > own["white_box_high"]:
                    said = f"the same attack on {other['source']} fools this model more often than on itself"
                    own["warnings"].append(f"{said}: its gradients may be masked")


def _gain(transfer: float | None, control: float | None) -> float | None:
    """Excess transfer; None where it is not defined."""
    if transfer is None or control is None:
        return None
    value = float(excess(transfer, control))
    return value if np.isfinite(value) else None


def _bounds(name: str, found: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = found or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def evaluate(
    plan: Plan, store: Store, batch: int = 64, executor: Executor = inline, progress: Progress | None = None
) -> Transfer:
    """Compute what the store does not hold yet, and hand over the outcome."""
    started = time.perf_counter()
    outcome = Transfer(plan, store, executor(plan.units(), store, batch, progress))
    if plan.matching is not None:

        def execute(units: list[Unit]) -> None:
            if progress is not None:
                progress(0, 1, "searching budgets of equal white-box success")
            outcome.failures += executor(units, store, batch, None)

        outcome.matches = list(together(plan.searches(store), execute))
        part = plan.for_matching()
        crafts = [c for match in outcome.matches for of_seed in part.matched_crafts(match) for c in of_seed]
        outcome.failures += executor(part.units_of(crafts) if crafts else [], store, batch, progress)
    if units := plan.curve_units():
        outcome.failures += executor(units, store, batch, progress)
    outcome.seconds = time.perf_counter() - started
    return outcome


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a study and of its comparisons as one table: a column that some rows lack is null there, and what is
    nested in a row becomes columns of its own: `size_ssim_mean`."""
    flat = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in flat])


def _flat(row: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{head}{name}_")
        else:
            yield f"{head}{name}", value
