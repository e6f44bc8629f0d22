"""Adversarial sets: what was crafted, here or by another tool, in stored form."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.files import read_table, write_table
from carom.common.base.received import json_of
from carom.common.core.class_names import places as places_of
from carom.common.core.data import Dataset, digest_inputs
from carom.common.core.problem import COUNTS, Cost, Status
from carom.common.core.spaces import Inputs
from carom.common.core.threats import Threat


@dataclass(frozen=True, repr=False)
class AdversarialSet:
    """Adversarial inputs in stored form, beside what is needed to measure them elsewhere.

    Examples:
        >>> import carom, tempfile
        >>> data = carom.load_data("builtin:fashion-mnist", limit=4)
        >>> crafted = carom.attack(carom.load_model("zoo:image-resnet"), data, "fgsm", eps="8/255")
        >>> with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        ...     crafted.save(file.name)
        ...     bool((carom.AdversarialSet.load(file.name).stored == crafted.stored).all())
        True
    """

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
    classes: tuple[str, ...] | None = None  # what labels are counted in; None in sets that were saved without

    def __repr__(self) -> str:
        fooled = int(self.success.sum())
        return (
            f"AdversarialSet({self.modality}: {self.attack} on {self.source} within {self.threat}, "
            f"{len(self.ids)} examples, success on {fooled})"
        )

    def save(self, path: Path | str) -> None:
        """One Parquet file: texts as they are, tensors as their bytes with shape and type."""
        import pyarrow as pa

        columns: dict[str, Any] = {
            "id": list(self.ids),
            "label": self.labels.tolist(),
            "success": self.success.tolist(),
            "status": self.status.tolist(),
            **{name: getattr(self.cost, name).tolist() for name in COUNTS},
        }
        facts = {"source": self.source, "attack": self.attack, "threat": self.threat, "modality": self.modality}
        if self.class_names is not None:
            facts["classes"] = json.dumps(self.class_names)
        if isinstance(self.stored, Tensor):
            columns["input"] = [row.contiguous().numpy().tobytes() for row in self.stored.cpu()]
            facts["shape"] = ",".join(map(str, self.stored.shape[1:]))
            facts["dtype"] = str(self.stored.dtype).removeprefix("torch.")
        else:
            columns["input"] = list(self.stored)
        write_table(Path(path), pa.table(columns).replace_schema_metadata(facts))

    def export(self, to: str) -> Path:
        """Write the set for other tools, and say where: `folder:PATH` (one picture, sound or text a file), `npz:PATH`
        or `csv:PATH`. Raises CaromError where that is not possible, and where PATH is taken.

        Modalities know the files, so a higher layer does it (`carom.common.study.outputs.export`).
        """
        return _EXPORTERS[-1](self, to)

    @classmethod
    def load(cls, path: Path | str, modality: str | None = None, **facts: Any) -> AdversarialSet:
        """A set that `save` wrote, or the log of another tool: for texts, what TextAttack and OpenAttack write
        (`carom.text.data.logs`), for images and sounds arrays (`carom.common.loading.arrays`); the facts are those of these.

        Modalities know the logs, so `carom.load_set` of a higher layer does it.
        """
        return _LOADERS[-1](path, modality, **facts)

    @classmethod
    def saved(cls, path: Path) -> AdversarialSet:
        """A set that `save` wrote."""
        import pyarrow as pa

        try:
            table = read_table(path)
            facts = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
            whole = {name: _column(table, name, pa.int64()) for name in ("label", "status", *COUNTS)}
            ids = _column(table, "id", pa.string())
            if not ids or len(set(ids)) < len(ids):
                raise ValueError("its ids are not all different, or there are none")
            if min(whole["label"]) < 0 or not set(whole["status"]) <= set(Status):
                raise ValueError("a label or a status is none")
            return cls(
                **{name: facts[name] for name in ("source", "attack", "threat", "modality")},
                stored=_inputs(table, facts),
                labels=torch.tensor(whole["label"]),
                ids=ids,
                success=torch.tensor(_column(table, "success", pa.bool_())),
                status=torch.tensor(whole["status"]),
                cost=Cost(*(torch.tensor(whole[name]) for name in COUNTS)),
                classes=_classes(facts),
            )
        except (OSError, KeyError, ValueError, RuntimeError, pa.ArrowException) as error:
            raise CaromError(f"{path}: not an adversarial set that carom saved ({error}).") from None

    def with_classes(self, classes: Sequence[str], places: Sequence[int]) -> AdversarialSet:
        """The same set with labels and answers counted in `classes`, where class n of these is `classes[places[n]]`."""
        at = torch.tensor(list(places), dtype=torch.long)
        answers = None if self.answers is None else (at[self.answers[0]], at[self.answers[1]])
        clean = None if self.clean is None else self.clean.with_classes(classes, places)
        return replace(self, labels=at[self.labels], answers=answers, clean=clean, classes=tuple(classes))

    @cached_property
    def digest(self) -> str:
        """sha256 over inputs, labels, ids and what is recorded of the source."""
        parts = [digest_inputs(self.stored), digest_inputs(self.labels), digest_inputs(list(self.ids))]
        parts += [digest_inputs(answer) for answer in self.answers or ()]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What labels are counted in: the set's own classes, or those of its clean examples."""
        return self.classes if self.classes is not None or self.clean is None else self.clean.classes

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
        if self.classes is not None and (at := places_of(data.classes, self.classes)) is not None:
            clean = clean.with_classes(self.classes, at)
        if not torch.equal(clean.labels, self.labels):
            raise CaromError(f"the labels of the set are not those of {data.name}: pass the data it was crafted on.")
        return clean


def _column(table: Any, name: str, kind: Any) -> list[Any]:
    """The values of a column of a saved set, none of them missing."""
    column = table[name]
    if column.type != kind or column.null_count:
        raise ValueError(f"its column {name} holds {column.type}, not {kind}, or lacks some")
    return column.to_pylist()


_TYPES = {
    name: getattr(torch, name) for name in ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
}


def _classes(facts: Mapping[str, str]) -> tuple[str, ...] | None:
    """The classes that a saved set names."""
    if "classes" not in facts:
        return None
    classes = json_of(facts["classes"])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("its classes are no list of names")
    return tuple(classes)


def _inputs(table: Any, facts: Mapping[str, str]) -> Inputs:
    """The inputs of a saved set: texts, or tensors of the shape and type that its metadata name."""
    import pyarrow as pa

    if "shape" not in facts:
        return _column(table, "input", pa.string())
    shape, kind = [int(side) for side in facts["shape"].split(",")], _TYPES[facts["dtype"]]
    rows, size = _column(table, "input", pa.binary()), math.prod(shape) * kind.itemsize
    if min(shape) < 1 or any(len(row) != size for row in rows):
        raise ValueError(f"not every input is {facts['dtype']} of the shape {facts['shape']}")
    stored = torch.frombuffer(bytearray(b"".join(rows)), dtype=kind).view(-1, *shape)
    if stored.is_floating_point() and not bool(stored.isfinite().all()):
        raise ValueError("an input is not finite")
    return stored


def read_sets_by(load: Callable[..., AdversarialSet]) -> Callable[..., AdversarialSet]:
    """Make a function the one behind `AdversarialSet.load`."""
    _LOADERS.append(load)
    return load


def exports_by(export: Callable[[AdversarialSet, str], Path]) -> Callable[[AdversarialSet, str], Path]:
    """Make a function the one behind `AdversarialSet.export`."""
    _EXPORTERS.append(export)
    return export


_EXPORTERS: list[Callable[[AdversarialSet, str], Path]] = []


def _only_saved(path: Path | str, modality: str | None = None, **facts: Any) -> AdversarialSet:
    if facts:
        raise CaromError(f"{path}: an adversarial set says itself what it holds. Leave {', '.join(facts)} out.")
    return AdversarialSet.saved(Path(path))


_LOADERS: list[Callable[..., AdversarialSet]] = [_only_saved]
