"""How units of work are computed: one after another, beside other processes on the same store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from carom.common.base.errors import CaromError
from carom.common.work.store import Store
from carom.common.work.units import Unit, needed

PATIENCE = 0.05  # seconds between looks at units that are all in the hands of other processes

Progress = Callable[[int, int, str], None]
"""(units finished, units in all, what the current one is)"""


class Executor(Protocol):
    """Computes units that the store does not hold. The inline one below is the reference for all others, and what each
    of several processes runs (workers.py)."""

    def __call__(self, units: Sequence[Unit], store: Store, batch: int, progress: Progress | None) -> list[Failure]: ...


@dataclass(frozen=True)
class Failure:
    """A unit that could not be computed. Nothing of it is stored: the next run tries again."""

    what: str
    error: str


def inline(units: Sequence[Unit], store: Store, batch: int, progress: Progress | None = None) -> list[Failure]:
    """One unit after another in this process. What a failed craft would have fed is left out and named once.

    Units that another process on the same store is computing are passed over, and looked at again after the others.
    """
    store.sweep()
    failures, broken, left = [], set(), list(units)
    held = sum(store.has(unit.key) for unit in units) if progress is not None else 0
    while left:
        open_keys, put_off = {unit.key for unit in left}, []
        for unit in left:
            needs = needed(unit)
            if needs is not None and needs.key in open_keys and not store.has(needs.key):
                put_off.append(unit)
                continue
            lacking = not store.has(unit.key)
            if progress is not None and lacking:
                progress(len(units) - len(open_keys), len(units), unit.what)
            if lacking and not (needs is not None and needs.key in broken):
                with store.claim(unit.key) as mine:
                    if not mine:
                        put_off.append(unit)
                        continue
                    try:
                        if not store.has(unit.key):
                            unit.run(store, batch)
                    except CaromError:
                        raise
                    except Exception as error:
                        broken.add(unit.key)
                        failures.append(Failure(unit.what, f"{type(error).__name__}: {error}"))
            open_keys.discard(unit.key)
        if len(put_off) == len(left):
            time.sleep(PATIENCE)
        left = put_off
    if progress is not None:
        progress(len(units), len(units), f"done, {held} of {len(units)} found in the store" if held else "done")
    return failures
