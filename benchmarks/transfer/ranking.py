"""Transfer attacks on the CIFAR-10 zoo at equal cost: docs/ranking.md, and the numbers behind it.

    python -m carom.benchmarks.transfer.ranking --json > benchmarks/results/ranking.json
    python -m carom.benchmarks.transfer.ranking --render > docs/ranking.md
    python -m carom.benchmarks.transfer.ranking --draw > docs/ranking.svg

Every attack gets as many gradient evaluations per image as every other: 10, or 50, counted by its own Result; for an
ensemble, over its members. Steps are a tenth of the radius, or longer where ten do not fit, unless an attack's paper
has a length of its own for it (RAP, DEM, CWA): more steps then pay for the way back and forth at the rim of the ball
instead of for shorter ones. Attacks that average over random copies or neighbours get one a step, in as many steps as
that pays for, which serves them better than more of them in ten steps; SSA, BSR and SIA stand there in both ways, and
MI-FGSM with shorter steps too.

The images are a part of `builtin:cifar-10-sample`; Admix mixes in others of it. Excess transfer, its control and its
intervals are the evaluator's (carom.common.study.outcome). An attack whose outcome does not depend on the seed is crafted
once and measured against the controls of every seed. What is finished lies in the store: the same command goes on where
it was stopped.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from carom.benchmarks.records import rounded
from carom.benchmarks.transfer.ranking_chart import chart
from carom.benchmarks.transfer.ranking_table import BASELINES, document
from carom.common.api import load_data, load_model
from carom.common.attacks.gradient.ascent import climb_of, with_climb
from carom.common.attacks.info import AttackChoice
from carom.common.base.errors import CaromError
from carom.common.base.memory import keep_freed_memory
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.measure.cells import Cell
from carom.common.measure.stats import Array, interval
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.common.study.attacker_data import others_for
from carom.common.study.outcome import Transfer
from carom.common.study.plan import Plan
from carom.common.work.executor import Failure, inline
from carom.common.work.store import Store
from carom.common.work.units import Craft

RESULTS = Path(__file__).parents[1] / "results"
DATA = "builtin:cifar-10-sample"
EPS = "8/255"
ZOO = ("resnet", "vgg", "gru", "vit", "mixer", "forest")
SOURCES = ("zoo:image-cifar-resnet", "zoo:image-cifar-vgg", "zoo:image-cifar-vit")
ENSEMBLE = "ensemble:zoo:image-cifar-resnet+zoo:image-cifar-vit"

CHEAP = (
    *("bim", "mi-fgsm", "ni-fgsm", "pregradient-fgsm", "di-fgsm", "ti-fgsm", "di-ti-mi-fgsm"),
    *("sgm", "linbp", "ghost", "pna", "tgr"),
)
"""Attacks of one gradient a step."""

ALLOCATED: Mapping[int, tuple[str, ...]] = {
    10: tuple(f"{name}?steps=10" for name in CHEAP),
    50: (
        *(f"{name}?steps=50" for name in CHEAP),
        "mi-fgsm?steps=50&size=0.02",
        "emi-fgsm?steps=11&samples=5",
        *(f"{name}?steps=25&samples=1" for name in ("vmi-fgsm", "vni-fgsm", "gra", "pgn")),
        "rap?steps=8&inner=7",
        "si-ni-fgsm?steps=10&samples=5",
        "si-ni-ti-di-fgsm?steps=10&samples=5",
        "dem?steps=10",
        "admix?steps=10&mixes=1&samples=5",
        *(f"{name}?steps=50&samples=1" for name in ("ssa", "bsr", "sia", "warp")),
        *(f"{name}?steps=10&samples=5" for name in ("ssa", "bsr", "sia")),
        *(f"{name}?steps=20&samples=30" for name in ("fia", "naa")),
        "ila?steps=25&first=25",
    ),
}
"""Gradients per image -> the attacks on one source."""

DEARER: Mapping[str, Mapping[str, str]] = {
    "zoo:image-cifar-resnet": {"linbp?steps=10": "linbp?steps=3", "linbp?steps=50": "linbp?steps=16"},
}
"""Source -> attacks whose steps cost more than a gradient on it, in as many steps as they pay for: LinBP goes back through
residual branches three times."""

TOGETHER: Mapping[int, tuple[str, ...]] = {
    50: (
        *(f"{name}?steps=25" for name in ("bim", "mi-fgsm", "di-fgsm")),
        "svre?steps=5&inner=3",
        "cwa?steps=12",
        "adaea?steps=12",
        "lgv?steps=50",
    ),
}
"""Gradients per image, over both members -> the attacks on the ensemble."""

OWN_LENGTH = ("rap", "dem", "cwa", "lgv")
"""Attacks with steps of a length of their own."""


def allocated(spec: str) -> AttackChoice:
    """The attack, its steps a tenth of the radius or longer, unless it has a length of its own."""
    chosen = choose_attack(get_modality("image"), spec, "linf")
    climb = climb_of(chosen.attack)
    if climb is None or chosen.info.name in OWN_LENGTH or "size" in chosen.parameters:
        return chosen
    return replace(chosen, attack=with_climb(chosen.attack, replace(climb, size=max(0.1, 1 / climb.steps))))


def plans(data: Dataset, others: Dataset, seeds: Sequence[int]) -> list[tuple[int, Plan]]:
    """(gradients per image, what to compute): the zoo's networks at both allowances, and the ensemble."""
    targets = {f"image-cifar-{name}": load_model(f"zoo:image-cifar-{name}") for name in ZOO}
    single = {spec: targets[spec.partition(":")[2]] for spec in SOURCES}
    asked = [
        *((spec, model, ALLOCATED) for spec, model in single.items()),
        (ENSEMBLE, load_model(ENSEMBLE), TOGETHER),
    ]
    return [
        (amount, plan_of(source, tuple(targets.values()), [paid(spec, name) for spec in specs], data, others, seeds))
        for name, source, by_amount in asked
        for amount, specs in by_amount.items()
    ]


def paid(attack: str, source: str) -> str:
    """The attack in as many steps as the allowance pays for on a source."""
    return DEARER.get(source, {}).get(attack, attack)


def asked_for(ran: str) -> str:
    """The attack that ran in fewer steps than elsewhere, by the name that it has in the tables."""
    return next((asked for fewer in DEARER.values() for asked, spec in fewer.items() if spec == ran), ran)


def plan_of(
    source: Model,
    targets: tuple[Model, ...],
    specs: Sequence[str],
    data: Dataset,
    others: Dataset,
    seeds: Sequence[int],
) -> Plan:
    modality = get_modality("image")
    threat = modality.threats["linf"](8 / 255)
    chosen = tuple(allocated(spec) for spec in specs)
    return Plan(
        modality="image",
        sources=(source,),
        targets=targets,
        attacks=chosen,
        data=data,
        threat=threat,
        threat_label=f"linf {EPS}",
        seeds=tuple(seeds),
        eps=8 / 255,
        others=others,
    )


def compute(found: Sequence[tuple[int, Plan]], store: Store, batch: int) -> list[Failure]:
    """Everything that the store lacks, all attacks with one seed before any with the next."""
    crafts = [(plan, craft) for _, plan in found for shard in plan.shards() for craft in plan.crafts(shard)]
    failures, began = [], time.perf_counter()
    for done, (plan, craft) in enumerate(sorted(crafts, key=lambda pair: pair[1].seed)):
        if not craft.chosen.info.random:
            copied(replace(craft, seed=plan.seeds[0]), craft, store)
        try:
            failures += inline(plan.units_of([craft]), store, batch)
        except CaromError as error:  # not for this source: LinBP where no ReLU lies behind its layer
            failures.append(Failure(craft.what, str(error)))
        spent = time.perf_counter() - began
        click.echo(f"[{done + 1}/{len(crafts)}] {spent:6.0f} s {craft.what}, seed {craft.seed}", err=True)
    return failures


def copied(first: Craft, craft: Craft, store: Store) -> None:
    """What was crafted with the first seed, under another: for attacks that come out the same whatever it is."""
    if store.has(first.key) and not store.has(craft.key):
        store.commit(craft.key, store.rows(first.key), store.tensors(first.key), store.seconds(first.key))


# From cells to the table: means over seeds and over pairs of models, and differences on the same cells.


@dataclass(frozen=True)
class Resampled:
    """One source, attack, allowance, seed and target."""

    allowed: int
    cell: Cell
    draws: Array  # float64[B]: excess transfer in every resample

    @property
    def attack(self) -> str:
        return self.cell.attack

    @property
    def excess(self) -> float | None:
        return self.cell.rates.excess.value

    @property
    def place(self) -> tuple[str, str, int]:
        """Where it is compared with other attacks' cells."""
        return self.cell.source, self.cell.target, self.cell.seed

    @property
    def sources(self) -> str:
        """The kind of source that it counts to."""
        return "ensemble" if "+" in self.cell.source else self.cell.source_family


def cells_of(found: Sequence[tuple[int, Plan]], store: Store) -> Iterator[Resampled]:
    """All cells but those of a source, or a member of one, as its own target."""
    for allowed, plan in found:
        for cell, draws in Transfer(plan, store).resampled():
            if cell.target not in cell.source.split("+"):
                yield Resampled(allowed, replace(cell, attack=asked_for(cell.attack)), draws)


def estimate(cells: Sequence[Resampled]) -> dict[str, float | int | None]:
    """Mean excess transfer over cells, with its 95 % interval over the images."""
    known = [cell for cell in cells if cell.excess is not None]
    if not known:
        return {"excess": None, "low": None, "high": None, "cells": 0}
    bounds = interval(np.mean([cell.draws for cell in known], axis=0))
    low, high = bounds or (None, None)
    return {"excess": mean(c.excess for c in known), "low": low, "high": high, "cells": len(known)}


def against(
    cells: Sequence[Resampled], other: Mapping[tuple[str, str, int], Resampled]
) -> dict[str, float | None] | None:
    """Mean difference to another attack's cells in the same places; None where they share none."""
    pairs = [(cell, other[cell.place]) for cell in cells if cell.place in other]
    pairs = [(one, two) for one, two in pairs if None not in (one.excess, two.excess)]
    if not pairs:
        return None
    bounds = interval(np.mean([one.draws - two.draws for one, two in pairs], axis=0))
    low, high = bounds or (None, None)
    gain = mean(one.excess - two.excess for one, two in pairs if one.excess is not None and two.excess is not None)
    return {"difference": gain, "low": low, "high": high}


def summarised(cells: Sequence[Resampled]) -> list[dict[str, Any]]:
    """One row an allowance, kind of source and attack: over all targets, and over those of each family."""
    rows = []
    for (allowed, sources, attack), of in grouped(cells, lambda c: (c.allowed, c.sources, c.attack)).items():
        rivals = [c for c in cells if (c.allowed, c.sources) == (allowed, sources)]
        others = {}
        for name, specs in BASELINES.items():
            spec = next(spec for spec in specs if any(c.attack == spec for c in rivals))
            others[name] = {c.place: c for c in rivals if c.attack == spec}
        rows.append(
            {
                "attack": attack,
                "allowed": allowed,
                "sources": sources,
                "models": list(dict.fromkeys(c.cell.source for c in of)),
                "seeds": len({c.cell.seed for c in of}),
                "forward": mean(c.cell.spent.forward for c in of),
                "backward": mean(c.cell.spent.backward for c in of),
                "white_box": mean(c.cell.rates.white_box.value for c in of),
                **compared(of, others),
                "targets": {
                    family: compared(part, others)
                    for family, part in grouped(of, lambda c: c.cell.target_family).items()
                },
            }
        )
    return [rounded(row) for row in rows]


def grouped(cells: Sequence[Resampled], key: Callable[[Resampled], Any]) -> dict[Any, list[Resampled]]:
    groups: dict[Any, list[Resampled]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are defined; None of none."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def compared(
    cells: Sequence[Resampled], others: Mapping[str, Mapping[tuple[str, str, int], Resampled]]
) -> dict[str, Any]:
    return {**estimate(cells), "against": {name: against(cells, other) for name, other in others.items()}}


def single(cells: Sequence[Resampled]) -> list[dict[str, Any]]:
    """One row an allowance, attack, source and target: means over the seeds."""
    groups = grouped(cells, lambda c: (c.allowed, c.attack, c.cell.source, c.cell.target))
    return [
        rounded(
            {
                **dict(zip(("allowed", "attack", "source", "target"), key, strict=True)),
                "n": of[0].cell.rates.n,
                **{name: mean(c.cell.rate(name).value for c in of) for name in ("transfer", "control")},
                **estimate(of),
            }
        )
        for key, of in groups.items()
    ]


def written(outcome: Mapping[str, Any]) -> str:
    """JSON with a line for each row of its lists."""

    def part(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in value) + "\n]"
        return json.dumps(value, allow_nan=False)

    return "{\n" + ",\n".join(f"{json.dumps(name)}: {part(value)}" for name, value in outcome.items()) + "\n}"


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rendered() -> str:
    """docs/ranking.md, from the recorded results."""
    return document(recorded("ranking"), recorded("cifar"))


def drawn() -> str:
    """docs/ranking.svg, from the recorded results."""
    return chart(recorded("ranking")["attacks"], max(ALLOCATED))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Compute what the store lacks and print everything as JSON.")
@click.option("--render", is_flag=True, help="Print docs/ranking.md from the recorded results.")
@click.option("--draw", is_flag=True, help="Print docs/ranking.svg from the recorded results.")
@click.option("--store", default=".carom/ranking", show_default=True, help="Where finished work is kept.")
@click.option("--limit", default=128, show_default=True, help="Images under attack.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--batch", default=64, show_default=True)
def main(as_json: bool, render: bool, draw: bool, store: str, limit: int, seeds: int, batch: int) -> None:
    """Rank transfer attacks at equal cost."""
    if render or draw:
        click.echo(rendered() if render else drawn(), nl=render)
        return
    if not as_json:
        raise click.UsageError("Pass --json to measure, or --render or --draw to print the document or its picture.")
    keep_freed_memory()
    torch.set_num_threads(1)
    data = load_data(DATA, limit=limit)
    others = others_for(data, lambda split, most: load_data(DATA, split, most), "test")
    found, ledger = plans(data, others, range(seeds)), Store(store)
    failures = compute(found, ledger, batch)
    cells = list(cells_of(found, ledger))
    outcome = {
        "version": version("carom"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "data": DATA,
        "data_digest": data.digest,
        "examples": len(data),
        "threat": f"linf {EPS}",
        "seeds": seeds,
        "controls": found[0][1].controls,
        "models": rounded(Transfer(found[0][1], ledger).models()),
        "failures": [{"what": f.what, "error": f.error} for f in failures],
        "attacks": summarised(cells),
        "cells": single(cells),
    }
    click.echo(written(outcome))


if __name__ == "__main__":
    main()
