"""The transfer evaluator: sources x attacks x targets on the same examples, with controls, intervals and warnings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from carom.common.data import Dataset
from carom.common.errors import CaromError
from carom.common.models import Model
from carom.common.problem import Access, Status
from carom.common.stats import Array, Bootstrap, excess, interval, wilson
from carom.common.store import Store
from carom.common.threats import Ball, Threat
from carom.common.units import Chosen, Clean, Control, Craft, Judge, Swapped, Unit

SHARD = 256
"""Examples in one unit of work: what an interruption can cost. Part of every key, never of a result."""

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
    """Computes units that the store does not hold. The inline one below is the reference for all others."""

    def __call__(self, units: Sequence[Unit], store: Store, batch: int, progress: Progress | None) -> list[Failure]: ...


@dataclass(frozen=True)
class Failure:
    """A unit that could not be computed. Nothing of it is stored: the next run tries again."""

    what: str
    error: str


def inline(units: Sequence[Unit], store: Store, batch: int, progress: Progress | None = None) -> list[Failure]:
    """One unit after another in this process. What a failed craft would have fed is left out and named once."""
    failures, broken = [], set()
    for done, unit in enumerate(units):
        if progress is not None:
            progress(done, len(units), unit.what)
        if store.has(unit.key):
            continue
        needs = unit.artefact.needs if isinstance(unit, Judge) else None
        if needs is not None and needs.key in broken:
            continue
        try:
            unit.run(store, batch)
        except CaromError:
            raise
        except Exception as error:
            broken.add(unit.key)
            failures.append(Failure(unit.what, f"{type(error).__name__}: {error}"))
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

    def __post_init__(self) -> None:
        if self.controls < 1:
            raise CaromError("at least one control draw is needed; five or more give a steadier null.")
        for model in self.models:
            if model.modality != self.modality:
                raise CaromError(f"model {model.name} is for {model.modality}, this study is for {self.modality}.")
            if model.space != self.data.space:
                raise CaromError(
                    f"model {model.name} takes {_differs(model.space, self.data.space)}, the data {self.data.name} is "
                    f"{_differs(self.data.space, model.space)}. Convert the data, or choose a model made for it."
                )
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
        for source in self.sources:
            if not self.attacks_on(source):
                kinds = ", ".join(f"{c.info.name} needs {_words(c.info.needs)}" for c in self.attacks)
                raise CaromError(
                    f"no chosen attack can run on {source.name}, which grants {_words(source.access)}: {kinds}. "
                    f"See `carom list attacks --modality {self.modality}`."
                )

    @property
    def models(self) -> tuple[Model, ...]:
        """Targets, then sources that are not targets."""
        known = {m.digest for m in self.targets}
        return (*self.targets, *(s for s in self.sources if s.digest not in known))

    def attacks_on(self, source: Model) -> list[Chosen]:
        return [c for c in self.attacks if c.info.needs in source.access]

    def shards(self) -> list[Dataset]:
        import torch

        n = len(self.data)
        if n <= SHARD:
            return [self.data]
        return [self.data.take(torch.arange(start, min(start + SHARD, n))) for start in range(0, n, SHARD)]

    def crafts(self, shard: Dataset) -> Iterable[Craft]:
        for source in self.sources:
            for chosen in self.attacks_on(source):
                for seed in self.seeds:
                    yield Craft(source, chosen, chosen.info.threat(self.threat), shard, seed, self.targeted)

    def judged(self, craft: Craft) -> list[Model]:
        """The targets and, for its white-box success, the source itself."""
        known = {m.digest for m in self.targets}
        return [*self.targets, *([craft.source] if craft.source.digest not in known else [])]

    def judges(self, craft: Craft, model: Model) -> tuple[Judge, list[Judge], Judge]:
        """(on the adversarial inputs, on each control, on the swapped perturbations)"""
        name = model.name
        attacked = Judge(model, craft, craft.data, f"{name} on {craft.what}")
        controls = [
            Judge(model, Control(craft, k), craft.data, f"{name} on controls of {craft.what}")
            for k in range(self.controls)
        ]
        return attacked, controls, Judge(model, Swapped(craft), craft.data, f"{name} on swapped {craft.what}")

    def units(self) -> list[Unit]:
        """Everything to compute, in an order in which each unit finds what it needs; each key once."""
        units: dict[str, Unit] = {}
        for shard in self.shards():
            for model in self.models:
                clean = Judge(model, Clean(shard), shard, f"{model.name} on clean inputs")
                units.setdefault(clean.key, clean)
        for shard in self.shards():
            for craft in self.crafts(shard):
                units.setdefault(craft.key, craft)
                for model in self.judged(craft):
                    attacked, controls, swapped = self.judges(craft, model)
                    for judge in (attacked, *controls, swapped):
                        units.setdefault(judge.key, judge)
        return list(units.values())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _differs(space: object, other: object) -> str:
    """What a space has otherwise than another: "waveform with sample_rate 8000"."""
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
                }
            )
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell: source x attack x seed x target. Rates that are not defined are None."""
        bootstrap = Bootstrap.of(len(self.plan.data))
        by_shard = [list(self.plan.crafts(shard)) for shard in self.plan.shards()]
        cells = []
        for crafts in zip(*by_shard, strict=True):
            cells += self._cells_of(crafts, bootstrap)
        return cells

    def _cells_of(self, crafts: tuple[Craft, ...], bootstrap: Bootstrap) -> list[dict[str, Any]]:
        """The cells of one source, attack and seed, from its craft on every shard."""
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
        cost = {name: float(np.mean(table[name].to_numpy())) for name in ("forward", "backward", "queries")}
        cost["seconds"] = sum(self.store.seconds(c.key) for c in crafts) / len(plan.data)
        marks = np.bincount(table["status"].to_numpy(), minlength=len(Status))
        source_clean = self.clean(craft.source)
        own = judged.get(craft.source.digest)
        if source_clean is None or own is None:
            return []
        goals = table["target"].to_numpy() if plan.targeted else None
        measure = _Measure(plan.data.labels.numpy(), goals, bootstrap, source_clean, own)
        rows = []
        for target in plan.targets:
            target_clean = self.clean(target)
            if target.digest not in judged or target_clean is None:
                continue
            row: dict[str, Any] = {
                "source": craft.source.name,
                "target": target.name,
                "source_family": craft.source.family.value,
                "target_family": target.family.value,
                "attack": craft.chosen.label,
                "threat": plan.threat_label,
                "seed": craft.seed,
                **measure.cell(target_clean, judged[target.digest]),
                **cost,
            }
            row["warnings"] = self._warnings(row, craft, marks)
            rows.append(row)
        return rows

    def _warnings(self, row: dict[str, Any], craft: Craft, marks: np.ndarray) -> list[str]:
        found = []
        white, null = row["white_box"], row["white_box_control"]
        if white is not None and white < LEAST_WHITE_BOX:
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
        return found

    @property
    def cells(self) -> pa.Table:
        """The cells as a pyarrow table."""
        return pa.Table.from_pylist(self.rows())

    def to_pandas(self) -> Any:
        return self.cells.to_pandas()

    def matrix(self, measure: str = "excess") -> dict[str, dict[str, float | None]]:
        """{source: {target: value}}; several attacks on one source are told apart as "source / attack"."""
        rows = self.rows()
        several = len({(r["source"], r["attack"], r["seed"]) for r in rows}) > len({r["source"] for r in rows})
        table: dict[str, dict[str, float | None]] = {}
        for row in rows:
            name = f"{row['source']} / {row['attack']} / {row['seed']}" if several else row["source"]
            table.setdefault(name, {})[row["target"]] = row[measure]
        return table

    def summary(self) -> dict[str, Any]:
        """What `--json` prints of one modality."""
        return {
            "data": self.plan.data.name,
            "data_digest": self.plan.data.digest,
            "examples": len(self.plan.data),
            "skipped": list(self.plan.data.skipped),
            "classes": list(self.plan.data.classes),
            "threat": self.plan.threat_label,
            "targeted": self.plan.targeted,
            "models": self.models(),
            "cells": self.rows(),
            "failures": [{"what": f.what, "error": f.error} for f in self.failures],
            "seconds": round(self.seconds, 2),
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
    source_clean: Answers
    source_judged: tuple[Answers, list[Answers], Answers]

    def _null(self, controls: list[Answers]) -> Array:
        """float64[n]: the share of control draws that flip each example."""
        return np.mean([c.answer != self.labels for c in controls], axis=0)

    def cell(self, target_clean: Answers, judged: tuple[Answers, list[Answers], Answers]) -> dict[str, Any]:
        """Rates over J, the examples that source and target both get right when clean."""
        attacked, controls, swapped = judged
        on_source, source_controls, _ = self.source_judged
        right_source = self.source_clean.answer == self.labels
        among = (right_source & (target_clean.answer == self.labels)).astype(np.float64)
        n = int(among.sum())
        fooled = (attacked.answer != self.labels).astype(np.float64)
        null = self._null(controls)
        source_fooled = (on_source.answer != self.labels).astype(np.float64)
        source_null = self._null(source_controls)

        def share(values: Array, given: Array) -> float | None:
            return float((values * given).sum() / given.sum()) if given.sum() else None

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
            "conditional_n": int((among * source_fooled).sum()),
            "same_mistake": share((attacked.answer == on_source.answer).astype(np.float64), both),
            "swapped": share((swapped.answer != self.labels).astype(np.float64), among),
            "margin_drop": share(target_clean.margin - attacked.margin, among),
            "white_box": share(source_fooled, right_source.astype(np.float64)),
            "white_box_control": share(source_null, right_source.astype(np.float64)),
            "targeted": None,
            "targeted_control": None,
        }
        if self.goals is not None:
            hit = (attacked.answer == self.goals).astype(np.float64)
            row["targeted"] = share(hit, among)
            row["targeted_control"] = share(np.mean([c.answer == self.goals for c in controls], axis=0), among)
        return row


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
    failures = executor(plan.units(), store, batch, progress)
    return Transfer(plan, store, failures, time.perf_counter() - started)
