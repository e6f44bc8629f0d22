"""What a judgement says: a number with its interval, or in words why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from carom.common.base.specs import number
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.measure.cells import Spent
from carom.common.measure.rates import Bools, Rate, Verdict
from carom.common.measure.stats import wilson
from carom.common.robustness.alarms import Alarm
from carom.common.robustness.binarisation import Binarisation
from carom.common.work.executor import Failure
from carom.common.work.units import Craft

NUMBER = "robust accuracy"
NOT_ADAPTIVE = "not evaluated adaptively"
TOO_WEAK = "attack too weak"
FAILED = "not finished"


def share(hits: Bools) -> Rate:
    """Of all n examples, with Wilson's interval."""
    n, count = len(hits), int(hits.sum())
    return Rate(count / n, *wilson(count, n), n)


@dataclass(frozen=True)
class Remnant:
    """What one attacker leaves of a model."""

    kind: str  # of ATTACKERS
    attack: str
    source: str
    verdict: Verdict
    left: Rate  # right when clean, and afterwards right or rejected
    rejected: float | None  # share of what was crafted that is rejected; None of a model that never does
    spent: Spent
    crafts: Sequence[Craft] = ()

    def summary(self) -> dict[str, Any]:
        return {
            "attacker": self.kind,
            "attack": self.attack,
            "source": self.source,
            "evidence": self.kind in ("adaptive", "query"),
            "accuracy": self.left.value,
            "low": self.left.low,
            "high": self.left.high,
            "rejected": self.rejected,
            "forward": self.spent.forward,
            "backward": self.spent.backward,
            "queries": self.spent.queries,
            "seconds": self.spent.seconds,
        }


@dataclass(frozen=True)
class Price:
    """What the model costs who runs it."""

    passes: int  # forward passes of an answer
    seconds: float  # for the answer to an example, of a few asked together
    training: Mapping[str, Any] = field(default_factory=dict)  # what its card says of its training


@dataclass(frozen=True)
class Robust:
    """The judgement of one model."""

    model: Model
    data: Dataset
    threat: str
    clean: Verdict
    rows: Sequence[Remnant]
    standing: Bools  # bool[n]: right when clean, and whatever was tried leaves it right or rejected
    alarms: Sequence[Alarm]
    test: Binarisation | None  # None where it cannot be put
    curve: Sequence[tuple[str, Rate]]
    price: Price
    remarks: Sequence[str] = ()
    failures: Sequence[Failure] = ()
    rejected_clean: float | None = None
    seconds: float = 0.0

    @property
    def status(self) -> str:
        """NUMBER, or why there is none."""
        if self.failures:
            return FAILED
        if not any(row.kind == "adaptive" for row in self.rows):
            return NOT_ADAPTIVE
        if any(alarm.rings for alarm in self.alarms) or (self.test is not None and not self.test.passed):
            return TOO_WEAK
        return NUMBER

    @property
    def reasons(self) -> list[str]:
        """Why there is no number; or nothing."""
        said = [f"{one.what}: {one.error}" for one in self.failures]
        if not any(row.kind == "adaptive" for row in self.rows):
            said.append(
                "no attack ran that differentiates or searches through all that stands before the model: what answers "
                "to queries and transferred examples is no evidence"
            )
        if self.test is not None and not self.test.passed:
            said.append(f"binarisation test: {self.test.said()}")
        return said + [f"{alarm.name}: {alarm.said}" for alarm in self.alarms if alarm.rings]

    @property
    def accuracy(self) -> Rate:
        """Robust accuracy, where the attacks have passed their tests; else of no value."""
        return share(self.standing) if self.status == NUMBER else Rate(None, n=len(self.data))

    @property
    def at_most(self) -> Rate:
        """What all attackers together left: robust accuracy is at most that, whether or not they passed their tests."""
        return share(self.standing)

    def summary(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        robust, clean, most = self.accuracy, share(self.clean.right), self.at_most
        held = None if self.test is None else self.test
        return {
            "model": self.model.name,
            "modality": self.model.modality,
            "family": self.model.family.value,
            "data": self.data.name,
            "threat": self.threat,
            "n": len(self.data),
            "status": self.status,
            "reasons": self.reasons,
            "robust_accuracy": robust.value,
            "robust_low": robust.low,
            "robust_high": robust.high,
            "at_most": most.value,
            "clean_accuracy": clean.value,
            "clean_low": clean.low,
            "clean_high": clean.high,
            "rejected_clean": self.rejected_clean,
            "attacks": [row.summary() for row in self.rows],
            "alarms": [f"{alarm.name}: {alarm.said}" for alarm in self.alarms if alarm.rings],
            "checks": [{"name": a.name, "rings": a.rings, "said": a.said} for a in self.alarms],
            "binarisation": None
            if held is None
            else {
                "passed": held.passed,
                "solved": held.solved,
                "tested": held.tested,
                "unbuilt": held.unbuilt,
                "random": held.random,
                "said": held.said(),
            },
            "curve": [
                {"threat": at, "eps": number(at.split()[-1]), "accuracy": r.value, "low": r.low, "high": r.high}
                for at, r in self.curve
            ],
            "adaptation": list(getattr(self.model, "adaptation", ())),
            "passes": self.price.passes,
            "seconds": self.price.seconds,
            "training": dict(self.price.training),
            "remarks": list(self.remarks),
            "took": round(self.seconds, 1),
        }


def left(clean: Verdict, found: Verdict) -> Bools:
    """bool[n]: right and accepted when clean, and not fooled afterwards: right, or rejected."""
    return clean.right & ~found.fooled


def rejected_share(verdict: Verdict, rejects: bool) -> float | None:
    """The share of answers that are neither right nor wrong."""
    return float(np.mean(~verdict.right & ~verdict.fooled)) if rejects else None
