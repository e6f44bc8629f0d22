"""What targeted attacks are to aim at, as users state it: one class for all examples, or one for each by its id."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.received import json_of, read_json
from carom.common.base.specs import existing
from carom.common.core.batch import Access
from carom.common.core.class_names import is_number, likely, places
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.tasks import CLASSES
from carom.common.work.units import LEAST_LIKELY, OF_SOURCE, Aim, TargetClasses

TargetClass = str | int | Mapping[str, str | int] | Sequence[str | int] | None
"""What `target_class` may be: see `stated_aim`."""

HOW = (
    'Write a table with the columns id and target (CSV, TSV or JSONL), or a JSON object {"id": "class", ...}; the ids are '
    "those of the examples."
)

NAMES = ("target", "target_class", "class")
"""Columns that hold the class aimed at."""


def stated_aim(value: TargetClass, data: Dataset) -> Aim:
    """From `target_class` as a user states it: a class; "least-likely"; "random" or None; "@FILE"; a mapping from ids to
    classes; or as many classes as `data` has examples, in their order."""
    if value is None or value == "random":
        return None
    if isinstance(value, str) and value.startswith("@"):
        return read_target_classes(value[1:])
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    given = list(value)
    if len(given) != len(data):
        raise CaromError(
            f"target_class has {len(given)} classes, and {data.name} {len(data)} examples. Give one for each, in their "
            "order, or a mapping from ids to classes."
        )
    return {name: _plain(one) for name, one in zip(data.ids, given, strict=True)}


def _plain(value: Any) -> int | str:
    """A class as JSON can hold it; numpy's and torch's numbers are numbers."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise CaromError(f"target_class: {value!r:.80} is neither the name nor the number of a class.")
    return value


def read_target_classes(path: str | Path) -> dict[str, int | str]:
    """id -> name or number of a class, or "least-likely", from a table or a JSON object. Nothing is looked up yet."""
    found = existing(path, "file of target classes")
    try:
        rows = _rows(found)
    except (OSError, ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise CaromError(f"{found}: not a file of target classes that can be read ({error}). {HOW}") from None
    given: dict[str, int | str] = {}
    for place, (name, value) in enumerate(rows, 1):
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise CaromError(f"{found}: entry {place} ({name!r:.80}) names no class: {value!r:.80}. {HOW}")
        value = value.strip() if isinstance(value, str) else value
        if given.setdefault(name, value) != value:
            raise CaromError(f"{found}: {name!r:.80} is given two target classes. Give each example one.")
    if not given:
        raise CaromError(f"{found}: holds no target classes. {HOW}")
    return given


def _rows(path: Path) -> list[tuple[str, Any]]:
    ending = path.suffix.lower()
    if ending == ".json":
        content = read_json(path)
        if isinstance(content, dict):
            return [(str(name), value) for name, value in content.items()]
        table = content
    elif ending == ".jsonl":
        table = [json_of(line) for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    elif ending in (".csv", ".tsv"):
        text = io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")
        table = list(csv.DictReader(text, delimiter="\t" if ending == ".tsv" else ",", strict=True))
    else:
        raise ValueError(f"its name ends in {ending!r}, not in .csv, .tsv, .json or .jsonl")
    if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
        raise ValueError("it holds no rows")
    column = next((name for name in NAMES if table and name in table[0]), None)
    if table and (column is None or any("id" not in row or column not in row for row in table)):
        raise ValueError("it lacks the columns id and target")
    return [(str(row["id"]), row[column]) for row in table]


def take_aim(
    aim: Aim, targeted: bool, data: Dataset, counted: Sequence[str], sources: Sequence[Model]
) -> tuple[Aim, Dataset]:
    """(the aim with its classes looked up, the examples that are not of the class that they are aimed at).

    `counted`: the classes of the data before the models' were taken.
    """
    if aim is None or isinstance(aim, int | TargetClasses):
        return aim, data
    if not targeted or data.task != CLASSES:
        said = "" if isinstance(aim, Mapping) else f" ({aim})"
        raise CaromError(f"a target class{said} is for targeted attacks on classes.")
    each = _looked_up(aim, data, counted) if isinstance(aim, Mapping) else None
    deaf = [source.name for source in sources if Access.SCORE not in source.access]
    if deaf and (aim == LEAST_LIKELY or (each is not None and OF_SOURCE in each.values())):
        raise CaromError(f"{', '.join(deaf)} answers labels alone, of which none is least likely. Name a class.")
    if aim == LEAST_LIKELY:
        return aim, data
    if each is not None:
        own, which = data.labels == torch.tensor(list(each.values())), "the class that is aimed at for them"
        return each, _without(data, own, which)
    name = str(aim)
    at = places([name], data.classes) or likely([name], data.classes)
    if at is None:
        raise UnknownName("class", name, [*data.classes, LEAST_LIKELY, "random"])
    return at[0], _without(data, data.labels == at[0], f"{data.classes[at[0]]}, the class that is aimed at")


def _without(data: Dataset, own: Tensor, which: str) -> Dataset:
    """The examples that are not of the class that is aimed at."""
    if own.all():
        raise CaromError(f"all examples of {data.name} are of {which}. Aim at another.")
    if not own.any():
        return data
    said = f"left out {int(own.sum())} examples of {which}"
    return replace(data.take((~own).nonzero().squeeze(1)), remarks=(*data.remarks, said))


def _looked_up(given: Mapping[str, int | str], data: Dataset, counted: Sequence[str]) -> TargetClasses:
    """The place among the classes of `data` that each of its examples, in their order, is aimed at; entries of other
    examples are left. Numbers count the classes as they were, so they are refused where their order is another now.
    """
    if missing := [name for name in data.ids if name not in given]:
        first = ", ".join(map(repr, missing[:3]))
        raise CaromError(
            f"target_class has no class for {len(missing)} of the {len(data)} examples of {data.name} ({first}"
            f"{', ...' if len(missing) > 3 else ''}). Give each of them one, by its id, or choose fewer examples."
        )
    known: dict[int | str, int] = {}
    for name in data.ids:
        value = given[name]
        if value not in known:
            known[value] = _place(value, data.classes, counted)
    return TargetClasses({name: known[given[name]] for name in data.ids})


def _place(value: int | str, classes: Sequence[str], counted: Sequence[str]) -> int:
    if value == LEAST_LIKELY:
        return OF_SOURCE
    name = str(value)
    if (at := places([name], classes)) is not None:
        return at[0]
    if is_number(name):
        if tuple(classes) != tuple(counted):
            raise CaromError(
                f"target_class {value} is a number, and the models have their classes in another order "
                f"({', '.join(classes[:3])}, ...) than the data ({', '.join(counted[:3])}, ...). Give the names of classes."
            )
        if int(name) < len(classes):
            return int(name)
        raise CaromError(f"target_class {value} is no class of the {len(classes)}, which are numbered from 0.")
    if (at := likely([name], classes)) is not None:
        return at[0]
    raise UnknownName("class", name, [*classes, LEAST_LIKELY])
