"""Several models judged alike: which defence helps, by how much, at what clean cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from carom.common.measure.stats import holm, mcnemar
from carom.common.robustness.outcome import NUMBER, Robust
from carom.common.robustness.story import story_of
from carom.common.work.executor import Failure
from carom.common.work.store import Store


@dataclass(frozen=True)
class Entry:
    """One model of a judgement."""

    base: str  # the name of what stands behind the defence
    defence: str  # "" without one
    robust: Robust


@dataclass(frozen=True)
class Judgement:
    """Models of one modality under the same attackers, on the same examples."""

    entries: Sequence[Entry]
    store: Store
    seconds: float = 0.0

    @property
    def failures(self) -> list[Failure]:
        return [failure for entry in self.entries for failure in entry.robust.failures]

    def undefended(self, entry: Entry) -> Entry | None:
        """The same model without the defence."""
        if not entry.defence:
            return None
        return next((one for one in self.entries if one.base == entry.base and not one.defence), None)

    def _compared(self, entry: Entry) -> dict[str, Any]:
        """What a defence costs on clean inputs, and gains where both have a number, on the same examples."""
        plain = self.undefended(entry)
        if plain is None:
            return {"clean_cost": None, "gain": None, "gain_p": None}
        mine, theirs = entry.robust, plain.robust
        cost = float(theirs.clean.right.mean() - mine.clean.right.mean())
        if mine.status != NUMBER or theirs.status != NUMBER:
            return {"clean_cost": cost, "gain": None, "gain_p": None}
        gained, lost = (
            int((a & ~b).sum()) for a, b in ((mine.standing, theirs.standing), (theirs.standing, mine.standing))
        )
        return {"clean_cost": cost, "gain": (gained - lost) / len(mine.data), "gain_p": mcnemar(gained, lost)}

    def summary(self) -> dict[str, Any]:
        """What `--json` prints of it: one object a model in `models`. `gain_p` is McNemar's mid-p value of the gain in
        robust accuracy, Holm's correction over all gains."""
        rows = []
        for entry in self.entries:
            told = entry.robust.summary()
            rows.append({**told, "base": entry.base, "defence": entry.defence, **self._compared(entry)})
        tested = [row for row in rows if row["gain_p"] is not None]
        for row, p in zip(tested, holm([row["gain_p"] for row in tested]), strict=True):
            row["gain_p"] = p
        first = self.entries[0].robust
        found: dict[str, Any] = {
            "data": first.data.name,
            "examples": len(first.data),
            "threat": first.threat,
            "models": rows,
            "seconds": round(self.seconds, 1),
        }
        return {**found, "story": story_of(found)}
