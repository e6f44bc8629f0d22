"""Units of work: what is computed once, stored under what it depends on, and found again.

An artefact is a set of stored inputs: the clean ones, adversarial ones, or a control. A `Judge` is one model's answers
to one artefact. Only adversarial inputs are kept as files; clean inputs and controls are made again from their keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from carom.common.attacks.info import AttackChoice
from carom.common.base.errors import CaromError
from carom.common.base.identity import describe
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, take
from carom.common.core.data import Dataset
from carom.common.core.metrics import Metric, changed, measured
from carom.common.core.model import Model
from carom.common.core.precision import FP32, computing_in
from carom.common.core.problem import COUNTS, Problem, Result
from carom.common.core.rounding import within
from carom.common.core.spaces import Inputs
from carom.common.core.tasks import Values
from carom.common.core.threats import Threat
from carom.common.models.mismatch import fitting
from carom.common.work.answers import ask, columns_of
from carom.common.work.store import Store, key_of

NOTE = "note: "
"""Begins the names of the columns that hold what an attack notes of its examples."""


KEPT = "kept"
"""The column of a control's rows that says which of its draws keep what the attack has to keep."""

LEAST_LIKELY = "least-likely"

OF_SOURCE = -1
"""In the place of a class: the one that is LEAST_LIKELY to the source."""


class TargetClasses(dict[str, int]):
    """id of an example -> the place of the class that it is aimed at, or OF_SOURCE."""


Aim = int | str | Mapping[str, int | str] | None
"""What a targeted attack aims at: one class for all examples, LEAST_LIKELY, a class for each id (`TargetClasses` once its
names are looked up), or None, a random other class each."""


TOGETHER = 2**22
"""Numbers in all the inputs that are decoded together: 27 images of 224 x 224 in colour."""


def together(data: Dataset) -> int:
    """How many examples are decoded together where no batch is stated; all, of texts."""
    return max(1, TOGETHER // data.stored[0].numel()) if isinstance(data.stored, Tensor) else max(1, len(data))


class Artefact(Protocol):
    """A set of stored inputs, in the order of the data."""

    @property
    def key(self) -> str: ...

    @property
    def stream(self) -> str:
        """What tells the questions about it from those about others: random models answer each anew. Attacks are judged
        by the same stream, so that the worst of several is no matter of luck."""

    @property
    def needs(self) -> Craft | None:
        """The craft that has to be in the store before the inputs can be made."""

    def inputs(self, store: Store) -> Inputs: ...


@dataclass(frozen=True)
class Clean:
    """The data as they are."""

    data: Dataset
    needs = None
    stream = "clean"

    @cached_property
    def key(self) -> str:
        return key_of({"kind": "clean", "data": self.data.digest})

    def inputs(self, store: Store) -> Inputs:
        return self.data.stored


@dataclass(frozen=True)
class Craft:
    """Adversarial inputs from one attack on one source."""

    source: Model
    chosen: AttackChoice
    threat: Threat
    data: Dataset
    seed: int
    targeted: bool = False
    others: Dataset | None = None  # what the attacker has besides; only for attacks that use it
    aim: Aim = None  # of a targeted craft
    precision: str = FP32  # of the gradients; answers that are decided on, and judged, are computed in float32

    @cached_property
    def key(self) -> str:
        besides: dict[str, Any] = {} if self.others is None else {"others": self.others.digest}
        if self.aim is not None:
            besides["aim"] = self._own_aims if isinstance(self.aim, TargetClasses) else self.aim
        if self.chosen.eot is not None:
            besides["eot"] = self.chosen.eot
        if self.precision_used != FP32:
            besides["precision"] = self.precision_used
        return key_of(
            {
                "kind": "craft",
                **besides,
                "model": self.source.digest,
                "device": self.source.device.type,
                "attack": describe(self.chosen.attack),
                "threat": describe(self.threat),
                "data": self.data.digest,
                "seed": self.seed,
                "targeted": self.targeted,
            }
        )

    @property
    def precision_used(self) -> str:
        """Attacks that see scores compare them to the last digits, and are always given those of float32."""
        return self.precision if Access.GRADIENT in self.chosen.info.needs else FP32

    @property
    def needs(self) -> Craft:
        return self

    @property
    def stream(self) -> str:
        return f"attacked {self.seed}"

    @property
    def what(self) -> str:
        return f"{self.chosen.info.name} on {self.source.name}"

    def targets(self) -> Values | None:
        """What is aimed at for each example: as `aim` says, or drawn by its id; None when untargeted."""
        if not self.targeted:
            return None
        data = self.data
        if isinstance(self.aim, int):
            return np.full(len(data), self.aim)
        if self.aim == LEAST_LIKELY:
            return self._least_likely
        if isinstance(self.aim, TargetClasses):
            wanted = np.array(self._own_aims)
            of_source = wanted == OF_SOURCE
            return np.where(of_source, self._least_likely, wanted) if of_source.any() else wanted
        return data.task.wanted(data.reference, data.classes, Rng.of(self.seed, data.ids).fold("target"))

    @cached_property
    def _own_aims(self) -> list[int]:
        """Of the examples of this craft alone, in their order: others change nothing here."""
        assert isinstance(self.aim, TargetClasses)
        return [self.aim[name] for name in self.data.ids]

    @cached_property
    def _least_likely(self) -> Values:
        """int64[N]: the class that the source holds least likely of each clean example, the first of several; never its
        label (Kurakin et al. 2017, section 2)."""
        size = together(self.data)
        starts = range(0, len(self.data), size)
        scores = torch.cat([self.source.predict(self.data.batch(start, start + size)) for start in starts])
        return scores.scatter(1, self.data.labels[:, None], torch.inf).argmin(1).numpy()

    def run(self, store: Store, batch: int) -> None:
        started = time.perf_counter()
        results = self.results(batch)
        stored = self.stored(results)
        columns: dict[str, Any] = {
            "id": list(self.data.ids),
            "label": self.data.labels.tolist(),
            "success": [s for r in results for s in r.success.tolist()],
            "status": [s for r in results for s in r.status.tolist()],
            **{name: [c for r in results for c in getattr(r.cost, name).tolist()] for name in COUNTS},
        }
        for words in results[0].notes if results else ():
            columns[NOTE + words] = [n for r in results for n in r.notes[words].tolist()]
        if (targets := self.targets()) is not None:
            columns["target"] = targets.tolist()
        tensors = None
        if isinstance(stored, Tensor):
            tensors = {"inputs": stored}
        else:
            columns["input"] = stored
        store.commit(self.key, pa.table(columns), tensors, time.perf_counter() - started)

    def results(self, batch: int) -> list[Result]:
        """The attack on all examples, `batch` at a time."""
        starts = range(0, len(self.data), batch)
        with fitting(self.source, self.data), computing_in(self.precision_used):
            return [self._attack(start, min(start + batch, len(self.data))) for start in starts]

    def stored(self, results: list[Result]) -> Inputs:
        """The adversarial inputs of consecutive results in stored form."""
        parts = [self.data.space.encode(r.inputs) for r in results]
        if isinstance(self.data.stored, Tensor):
            return torch.cat([part.cpu() for part in parts])
        return [text for part in parts for text in part]

    def _attack(self, start: int, stop: int) -> Result:
        batch = self.data.batch(start, stop, self.source.device)
        targets = self.targets()
        wanted = None if targets is None else targets[start:stop]
        goal = self.data.task.goal(self.data.reference[start:stop], wanted)
        goal = goal.to(batch.labels.device)
        rng = Rng.of(self.seed, batch.ids, batch.labels.device)
        others = None if self.others is None else self.others.batch(device=self.source.device)
        eot = self.chosen.eot
        problem = Problem(self.source, goal, self.threat, others=others, stream=(self.seed,), eot=eot)
        result = self.chosen.attack(problem, batch, rng)
        space = self.data.space
        saved = space.decode(space.encode(result.inputs))
        allowed = self.threat.allows(saved, batch.inputs)
        if not bool(allowed.all()):
            at = batch.ids[int((~allowed).nonzero()[0])]
            raise AssertionError(f"{self.what}: the stored adversarial example {at} is outside the budget")
        return self._not_rejected(result, replace(batch, inputs=saved)) if self.source.rejects else result

    def _not_rejected(self, result: Result, batch: Batch) -> Result:
        """The result without the success of inputs that the source rejects, whatever the attack looked at."""
        with computing_in(FP32):
            parts = self.source.ask(batch, lambda output: output.rejected, max(1, len(batch)))
        success = result.success.clone()
        for rows, rejected in parts:
            success[rows] &= True if rejected is None else ~rejected
        return replace(result, success=success)

    def inputs(self, store: Store) -> Inputs:
        rows = store.rows(self.key)
        return rows["input"].to_pylist() if "input" in rows.column_names else store.tensors(self.key)["inputs"]


@dataclass(frozen=True)
class Control:
    """One random draw from the budget that a craft used."""

    craft: Craft
    draw: int

    @cached_property
    def key(self) -> str:
        threat, data = self.craft.threat, self.craft.data
        facts = {"kind": "control", "made": 2, "data": data.digest, "seed": self.craft.seed, "draw": self.draw}
        if threat.redraws:
            facts["redraws"] = threat.redraws
        if threat.control_follows:
            return key_of({**facts, "craft": self.craft.key})
        return key_of({**facts, "threat": describe(threat)})

    @property
    def needs(self) -> Craft | None:
        return self.craft if self.craft.threat.control_follows else None

    @property
    def stream(self) -> str:
        return f"control {self.draw} {self.craft.seed}"

    def inputs(self, store: Store) -> Inputs:
        crafted = None if self.needs is None else self.craft.inputs(store)

        def draw(batch: Batch, rows: Tensor) -> Inputs:
            rng = Rng.of(self.craft.seed, batch.ids).fold("control", self.draw)
            like = batch.inputs if crafted is None else self.craft.data.space.decode(take(crafted, rows))
            return self.craft.threat.control(batch, rng, like)

        return _made(self.craft, draw, whole=True)

    def kept(self, stored: Inputs) -> Tensor | None:
        """bool[N]: which of its inputs keep what the attack has to keep beside the budget; None where all do."""
        data = self.craft.data
        return self.craft.threat.keeps(data.space.decode(stored), data.batch().inputs)


@dataclass(frozen=True)
class Swapped:
    """Every example with the perturbation made for another one: what is universal in an attack."""

    craft: Craft

    @cached_property
    def key(self) -> str:
        return key_of({"kind": "swapped", "craft": self.craft.key})

    @property
    def needs(self) -> Craft:
        return self.craft

    @property
    def stream(self) -> str:
        return f"swapped {self.craft.seed}"

    def inputs(self, store: Store) -> Inputs:
        data, crafted = self.craft.data, self.craft.inputs(store)
        # The next example in the order of a hash of the ids: no example keeps its own perturbation.
        order = Rng.of(self.craft.seed, data.ids).fold("swap").uniform().argsort()
        other = torch.empty_like(order)
        other[order] = order.roll(-1)

        def swap(batch: Batch, rows: Tensor) -> Inputs:
            rng = Rng.of(self.craft.seed, batch.ids).fold("swap")
            adversarial, clean = (data.space.decode(take(of, other[rows])) for of in (crafted, data.stored))
            return self.craft.threat.swap(batch, rng, adversarial, clean)

        return _made(self.craft, swap)


@dataclass(frozen=True)
class Blind:
    """A change that knows neither model nor input, of the whole budget: the second null."""

    craft: Craft  # one of those that it stands beside; any does
    number: int
    needs = None

    @property
    def stream(self) -> str:
        return f"blind {self.number}"

    @cached_property
    def key(self) -> str:
        craft = self.craft
        return key_of(
            {
                "kind": "blind",
                "made": 2,
                "data": craft.data.digest,
                "threat": describe(craft.threat),
                "number": self.number,
            }
        )

    def inputs(self, store: Store) -> Inputs:
        return _made(self.craft, lambda batch, rows: self.craft.threat.blind(batch, self.number), whole=True)


def _made(craft: Craft, make: Callable[[Batch, Tensor], Inputs], whole: bool = False) -> Inputs:
    """Inputs of a control as they are saved: in the space, on its lattice, within the budget; `whole` spends all of it.
    `make` is given some examples and which they are."""
    data, space, parts = craft.data, craft.data.space, []
    size = together(data)
    for start in range(0, len(data), size):
        batch = data.batch(start, start + size)
        x = make(batch, torch.arange(start, start + len(batch)))
        x = craft.threat.spend(x, batch.inputs, space) if whole else space.clamp(x)
        if isinstance(x, Tensor):
            x = within(craft.threat, space, x, batch.inputs)
        parts.append(space.encode(x))
    if isinstance(data.stored, Tensor):
        return torch.cat(parts)
    return [text for part in parts for text in part]


@dataclass(frozen=True)
class Judge:
    """One model's answers to one artefact."""

    target: Model
    artefact: Artefact
    data: Dataset
    what: str

    @cached_property
    def key(self) -> str:
        facts = {"kind": "judge", "model": self.target.digest, "device": self.target.device.type}
        return key_of({**facts, "artefact": self.artefact.key})

    def run(self, store: Store, batch: int) -> None:
        started = time.perf_counter()
        data = replace(self.data, stored=self.artefact.inputs(store))
        with fitting(self.target, self.data):
            answers, finite = ask(self.target, data, batch, self.artefact.stream)
        if not bool(finite.all()):
            at = data.ids[int((~finite).nonzero()[0])]
            said = f"model {self.target.name} answers {at} with a number that is not finite"
            if isinstance(self.artefact, Clean):
                raise CaromError(f"{said}. Check its weights and preprocessing; carom cannot rank such answers.")
            raise ValueError(said)  # this unit fails and is named; the rest of the study goes on
        kept = self.artefact.kept(data.stored) if isinstance(self.artefact, Control) else None
        more = {} if kept is None else {KEPT: kept.tolist()}
        rows = pa.table({"id": list(data.ids), **columns_of(answers, data), **more})
        store.commit(self.key, rows, None, time.perf_counter() - started)


@dataclass(frozen=True)
class Size:
    """How far each adversarial input of a craft lies from its clean one, by the metrics that can be had here."""

    craft: Craft
    metrics: tuple[Metric, ...]

    @cached_property
    def key(self) -> str:
        return key_of({"kind": "size", "craft": self.craft.key, "metrics": [[m.name, m.version] for m in self.metrics]})

    @property
    def what(self) -> str:
        return f"size of {self.craft.what}"

    def run(self, store: Store, batch: int) -> None:
        started = time.perf_counter()
        data, stored = self.craft.data, self.craft.inputs(store)
        columns: dict[str, Any] = {"id": list(data.ids), "changed": changed(stored, data.stored)}
        columns |= measured(self.metrics, data.space, stored, data.stored, self.craft.source.device)
        store.commit(self.key, pa.table(columns), None, time.perf_counter() - started)


Unit = Craft | Judge | Size


def needed(unit: Unit) -> Craft | None:
    """The craft that has to be in the store before a unit can be computed."""
    if isinstance(unit, Judge):
        return unit.artefact.needs
    return unit.craft if isinstance(unit, Size) else None
