"""Alarms: cheap attacks beside the ones that count, whose success would say that those are too weak.

They are the checks of Athalye, Carlini and Wagner 2018 (Obfuscated gradients give a false sense of security, section 3),
Carlini et al. 2019 (On evaluating adversarial robustness) and AutoAttack's released code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from carom.common.attacks.info import AttackChoice
from carom.common.attacks.worst_case import MASKED, STUCK
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.problem import Status
from carom.common.core.threats import Threat
from carom.common.measure.rates import Bools
from carom.common.robustness.bench import Attacked, Attacker, Bench, some

EXAMPLES = 64
"""On how many examples, that are right when clean, alarms are tried."""

SLACK = 0.02
"""Share of them that two attacks may differ by: AutoAttack's own rounding, and an example or two of few."""

MOST_STUCK = 0.05
"""Share of examples with zero gradients that is not yet called masking."""


@dataclass(frozen=True)
class Alarm:
    """One check of the attacks that count."""

    name: str
    rings: bool
    said: str  # what was seen, in words


@dataclass(frozen=True)
class Probes:
    """What alarms try on the model; None where threat or model admit no such attack."""

    one_step: AttackChoice | None = None
    many_steps: AttackChoice | None = None
    longer: AttackChoice | None = None
    black_box: AttackChoice | None = None
    unbounded: tuple[AttackChoice, Threat] | None = None


@dataclass(frozen=True)
class Tried:
    """What has been tried already: the model, the data, what is right when clean, and what the adaptive attacks did."""

    model: Model
    data: Dataset
    right: Bools
    by: Mapping[str, Attacked]  # label of an adaptive attack -> what it did, on all the data
    chosen: tuple[AttackChoice, ...]

    @property
    def standing(self) -> Bools:
        """bool[n]: right when clean, and fooled by no adaptive attack."""
        fooled = [one.verdict.fooled for one in self.by.values()]
        return self.right & ~np.any([np.zeros_like(self.right), *fooled], axis=0)


Extra = dict[str, tuple[np.ndarray, Bools]]
"""What alarms fooled besides: attack -> (rows of the data int64[m], which of them bool[m])."""


def ring(bench: Bench, tried: Tried, tests: Probes) -> tuple[list[Alarm], Extra]:
    """Every alarm that can be tried, and what the attacks behind them fooled within the budget."""
    extra: Extra = {}

    def fooled_by(chosen: AttackChoice | None, among: Bools, threat: Threat | None = None) -> Bools | None:
        """bool[m] of at most EXAMPLES examples; None where there is no such attack."""
        part, rows = some(tried.data, among, EXAMPLES)
        if chosen is None or part is None:
            return None
        bench.step(f"alarms: {chosen.info.name}")
        found = bench.attacked(tried.model, Attacker("adaptive", tried.model, chosen), part, threat)
        if found is None:
            return None
        if threat is None:
            extra[chosen.label] = rows, found.verdict.fooled
        return found.verdict.fooled

    alarms = [
        *_one_step(tests, lambda chosen: fooled_by(chosen, tried.right)),
        *_beyond(tried, tests, lambda chosen: fooled_by(chosen, tried.standing)),
        *_unbounded(tests, lambda chosen, threat: fooled_by(chosen, tried.right, threat)),
        *_gradients(tried),
        *_draws(bench, tried),
    ]
    return alarms, extra


def more(count: int, n: int) -> bool:
    """Whether so many of n are more than two attacks may differ by."""
    return count > max(1, SLACK * n)


def _one_step(tests: Probes, fooled_by: Callable[[AttackChoice | None], Bools | None]) -> Iterator[Alarm]:
    one, many = fooled_by(tests.one_step), fooled_by(tests.many_steps)
    if one is None or many is None or tests.one_step is None or tests.many_steps is None:
        return
    said = f"{tests.one_step.label} fools {one.sum()} of {len(one)} examples, {tests.many_steps.label} {many.sum()}"
    yield Alarm("one step stronger than many", more(int(one.sum()) - int(many.sum()), len(one)), said)


def _beyond(tried: Tried, tests: Probes, fooled_by: Callable[[AttackChoice | None], Bools | None]) -> Iterator[Alarm]:
    """What scores alone, or more steps, find beyond the attacks that count."""
    n = int(tried.right.sum())
    longer, scores = fooled_by(tests.longer), fooled_by(tests.black_box)
    masked = np.any([np.zeros(len(tried.data), np.bool_), *(a.noted(MASKED) for a in tried.by.values())], axis=0)
    alone = int((masked & tried.right).sum())
    if scores is not None and tests.black_box is not None:
        said = f"{tests.black_box.label} fools {scores.sum()} of {len(scores)} that the adaptive attacks left"
        yield Alarm("black box stronger than white box", more(int(scores.sum()) + alone, n), said + _alone(alone))
    elif alone:
        yield Alarm("black box stronger than white box", more(alone, n), _alone(alone).removeprefix("; "))
    if longer is not None and tests.longer is not None:
        said = f"{tests.longer.label} fools {longer.sum()} of {len(longer)} that the adaptive attacks left"
        yield Alarm("more steps still gaining", more(int(longer.sum()), len(longer)), said)


def _alone(count: int) -> str:
    return f"; {count} fell to scores after every attack by gradients had failed" if count else ""


def _unbounded(tests: Probes, fooled_by: Callable[[AttackChoice, Threat], Bools | None]) -> Iterator[Alarm]:
    if tests.unbounded is None:
        return
    chosen, threat = tests.unbounded
    fooled = fooled_by(chosen, threat)
    if fooled is not None:
        said = f"{chosen.label} without any bound fools {fooled.sum()} of {len(fooled)} examples"
        yield Alarm("unbounded attack below 1", bool(fooled.sum() < len(fooled)), said)


def _gradients(tried: Tried) -> Iterator[Alarm]:
    """Zero gradients, and such as are no numbers."""
    marks = (Status.NO_GRADIENT, Status.BAD_GRADIENT)
    stuck = [(a.ended(*marks) | a.noted(STUCK)) & tried.right for a in tried.by.values()]
    if not stuck:
        return
    count, n = int(np.all(stuck, axis=0).sum()), int(tried.right.sum())
    said = f"{count} of {n} examples gave the adaptive attacks gradients of zero, or none that are numbers"
    yield Alarm("zero gradients", count > MOST_STUCK * n, said)


def _draws(bench: Bench, tried: Tried) -> Iterator[Alarm]:
    """Answers that vary, and an attack that does not take their mean."""
    model, name = tried.model, "randomness without expectation"
    if model.random:
        draws = min([chosen.eot or model.eot for chosen in tried.chosen], default=model.eot)
        said = f"the model draws anew for every answer; the attacks average {draws} draws"
        yield Alarm(name, draws == 1 and model.passes == 1, said)
    elif not model.recorded:
        part, _ = some(tried.data, tried.right, EXAMPLES)
        if part is not None:
            first, second = (bench_answers(model, part, bench.batch) for _ in range(2))
            vary = int((~np.isclose(first, second, rtol=1e-3, atol=1e-4)).any(1).sum())
            said = f"{vary} of {len(part)} examples were answered otherwise when asked again"
            yield Alarm(name, vary > 0, said)


def bench_answers(model: Model, data: Dataset, batch: int) -> np.ndarray:
    """float[n, C]: the logits, in the order of the data."""
    parts = model.ask(data.batch(), lambda output: output.logits, batch)
    logits = np.concatenate([part.reshape(len(part), -1).numpy() for _, part in parts])
    return np.asarray(logits[np.concatenate([rows.numpy() for rows, _ in parts]).argsort()])
