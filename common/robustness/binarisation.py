"""The binarisation test: can the attack solve a problem that is solvable by construction?

Zimmermann, Brendel, Tramer and Carlini 2022, Increasing confidence in adversarial robustness evaluations, section 3. Of
a clean example, points inside the budget and one on its rim are drawn. A linear readout on the model's features tells the
one on the rim from all the others: a model of two classes, with the whole defence inside, that has an adversarial example
by construction. An attack that does not find any is too weak, whatever it finds on the model itself.

Where it differs from the paper: the features are the model's own answers, so that detectors and votes stand in the way as
they do in earnest; the hidden point is, of several on the rim, the one that lies farthest out, so that random search does
not find it; the readout has a closed form (Fisher's discriminant) and the scale of the model's own margin.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from carom.common.attacks.info import AttackChoice
from carom.common.base.identity import Digest
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Output
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.rounding import within
from carom.common.core.spaces import Inputs
from carom.common.core.tasks import CLASSES
from carom.common.core.threats import Ball, confine
from carom.common.measure.rates import Bools
from carom.common.robustness.bench import Attacker, Bench, some

EXAMPLES = 16
"""Problems, where all of them are solved."""

MOST = 64
"""Problems, where some are not: of few, one alone would be more than a twentieth. The paper takes 512."""

INSIDE, RIM = 199, 64
"""Points drawn inside the budget and on its rim."""

NEAR, ON_RIM, LUCK = slice(0, 1 + INSIDE), slice(1 + INSIDE, 1 + INSIDE + RIM), slice(1 + INSIDE + RIM, None)
"""The clean example and the inner points; those of the rim, of which one is hidden; as many more, for random search."""

TRIES = 3
"""Points of the rim that are tried."""

DEPTH = 0.9
"""How far the inner points reach, of the budget."""

ENOUGH = 0.95
"""The share of problems that an attack has to solve (the paper's)."""

GIVE_UP = 4
"""Problems that have failed when the rest is left: of MOST, more than a twentieth."""

DRAWS = 16
"""Of a random model, that its features are means of; of one that votes over several, fewer."""

TWO = ("as it was", "hidden")


@dataclass(frozen=True)
class Binarisation:
    """The outcome of the test."""

    solved: int
    tested: int
    unbuilt: int  # examples on whose features no readout tells a point of the rim from the inner ones
    random: int  # of the problems tested, those that as many random points of the rim solve

    @property
    def passed(self) -> bool:
        return self.tested > 0 and self.solved >= ENOUGH * self.tested

    def said(self) -> str:
        """In words."""
        if not self.tested:
            return f"no solvable problem could be made of {self.unbuilt} examples: the answers hardly move within the budget"
        least = "" if self.passed else f"; {ENOUGH:.0%} are asked for"
        return (
            f"the attacks solve {self.solved} of {self.tested} problems that are solvable by construction, {RIM} random "
            f"points {self.random}{least}"
        )


class Binarised(Model):
    """A model of two classes: a readout w·logits - t on the answers of another, rejection included."""

    def __init__(self, base: Model, weights: Tensor, offset: float) -> None:
        facts = repr((base.digest, [round(w, 9) for w in weights.tolist()], round(offset, 9)))
        digest = Digest(hashlib.sha256(facts.encode()).hexdigest())
        digest.why = getattr(base.digest, "why", "")
        super().__init__(f"{base.name} (binarised)", base.modality, base.family, base.space, TWO, digest)
        self.base, self.weights, self.offset = base, weights, offset
        self.device, self.shape = base.device, getattr(base, "shape", None)
        self.access = base.access & (Access.LABEL | Access.SCORE | Access.GRADIENT)
        self.rejects, self.random = base.rejects, base.random
        self.draws = drawn_of(base)
        self.passes = base.passes * self.draws
        self._rng: Rng | None = None

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        bases = [
            self.base if self._rng is None else self.base.keyed(self._rng.fold("one", k)) for k in range(self.draws)
        ]
        outputs = [base(inputs, lengths) for base in bases]
        logits = torch.stack([output.logits.float() for output in outputs]).mean(0)
        value = logits @ self.weights.to(logits.device) - self.offset
        return outputs[0]._replace(logits=torch.stack([-value / 2, value / 2], 1))

    def keyed(self, rng: Rng) -> Model:
        other = copy.copy(self)
        other._rng = rng if self.random else None
        return other

    def settle(self, batch: Batch, width: int | None) -> None:
        """The base has settled already."""

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with self.base.frozen():
            yield


def drawn_of(model: Model) -> int:
    """How many draws of a model its features are means of."""
    return max(1, -(-DRAWS // model.passes)) if model.random else 1


def applies(model: Model, data: Dataset, bench: Bench, chosen: tuple[AttackChoice, ...]) -> bool:
    """Whether the test can be put: inputs in a ball, answers that are classes, and an attack that a readout admits."""
    passed = model.access & (Access.LABEL | Access.SCORE | Access.GRADIENT)
    fits = [one for one in chosen if one.info.needs in passed and one.info.models == "any"]
    ball = isinstance(bench.threat, Ball) and not bench.threat.counts
    return bool(fits) and ball and data.task == CLASSES and Access.SCORE in model.access


def binarisation(
    bench: Bench, model: Model, data: Dataset, right: Bools, chosen: tuple[AttackChoice, ...]
) -> Binarisation:
    """Put the test to the attacks, which count together, on examples that the model gets right."""
    part, _ = some(data, right, MOST)
    solved = tested = unbuilt = lucky = 0
    for row in range(0 if part is None else len(part)):
        assert part is not None
        if (row >= EXAMPLES and solved == tested) or tested - solved >= GIVE_UP:
            break
        bench.step("binarisation test")
        example = part.take(torch.tensor([row]))
        problem = build(bench, model, example)
        if problem is None:
            unbuilt += 1
            continue
        binary, luck = problem
        asked = replace(example, labels=torch.zeros(1, dtype=torch.long), classes=TWO)
        tested, lucky = tested + 1, lucky + luck
        fits = [one for one in chosen if one.runs_on(binary)]
        solved += any(_solves(bench, binary, one, asked) for one in fits)
    return Binarisation(solved, tested, unbuilt, lucky)


def _solves(bench: Bench, binary: Binarised, chosen: AttackChoice, asked: Dataset) -> bool:
    found = bench.attacked(binary, Attacker("adaptive", binary, chosen), asked)
    return found is not None and bool(found.verdict.fooled[0])


def build(bench: Bench, model: Model, example: Dataset) -> tuple[Binarised, bool] | None:
    """(the model with a readout, whether random points solve it), of one example; None where no readout does."""
    threat, space = bench.threat, model.space
    assert isinstance(threat, Ball)
    batch = example.batch()
    x0 = batch.inputs

    def drawn(name: str, count: int) -> Tensor:
        """Points of the rim in stored form; called "inside", of the inner ball."""
        rng = Rng.of(bench.seed, [f"{batch.ids[0]} {number}" for number in range(count)]).fold("binarisation", name)
        near, inside = x0.expand(count, *x0.shape[1:]), name == "inside"
        x = threat.start(near, rng) if inside else threat.extend(threat.noise(near, rng), near)
        change = confine(x - near, batch.mask()) * (DEPTH if inside else 1.0)
        return within(threat, space, space.clamp(near + change), near)

    points = torch.cat([x0, *(drawn(*what) for what in (("inside", INSIDE), ("rim", RIM), ("luck", RIM)))])
    logits, rejected = _answers(bench, model, example, points, "first")
    # Of a random model the point that its draws favoured is looked at anew.
    again = _answers(bench, model, example, points, "again")[0] if model.random else logits
    for at, weights in _readouts(logits, rejected):
        value = again @ weights
        hidden, middle = value[at], _threshold(value, at, model.random)
        if middle is None:
            continue
        ordered = logits[0].sort(descending=True).values
        margin = (ordered[0] - ordered[1]).clamp_min(1e-2)
        scale = margin / (middle - value[0]).clamp_min(1e-30)
        binary = Binarised(model, (weights * scale).float(), float(middle * scale))
        if bool(hidden > middle) and _holds(bench, binary, example, points[[0, at]]):
            return binary, bool(((value > middle) & ~rejected)[LUCK].any())
    return None


def _readouts(logits: Tensor, rejected: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(a point of the rim, weights float64[C] of Fisher's discriminant between it and the inner points) for the few that
    lie farthest out and are not rejected."""
    centre = logits[NEAR].mean(0)
    spread = (logits[NEAR] - centre).T @ (logits[NEAR] - centre) / (1 + INSIDE)
    spread += (1e-4 * spread.diagonal().mean() + 1e-12) * torch.eye(len(spread), dtype=spread.dtype)
    far = logits[ON_RIM] - centre
    out = (torch.linalg.solve(spread, far.T).T * far).sum(1)
    for at in out.argsort(descending=True)[:TRIES].tolist():
        if not bool(rejected[ON_RIM][at]):
            weights = torch.linalg.solve(spread, far[at])
            yield ON_RIM.start + at, weights / weights.abs().amax().clamp_min(1e-30)


def _threshold(value: Tensor, at: int, random: bool) -> Tensor | None:
    """Where the hidden point begins, given what the readout makes of all points float64[M]: midway to the largest of the
    others below it, of random models to that of the inner points. None where an inner point lies beyond."""
    hidden = value[at]
    if not bool((value[NEAR] < hidden).all()):
        return None
    others = value[NEAR] if random else value[: LUCK.start]
    return (others[others < hidden].amax() + hidden) / 2


def _answers(bench: Bench, model: Model, example: Dataset, points: Tensor, look: str) -> tuple[Tensor, Tensor]:
    """(logits float64[M, C], which points are rejected bool[M])"""
    ids = [f"{example.ids[0]} {number}" for number in range(len(points))]
    lengths = None if example.lengths is None else example.lengths.expand(len(points))
    batch = Batch(points, example.labels.expand(len(points)), ids, lengths)
    logits, rejected = torch.zeros(0), torch.zeros(len(points), dtype=torch.bool)
    for draw in range(drawn_of(model)):
        asked = model.ask(batch, lambda output: (output.logits, output.rejected), bench.batch, stream=f"{look} {draw}")
        order = torch.cat([rows for rows, _ in asked]).argsort()
        own = torch.cat([logits for _, (logits, _) in asked])[order].double()
        logits = own if not draw else logits + own
        if model.rejects:
            rejected |= torch.cat([no for _, (_, no) in asked if no is not None])[order]
    return logits / drawn_of(model), rejected


def _holds(bench: Bench, binary: Binarised, example: Dataset, pair: Tensor) -> bool:
    """Whether the binary model, asked as it will be judged, takes the clean example for what it was and the hidden point,
    unrejected, for the other."""
    for x, wanted, stream in ((pair[:1], 0, "clean"), (pair[1:], 1, f"attacked {bench.seed}")):
        batch = replace(example.batch(), inputs=x)
        [(_, output)] = binary.ask(batch, lambda output: output, stream=stream)
        if int(output.logits.argmax(1)) != wanted or (output.rejected is not None and bool(output.rejected[0])):
            return False
    return True
