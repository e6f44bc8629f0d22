"""Labels of a table: class numbers or class names as files hold them, and the classes that they are labels of."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NoReturn

from carom.common.base.errors import BadInput, CaromError
from carom.common.core.class_names import in_order, is_number, places, stated_places

MAX_CLASSES = 10_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MISSING = ("", "nan", "n/a", "<na>")


@dataclass(frozen=True)
class Labels:
    """The classes of a table and the place of every row's label among them; None where a row has no such label."""

    classes: tuple[str, ...]
    rows: list[int | None]
    guessed: bool = False  # as `Dataset.guessed`

    def refuse(self, where: str, label: Any) -> NoReturn:
        """What is wrong with a row whose label is none. Raises BadInput."""
        if plain_label(label) is None and not isinstance(label, list | dict):
            raise BadInput(where, f"holds no label ({label!r})", "Add one, or remove the row.")
        known = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        raise BadInput(where, f"label {label!r} is no class of {known}", "Correct the label, or classes=.")


def plain_label(label: Any) -> int | str | None:
    """A label as a class number or name; None if there is none. A whole number is one however it is written: 1.0, "1.0",
    "1.000e+00". Other numbers stay as they are written."""
    if isinstance(label, str):
        label = label.strip()
        if label.lower() in _MISSING:
            return None
        if not _NUMBER.fullmatch(label):
            return label
        value = float(label) if not label.lstrip("+-").isdecimal() else int(label)
        return int(value) if float(value).is_integer() and abs(value) < 2**53 else label
    if isinstance(label, int):
        return int(label)
    if not isinstance(label, Real):
        return None
    value = float(label)
    return None if not math.isfinite(value) else int(value) if value.is_integer() else repr(value)


def labels_of(
    given: Sequence[Any], stated: Sequence[str] | None, where: str, known: Sequence[str] | None = None
) -> Labels:
    """The labels of a column. `known`: the names that the table itself has for its class numbers; `stated`: the classes
    that the user states, among which labels find their place by name, numbers without names by number.

    Without either, numbers are those of the outputs, and names are put in order (`in_order`). Raises CaromError where
    labels are numbers with fractions, or too many.
    """
    plain = [plain_label(label) for label in given]
    if known is not None:
        plain = [_named(label, known) for label in plain]
    if stated is not None:
        at = _places(given, plain, stated, known, where)
        return Labels(tuple(stated), at)
    if known is not None:
        index = {name: at for at, name in enumerate(known)}
        return Labels(tuple(known), [None if label is None else index[str(label)] for label in plain])
    there = [label for label in plain if label is not None]
    counts = [label for label in there if isinstance(label, int)]
    if strange := next((n for n in there if isinstance(n, str) and _NUMBER.fullmatch(n)), None):
        raise CaromError(
            f"{where}: label {strange} is a number that is no whole number, and so no class number. Name the column "
            "of the classes with label=, or state classes= to take such numbers for names."
        )
    if len(counts) == len(there):
        names, guessed = tuple(map(str, range(min(max(counts, default=-1), MAX_CLASSES) + 1))), False
    else:
        names, guessed = in_order(map(str, there))
    if len(names) > MAX_CLASSES:
        raise CaromError(f"{where}: more than {MAX_CLASSES} classes. Which column holds the label? Pass label=.")
    index = {name: at for at, name in enumerate(names)}
    return Labels(names, [None if label is None else index.get(str(label)) for label in plain], guessed)


def _named(label: int | str | None, known: Sequence[str]) -> str | None:
    """The name of a class number of a table that has names for them."""
    if isinstance(label, int):
        return known[label] if 0 <= label < len(known) else None
    return label if label in known else None


def _places(
    given: Sequence[Any],
    plain: Sequence[int | str | None],
    stated: Sequence[str],
    known: Sequence[str] | None,
    where: str,
) -> list[int | None]:
    index: dict[str, int] = {}
    for at, name in enumerate(stated):
        index.setdefault(name, at)
    written = [
        str(raw).strip() if str(raw).strip() in index else label for raw, label in zip(given, plain, strict=True)
    ]
    if known is not None:  # the number of a class of the table is no name
        written = list(plain)
    by_number = not any(map(is_number, stated))
    names = list(dict.fromkeys(label for label in written if isinstance(label, str)))
    try:
        found = dict(zip(names, stated_places(names, stated, where), strict=True))
    except CaromError:
        found = {name: one[0] for name in names if name in index and (one := places([name], stated))}
        if not found and not any(isinstance(label, int) for label in written):
            raise
    rows = []
    for label in written:
        if isinstance(label, int):
            spelt = index.get(str(label))
            rows.append(label if spelt is None and by_number and 0 <= label < len(stated) else spelt)
        else:
            rows.append(None if label is None else found.get(label))
    return rows
