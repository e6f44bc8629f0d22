"""The judgement of one model: every attacker, the worst case per example, and the tests of the attackers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.attacks.info import AttackChoice
from carom.common.base.specs import number
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.problem import Status
from carom.common.core.tasks import CLASSES
from carom.common.core.threats import Ball, Threat
from carom.common.measure.rates import Bools, Rate, Verdict
from carom.common.models.mismatch import settle
from carom.common.robustness.alarms import Alarm, Probes, Tried, ring
from carom.common.robustness.bench import Attacked, Attacker, Bench
from carom.common.robustness.binarisation import EXAMPLES, Binarisation, applies, binarisation
from carom.common.robustness.outcome import Price, Remnant, Robust, left, rejected_share, share
from carom.common.study.doubts import Warn, by_warnings, doubt_of


@dataclass(frozen=True)
class Case:
    """A model to be judged, by whom, within what."""

    model: Model
    data: Dataset
    threat: Threat
    label: str  # of the threat
    adaptive: tuple[AttackChoice, ...]
    query: tuple[AttackChoice, ...] = ()
    transferred: tuple[Attacker, ...] = ()
    tests: Probes = field(default_factory=Probes)
    curve: tuple[tuple[str, Threat], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def attackers(self) -> list[Attacker]:
        own = [Attacker("adaptive", self.model, one) for one in self.adaptive]
        return [*self.transferred, *own, *(Attacker("query", self.model, one) for one in self.query)]


def judge(case: Case, bench: Bench, warn: Warn = by_warnings) -> Robust:
    """Judge one model. What the store of the bench holds is not computed again."""
    started = time.perf_counter()
    model, data = case.model, case.data
    settle(model, data)
    attackers, failed = case.attackers, len(bench.failures)
    bench.done, bench.total = 0, 1 + len(attackers) + len(case.curve) + 4 + EXAMPLES
    bench.step(f"{model.name}: clean")
    clean = bench.clean(model, data)
    if data.task == CLASSES and (doubt := doubt_of(model, clean.kind, data.labels.numpy(), data.classes)):
        warn(doubt)
    rows, found = [], []
    for by in attackers:
        bench.step(f"{model.name}: {by.kind}, {by.chosen.info.name}")
        if (one := bench.attacked(model, by, data)) is not None:
            found.append((by, one))
            rows.append(_row(by, one, clean, model))
    standing = clean.right.copy()
    for _, one in found:
        standing &= ~one.verdict.fooled
    own = {by.chosen.label: one for by, one in found if by.kind == "adaptive"}
    alarms: list[Alarm] = []
    test: Binarisation | None = None
    if own and clean.right.any():
        alarms, extra = ring(bench, Tried(model, data, clean.right, own, case.adaptive), case.tests)
        for places, fooled in extra.values():
            standing[places[fooled]] = False
        if applies(model, data, bench, case.adaptive):
            test = binarisation(bench, model, data, clean.right, case.adaptive)
    curve = _curve(case, bench, clean, standing) if own else []
    bench.done = bench.total
    bench.step("done")
    return Robust(
        model=model,
        data=data,
        threat=case.label,
        clean=clean,
        rows=rows,
        standing=standing,
        alarms=alarms,
        test=test,
        curve=curve,
        price=Price(model.passes, _answering(model, data), case.training),
        remarks=(*case.remarks, *_remarks(case, bench, test is None and bool(own), own)),
        failures=bench.failures[failed:],
        rejected_clean=rejected_share(clean, model.rejects),
        seconds=time.perf_counter() - started,
    )


def _row(by: Attacker, one: Attacked, clean: Verdict, model: Model) -> Remnant:
    return Remnant(
        kind=by.kind,
        attack=by.chosen.label,
        source=by.source.name,
        verdict=one.verdict,
        left=share(left(clean, one.verdict)),
        rejected=rejected_share(one.verdict, model.rejects),
        spent=one.spent,
        crafts=one.crafts,
    )


TIMED = 16
"""Examples whose answers are timed."""


def _answering(model: Model, data: Dataset) -> float:
    """Seconds that the answer to an example takes, a few asked together: the median of three, after one that is not
    counted, since a first call builds what later ones use."""
    some = data.batch(0, TIMED)
    spent = []
    for _ in range(4):
        began = time.perf_counter()
        model.ask(some, lambda output: None)
        spent.append(time.perf_counter() - began)
    return median(spent[1:]) / len(some)


def _remarks(case: Case, bench: Bench, untested: bool, own: Mapping[str, Attacked]) -> list[str]:
    said = []
    if untested:
        said.append(
            "the binarisation test was not put: it needs a ball of inputs, scores, and an attack that uses them alone"
        )
    if not case.tests.unbounded and own:
        said.append("no attack without any bound was tried: the modality has none")
    for label, one in own.items():
        if idle := int(one.ended(Status.INFEASIBLE).sum()):
            said.append(
                f"{label}: {idle} of {len(case.data)} examples had nothing that could be changed within the budget"
            )
    return said


# The curve over budgets.


def reach(threat: Threat, label: str, data: Dataset) -> float:
    """How far a threat lets an example go, to order budgets by: the radius of a ball, else the budget as it is written."""
    x = data.batch(0, min(len(data), 16)).inputs
    return (
        float(threat.radius(x).mean())
        if isinstance(threat, Ball) and isinstance(x, Tensor)
        else number(label.split()[-1])
    )


def _curve(case: Case, bench: Bench, clean: Verdict, standing: Bools) -> list[tuple[str, Rate]]:
    """Robust accuracy at other budgets, by the adaptive attacks. An example that fell stays fallen where more is allowed,
    and one that stands stands where less is: only the others are attacked at each."""
    if not case.curve:
        return [(case.label, share(standing))]
    own = reach(case.threat, case.label, case.data)
    found = [(own, case.label, standing)]
    points = sorted(((reach(t, label, case.data), label, t) for label, t in case.curve), key=lambda point: point[0])
    fallen = clean.right & ~standing
    for at, label, threat in [point for point in reversed(points) if point[0] < own]:
        fallen = fallen & _fooled(case, bench, fallen, label, threat)
        found.append((at, label, clean.right & ~fallen))
    still = standing.copy()
    for at, label, threat in [point for point in points if point[0] > own]:
        still = still & ~_fooled(case, bench, still, label, threat)
        found.append((at, label, still))
    return [(label, share(left)) for _, label, left in sorted(found, key=lambda point: point[0])]


def _fooled(case: Case, bench: Bench, among: Bools, label: str, threat: Threat) -> Bools:
    """bool[n]: which of the examples meant the adaptive attacks fool within another budget."""
    fooled, rows = np.zeros(len(among), np.bool_), np.flatnonzero(among)
    bench.step(f"{case.model.name}: {label}")
    for chosen in case.adaptive:
        rows = np.flatnonzero(among & ~fooled)
        if not len(rows):
            break
        part = case.data.take(torch.from_numpy(rows))
        found = bench.attacked(case.model, Attacker("adaptive", case.model, chosen), part, threat)
        if found is not None:
            fooled[rows[found.verdict.fooled]] = True
    return fooled
