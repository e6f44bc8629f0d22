"""Attackers at work on a model, by way of the store: what is there is not computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from carom.common.attacks.info import AttackChoice
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.problem import COUNTS, Status
from carom.common.core.threats import Threat
from carom.common.measure.cells import Spent
from carom.common.measure.rates import Bools, Verdict
from carom.common.study.plan import shards
from carom.common.work.answers import verdict_of
from carom.common.work.executor import Executor, Failure, Progress, inline
from carom.common.work.store import Store
from carom.common.work.units import NOTE, Clean, Craft, Judge, Unit

ATTACKERS = {
    "transfer": "crafted on a model without the defence: what an attacker gets who knows nothing of it",
    "same defence": "crafted on another model behind the same defence: what an attacker gets who has a copy",
    "adaptive": "crafted on the model itself, through all that stands before it",
    "query": "crafted by asking the model alone",
}
"""Who attacks. The first two are the attacker's value and no evidence of robustness: that they fail says little."""


@dataclass(frozen=True)
class Attacker:
    """One attack on one source, meant for a model that may be another."""

    kind: str  # of ATTACKERS
    source: Model
    chosen: AttackChoice


@dataclass(frozen=True)
class Attacked:
    """What a model answers to what an attacker crafted of n examples."""

    verdict: Verdict
    rows: pa.Table  # of the craft: status, success, notes, costs
    crafts: Sequence[Craft]
    seconds: float

    @property
    def spent(self) -> Spent:
        """By one example, on average."""
        means = {name: float(np.mean(self.rows[name].to_numpy())) for name in COUNTS}
        return Spent(**means, seconds=self.seconds / max(1, len(self.rows)))

    def noted(self, words: str) -> Bools:
        """bool[n]: of which examples an attack noted this; of none where it notes no such thing."""
        name = NOTE + words
        if name not in self.rows.column_names:
            return np.zeros(len(self.rows), np.bool_)
        return self.rows[name].to_numpy(zero_copy_only=False).astype(np.bool_)

    def ended(self, *status: Status) -> Bools:
        """bool[n]: which examples ended so."""
        return np.isin(self.rows["status"].to_numpy(), [int(one) for one in status])


@dataclass
class Bench:
    """Where attackers work: the store, and within what."""

    store: Store
    threat: Threat
    seed: int = 0
    batch: int = 64
    executor: Executor = inline
    progress: Progress | None = None
    failures: list[Failure] = field(default_factory=list)
    done: int = 0  # of the steps that `total` counts
    total: int = 1

    def step(self, what: str) -> None:
        """Say what comes next."""
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total, what)
        self.done += 1

    def compute(self, units: Sequence[Unit]) -> bool:
        """Compute what the store lacks; whether nothing failed."""
        failures = self.executor(units, self.store, self.batch, None)
        self.failures += failures
        return not failures

    def clean(self, model: Model, data: Dataset) -> Verdict:
        """What a model answers to clean examples."""
        judges = [Judge(model, Clean(shard), shard, f"{model.name} on clean inputs") for shard in shards(data)]
        self.compute(judges)
        return self._verdict(judges, data)

    def attacked(self, model: Model, by: Attacker, data: Dataset, threat: Threat | None = None) -> Attacked | None:
        """What a model answers to what an attacker crafts of the data; None where a unit of it failed."""
        bound = by.chosen.threat(self.threat if threat is None else threat)
        crafts = [Craft(by.source, by.chosen, bound, shard, self.seed) for shard in shards(data)]
        judges = [Judge(model, craft, craft.data, f"{model.name} on {craft.what}") for craft in crafts]
        if not self.compute([unit for pair in zip(crafts, judges, strict=True) for unit in pair]):
            return None
        rows = pa.concat_tables([self.store.rows(craft.key) for craft in crafts], promote_options="default")
        seconds = sum(self.store.seconds(craft.key) for craft in crafts)
        return Attacked(self._verdict(judges, data), rows, crafts, seconds)

    def _verdict(self, judges: Sequence[Judge], data: Dataset) -> Verdict:
        return verdict_of([self.store.rows(judge.key) for judge in judges], data.task, data.reference)


def some(data: Dataset, among: Bools, limit: int) -> tuple[Dataset | None, np.ndarray]:
    """(at most `limit` of the examples bool[n] that are meant, chosen by a hash of their ids; their rows int64[m])"""
    rows = np.flatnonzero(among)
    if not len(rows):
        return None, rows
    part = data.take(torch.from_numpy(rows))
    few = part.sample(limit)
    places = {name: at for at, name in enumerate(data.ids)}
    return few, np.array([places[name] for name in few.ids])
