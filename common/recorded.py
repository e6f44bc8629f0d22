"""Adversarial sets: what was crafted, here or by another tool, and how it is measured without crafting it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from carom.common.data import Dataset, digest_inputs
from carom.common.errors import CaromError
from carom.common.modality import AttackInfo, Modality, get_modality, modalities
from carom.common.models import Model
from carom.common.plan import Plan
from carom.common.problem import COUNTS, Access, Batch, Cost, Family, Output, Problem, Result, take
from carom.common.registry import attacks_of, choose_attack
from carom.common.rng import Rng
from carom.common.spaces import Inputs
from carom.common.specs import number, split_parameters
from carom.common.store import write_table
from carom.common.threats import Threat
from carom.common.units import AttackChoice


@dataclass(frozen=True, repr=False)
class AdversarialSet:
    """Adversarial inputs in stored form, beside what is needed to measure them elsewhere."""

    source: str
    attack: str
    threat: str
    modality: str
    stored: Inputs  # integer Tensor[N, ...] or list[str]
    labels: Tensor  # int64[N]
    ids: Sequence[str]
    success: Tensor  # bool[N], on the source
    status: Tensor  # int64[N] of Status
    cost: Cost
    clean: Dataset | None = None  # of the same ids in the same order; not saved: measuring a saved set takes its data
    answers: tuple[Tensor, Tensor] | None = None  # int64[N] each: what the source said to the clean and to these inputs
    budget: Threat | None = None  # what draws the controls; of a saved set, what `threat` and `attack` name
    notes: Mapping[str, Tensor] = field(default_factory=dict)  # as `Result.notes`

    def __repr__(self) -> str:
        fooled = int(self.success.sum())
        return (
            f"AdversarialSet({self.modality}: {self.attack} on {self.source} within {self.threat}, "
            f"{len(self.ids)} examples, success on {fooled})"
        )

    def save(self, path: Path | str) -> None:
        """One Parquet file: texts as they are, tensors as their bytes with shape and type."""
        columns: dict[str, Any] = {
            "id": list(self.ids),
            "label": self.labels.tolist(),
            "success": self.success.tolist(),
            "status": self.status.tolist(),
            **{name: getattr(self.cost, name).tolist() for name in COUNTS},
        }
        facts = {"source": self.source, "attack": self.attack, "threat": self.threat, "modality": self.modality}
        if isinstance(self.stored, Tensor):
            columns["input"] = [row.contiguous().numpy().tobytes() for row in self.stored.cpu()]
            facts["shape"] = ",".join(map(str, self.stored.shape[1:]))
            facts["dtype"] = str(self.stored.dtype).removeprefix("torch.")
        else:
            columns["input"] = list(self.stored)
        write_table(Path(path), pa.table(columns).replace_schema_metadata(facts))

    @classmethod
    def load(cls, path: Path | str, modality: str | None = None, **facts: Any) -> AdversarialSet:
        """A set that `save` wrote, or the log of another tool: for texts, what TextAttack and OpenAttack write
        (`carom.text.logs`), for images and sounds arrays (`carom.common.arrays`); the facts are those of these."""
        path = Path(path)
        owner = reader_of(path, modality)
        if owner is not None and owner.load_log is not None:
            return owner.load_log(path, **facts)
        if facts:
            raise CaromError(f"{path}: an adversarial set says itself what it holds. Leave {', '.join(facts)} out.")
        return cls._saved(path)

    @classmethod
    def _saved(cls, path: Path) -> AdversarialSet:
        try:
            table = pq.read_table(path, partitioning=None)
            facts = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
            column = table["input"].to_pylist()
            stored: Inputs = column
            if "shape" in facts:
                shape = [int(s) for s in facts["shape"].split(",")]
                dtype = {"uint8": torch.uint8, "int16": torch.int16, "float32": torch.float32}[facts["dtype"]]
                stored = torch.frombuffer(bytearray(b"".join(column)), dtype=dtype).view(-1, *shape)
            return cls(
                **{name: facts[name] for name in ("source", "attack", "threat", "modality")},
                stored=stored,
                labels=torch.tensor(table["label"].to_pylist()),
                ids=table["id"].to_pylist(),
                success=torch.tensor(table["success"].to_pylist()),
                status=torch.tensor(table["status"].to_pylist()),
                cost=Cost(*(torch.tensor(table[n].to_pylist()) for n in COUNTS)),
            )
        except (OSError, KeyError, ValueError, RuntimeError, pa.ArrowInvalid) as error:
            raise CaromError(f"{path}: not an adversarial set that carom saved ({error}).") from None

    @cached_property
    def digest(self) -> str:
        """sha256 over inputs, labels, ids and what is recorded of the source."""
        parts = [digest_inputs(self.stored), digest_inputs(self.labels), digest_inputs(list(self.ids))]
        parts += [digest_inputs(answer) for answer in self.answers or ()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @cached_property
    def places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.ids)}

    def rows(self, ids: Iterable[str]) -> Tensor:
        return torch.tensor([self.places[name] for name in ids], dtype=torch.long)

    def clean_in(self, data: Dataset | None) -> Dataset:
        """The clean examples, in the order of the set: its own, or those of the data it was crafted on."""
        if self.clean is not None:
            return self.clean
        if data is None:
            raise CaromError("a saved set holds no clean inputs: pass the data that it was crafted on (--data).")
        places = {name: place for place, name in enumerate(data.ids)}
        if missing := [name for name in self.ids if name not in places]:
            raise CaromError(
                f"{len(missing)} of {len(self.ids)} examples of the set are not in {data.name}, among them "
                f"{missing[0]}. Pass the data and split that it was crafted on (--data, --split)."
            )
        clean = data.take(torch.tensor([places[name] for name in self.ids]))
        if not torch.equal(clean.labels, self.labels):
            raise CaromError(f"the labels of the set are not those of {data.name}: pass the data it was crafted on.")
        return clean

    def bound(self) -> Threat:
        """The budget it was crafted within."""
        if self.budget is not None:
            return self.budget
        modality = get_modality(self.modality)
        kind, _, size = self.threat.partition(" ")
        if kind not in modality.threats:
            raise CaromError(
                f"the set was crafted within {self.threat!r}, which cannot be made again from its name: "
                "pass the kind of threat and its size (--threat, --eps)."
            )
        asked = modality.threats[kind](number(size))
        name = split_parameters(self.attack)[0]
        known = name in attacks_of(modality) or name.partition(":")[0] in modality.attack_kinds
        return choose_attack(modality, self.attack).threat(asked) if known else asked


def reader_of(path: Path, modality: str | None = None) -> Modality | None:
    """The modality that reads this kind of log; None if none does, as of saved sets."""
    owners = [owner for owner in modalities(modality) if path.suffix.lower() in owner.logs]
    if len(owners) > 1:
        known = ", ".join(owner.name for owner in owners)
        raise CaromError(f"{path}: of which modality? Pass modality= (--modality), one of {known}.")
    return owners[0] if owners else None


class RecordedSource(Model):
    """The model of another tool's log: it repeats the answers that the log holds, and can be asked nothing else.

    `silent` where the log holds none: then nothing is known of it but that the inputs were crafted on it.
    """

    recorded = True
    access = Access.LABEL

    def __init__(self, found: AdversarialSet, clean: Dataset) -> None:
        super().__init__(found.source, found.modality, Family.OTHER, clean.space, clean.classes, found.digest)
        self.silent = found.answers is None
        self._known: dict[Any, int] = {}
        for answers, stored in zip(found.answers or (), (clean.stored, found.stored), strict=False):
            self._known |= zip(_hashable(clean.space.decode(stored)), answers.tolist(), strict=True)

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        said = torch.tensor([self._known[x] for x in _hashable(inputs)], dtype=torch.long)
        return Output(torch.nn.functional.one_hot(said, len(self.classes)).float())


def _hashable(inputs: Inputs) -> list[Any]:
    return [row.cpu().numpy().tobytes() for row in inputs] if isinstance(inputs, Tensor) else list(inputs)


@dataclass(frozen=True)
class Replay:
    """An attack that hands over what was crafted before, at the cost recorded then."""

    digest: str
    found: AdversarialSet = field(compare=False, repr=False)

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        found, rows = self.found, self.found.rows(batch.ids)
        inputs = problem.model.space.decode(take(found.stored, rows))
        if isinstance(inputs, Tensor):
            inputs = inputs.to(problem.model.device)
        success = found.success[rows]
        if not problem.model.silent:
            asked = Batch(inputs, batch.labels, batch.ids, batch.lengths)
            success = problem.goal.achieved(problem.model.predict(asked).to(batch.labels.device)).cpu()
        cost = Cost(*(getattr(found.cost, name)[rows] for name in COUNTS))
        return Result(inputs, success, cost, found.status[rows], {k: v[rows] for k, v in found.notes.items()})


def replay_plan(
    found: AdversarialSet,
    targets: Sequence[Model],
    source: Model | None = None,
    data: Dataset | None = None,
    threat: tuple[Threat, str] | None = None,
    limit: int | None = None,
    controls: int = 5,
    seeds: Sequence[int] = (0,),
) -> Plan:
    """The study that measures a set on targets, with controls drawn here. `source`: the model it was crafted on;
    without it, what the set itself says of it. `threat`, with its label, in place of the one the set names."""
    clean = found.clean_in(data).sample(limit)
    budget, label = threat or (found.bound(), found.threat)
    kinds = (label.split()[0],)
    info = AttackInfo(found.attack, "crafted before", "as recorded", Access(0), kinds, lambda: replayed, "as recorded")
    replayed = Replay(found.digest, found)
    modality = get_modality(found.modality)
    # A recorded answer belongs to one text, whichever examples hold it: the whole log is known, not only `limit`.
    origin = source or RecordedSource(found, found.clean_in(data))
    return Plan(
        *(found.modality, (origin,), tuple(targets), (AttackChoice(info, {}, replayed),), clean, budget, label),
        seeds=tuple(seeds),
        controls=controls,
        metrics=tuple(modality.metrics),
    )


def known_source(found: AdversarialSet) -> str | None:
    """The spec of the model that a saved set was crafted on, where its name is one of the zoo's."""
    return f"zoo:{found.source}" if found.source in get_modality(found.modality).recipes else None
