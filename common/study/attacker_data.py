"""The attacker's own examples: clean, labelled, of the same task, and none of them under attack.

An attack that needs them says so by `Access.EXAMPLES`. A study fixes them once; their digest is part of the store key
of every craft that uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset

OTHERS = 64
"""How many are kept, chosen by a hash of their ids."""


def others_for(data: Dataset, load: Callable[[str, int], Dataset], split: str) -> Dataset:
    """Examples of the train split or, where data have none, those of the same split that the limit left out.

    `load(split, limit)` reads the same data. What equals an example under attack is left out, whatever it is called.
    """
    for name in dict.fromkeys(("train", split)):
        try:
            pool = load(name, len(data) + OTHERS)
        except CaromError:  # no such split
            continue
        found = apart(pool, data)
        if found is not None:
            return found
    raise CaromError(
        f"{data.name}: an attack needs labelled examples that are not under attack, and there are none: data without a "
        "train split are all attacked. Pass --limit to leave some out, or choose another attack."
    )


def apart(pool: Dataset, data: Dataset) -> Dataset | None:
    """Up to OTHERS examples of the pool that do not occur in the data; None if there are none of the same kind."""
    if any(getattr(pool, name) != getattr(data, name) for name in ("space", "classes", "task")):
        return None
    if _shape(pool) != _shape(data):
        return None
    attacked = set(_contents(data))
    rows = [i for i, content in enumerate(_contents(pool)) if content not in attacked]
    return pool.take(torch.tensor(rows)).sample(OTHERS) if rows else None


def _shape(data: Dataset) -> tuple[int, ...] | None:
    return tuple(data.stored.shape[1:]) if isinstance(data.stored, Tensor) else None


def _contents(data: Dataset) -> Iterable[object]:
    if isinstance(data.stored, Tensor):
        return (row.contiguous().numpy().tobytes() for row in data.stored)
    return data.stored
