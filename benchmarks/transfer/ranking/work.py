"""What the ranking computes, in its order: tuning, the two halves, and the tables beside them. All of it goes through the
store, so that the same command goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import click
import numpy as np

from carom.benchmarks.transfer.ranking.rules import (
    BLOCK,
    BLOCKS,
    CONFIGURATIONS,
    DATA,
    EPS,
    HALF,
    HALVES,
    SOURCES,
    TUNING,
    ZOO,
    as_published,
    choice,
    dearer,
    fewer,
    split,
)
from carom.common.api import load_data, load_model
from carom.common.attacks.info import AttackChoice
from carom.common.base.errors import CaromError
from carom.common.base.specs import split_parameters
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.measure.cells import Cell
from carom.common.measure.stats import Array
from carom.common.modality.installed import get_modality
from carom.common.study.attacker_data import others_for
from carom.common.study.outcome import Transfer
from carom.common.study.plan import Plan
from carom.common.work.executor import Failure, inline
from carom.common.work.store import Store


@dataclass(frozen=True)
class Resampled:
    """One source, attack and target, on one part of the images: for tuning, few, or a block of a half."""

    cell: Cell
    draws: Array  # float64[B]: excess transfer in every resample
    part: str = ""

    @property
    def attack(self) -> str:
        """Its name, without parameters."""
        return split_parameters(self.cell.attack)[0]

    @property
    def half(self) -> str:
        return self.part.partition("-")[0]

    @property
    def excess(self) -> float | None:
        return self.cell.rates.excess.value

    @property
    def place(self) -> tuple[str, str, str]:
        """Where it is compared with other attacks' cells."""
        return self.cell.source, self.cell.target, self.part


@dataclass(frozen=True)
class Work:
    """The models, the images and the store."""

    zoo: Mapping[str, Model]
    parts: Mapping[str, Dataset]  # tuning, few and the blocks
    others: Dataset
    store: Store
    batch: int

    @classmethod
    def of(cls, store: Store, batch: int) -> Work:
        everything = load_data(DATA, limit=TUNING + 2 * HALF, modality="image")
        parts = split(everything)
        others = others_for(everything, lambda name, most: load_data(DATA, name, most, "image"), "test")
        parts["few"] = fewer(parts["first-1"])
        return cls({name: load_model(f"zoo:image-cifar-{name}") for name in ZOO}, parts, others, store, batch)

    def plan(self, source: str, attacks: Sequence[AttackChoice], part: str) -> Plan:
        """The attacks that suit the source, on one part of the images, shown to the whole zoo."""
        return Plan(
            modality="image",
            sources=(self.zoo[source],),
            targets=tuple(self.zoo.values()),
            attacks=tuple(attacks),
            data=self.parts[part],
            threat=get_modality("image").threats["linf"](8 / 255),
            threat_label=f"linf {EPS}",
            eps=8 / 255,
            others=self.others,
            second_null=False,
        )

    def cells(self, plan: Plan, part: str) -> tuple[list[Resampled], list[Failure]]:
        """Everything of the plan that the store lacks, then its cells but the source's own."""
        failures, began = [], time.perf_counter()
        crafts = [craft for shard in plan.shards() for craft in plan.crafts(shard)]
        for done, craft in enumerate(crafts):
            try:
                failures += inline(plan.units_of([craft]), self.store, self.batch)
            except CaromError as error:
                failures.append(Failure(craft.what, str(error)))
            spent = time.perf_counter() - began
            click.echo(
                f"{part} [{done + 1}/{len(crafts)}] {spent:6.0f} s {craft.chosen.label} on {craft.source.name}",
                err=True,
            )
        found = Transfer(plan, self.store).resampled()
        place = list(self.parts).index(part)  # blocks are resampled independently of each other
        return [Resampled(cell, np.roll(draws, place), part) for cell, draws in found if not cell.own], failures


def tuning(work: Work) -> Iterator[tuple[list[Resampled], list[Failure]]]:
    """Every configuration on the first source that it suits."""
    done: set[str] = set()
    for source in SOURCES:
        specs = [choice(spec) for name, of in CONFIGURATIONS.items() if name not in done for spec in of]
        found = work.cells(work.plan(source, specs, "tuning"), "tuning")
        done |= {cell.attack for cell in found[0]}
        yield found


def reported(work: Work, chosen: Mapping[str, str]) -> Iterator[tuple[list[Resampled], list[Failure]]]:
    """The tuned configurations on both halves, block by block."""
    for number, source, half in product(range(HALF // BLOCK), SOURCES, HALVES):
        if number >= BLOCKS[source]:
            continue
        part = f"{half}-{number + 1}"
        yield work.cells(work.plan(source, [choice(spec) for spec in chosen.values()], part), part)


def published(work: Work) -> tuple[list[Resampled], list[Failure]]:
    """Every attack as its paper runs it, on a few images."""
    return work.cells(
        work.plan(SOURCES[0], [as_published(name) for name in CONFIGURATIONS if name != "rap"], "few"), "few"
    )


def dear(work: Work, chosen: Mapping[str, str]) -> tuple[list[Resampled], list[Failure]]:
    """A dozen tuned attacks at 1,000 gradients, on a few images."""
    specs = [choice(spec) for spec in (dearer(spec) for spec in chosen.values()) if spec is not None]
    return work.cells(work.plan(SOURCES[0], specs, "few"), "few")
