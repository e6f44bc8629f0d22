"""Objectives on an inner layer: what attacks on features climb, which other models share more than they share logits.

Each is prepared for one batch (carom.common.attacks.gradient.step): the layer is tapped, what the attack has to
know of the clean inputs is asked, and counted, once. `layer` names the layer; None leaves it to
carom.common.models.layers.Tap.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.attacks.gradient.ascent import Ascent
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal
from carom.common.core.objectives import Objective, confidence, logit
from carom.common.core.oracle import Oracle
from carom.common.core.threats import column
from carom.common.models.layers import Tap, tapped


def along(tap: Tap, direction: Tensor) -> Objective:
    """The features' component along a direction float[N, ...] of each example."""

    def objective(logits: Tensor, goal: Goal) -> Tensor:
        features = tap.rows(len(logits))
        towards = direction.repeat(len(logits) // max(1, len(direction)), *[1] * (features.dim() - 1))
        return (features * towards).flatten(1).sum(1)

    return objective


def unit(x: Tensor) -> Tensor:
    """Each example over its norm."""
    return x / column(x.flatten(1).norm(dim=1).clamp_min(1e-30), x)


def mean_gradient(
    oracle: Oracle, tap: Tap, objective: Objective, inputs: Callable[[int], Tensor], count: int
) -> Tensor:
    """float[N, ...]: the mean of d objective / d features over inputs(0) to inputs(count - 1), N examples each."""
    n, total, start = len(oracle.batch), None, 0
    while start < count:
        chosen = range(start, min(start + oracle.copies_at_once(), count))
        x = torch.cat([inputs(number) for number in chosen])
        grad, _, _ = oracle.gradient(objective, x, len(chosen), at=lambda: tap.whole)
        for part in grad[: len(x)].split(n) if n else [grad[:0]]:
            total = part if total is None else total + part
        start = chosen[-1] + 1
    assert total is not None, "a mean over no inputs"
    return total / count


@dataclass(frozen=True)
class Important:
    """Away from the features that the label rests on: each weighed by the mean gradient of its logit over inputs of
    which a share `drop` of the pixels is black (FIA, Wang et al. 2021).

    Targeted, towards the features of the target's logit, for which the paper has no formula. Its code masks inputs
    after they were normalised.
    """

    layer: str | None = None
    samples: int = 30
    drop: float = 0.3

    @property
    def passes(self) -> int:
        """Gradients before the first step."""
        return self.samples

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[Objective]:
        clean = oracle.batch.inputs
        assert isinstance(clean, Tensor)

        def masked(number: int) -> Tensor:
            return clean * (rng.fold("mask", number).uniform(*clean.shape[1:]) >= self.drop)

        with tapped(oracle.problem.model, self.layer) as tap:
            weights = mean_gradient(oracle, tap, logit, masked, self.samples)
            yield along(tap, unit(weights))


@dataclass(frozen=True)
class Attributed:
    """Away from the features that the label is attributed to: each neuron's change from a black input times the mean
    gradient of the label's probability along the way from there (NAA, Zhang et al. 2022), those in favour of the
    label and, `balance` times, those against it (both linear, which the paper finds best).

    The inputs on the way are blurred by normal noise of scale `noise`, as in the released code; the paper has none.
    """

    layer: str | None = None
    samples: int = 30
    balance: float = 1.0
    noise: float = 0.1

    @property
    def passes(self) -> int:
        """Gradients before the first step."""
        return self.samples + 1

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[Objective]:
        clean = oracle.batch.inputs
        assert isinstance(clean, Tensor)

        def between(number: int) -> Tensor:
            noise = self.noise * rng.fold("noise", number).normal(*clean.shape[1:])
            return (clean + noise) * (1 - number / self.samples)

        with tapped(oracle.problem.model, self.layer) as tap:
            weights = unit(mean_gradient(oracle, tap, confidence, between, self.samples))
            oracle.logits(torch.zeros_like(clean), pays=False)
            base = tap.rows(len(clean)).detach()

            def objective(logits: Tensor, goal: Goal) -> Tensor:
                features = tap.rows(len(logits))
                copies = (len(logits) // max(1, len(base)), *[1] * (base.dim() - 1))
                # Of what is gained by leaving the label, what it has to lose is below zero.
                gained = (features - base.repeat(copies)) * weights.repeat(copies)
                return torch.where(gained < 0, gained, self.balance * gained).flatten(1).sum(1)

            yield objective


@dataclass(frozen=True)
class Alike:
    """An objective, and `weight` times the cosine between a layer's features of the two views of each pair, which a
    transform of two copies makes (SU, Wei et al. 2023, eq. 7: of an image and a part of it under one perturbation).

    Untargeted, for which the paper has no formula, the features are held alike too.
    """

    objective: Objective = logit
    weight: float = 1e-3
    layer: str | None = None

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[Objective]:
        n = len(oracle.batch)
        with tapped(oracle.problem.model, self.layer) as tap:

            def objective(logits: Tensor, goal: Goal) -> Tensor:
                value = self.objective(logits, goal)
                if not n or len(logits) % (2 * n):
                    return value
                first, second = tap.rows(len(logits)).flatten(1).view(-1, 2, n, tap.rows(1).numel()).unbind(1)
                cosine = F.cosine_similarity(first, second, dim=2)
                return value + self.weight * torch.stack([cosine, cosine], 1).flatten()

            yield objective


@dataclass(frozen=True)
class Onward:
    """As far as possible along the change of the features that a first attack made (ILA, Huang et al. 2019: its
    projection loss).

    As in the released code the climb starts anew from the clean input.
    """

    first: Ascent = field(default_factory=Ascent)
    layer: str | None = None

    @property
    def passes(self) -> int:
        """Gradients before the first step, its two forward passes to the layer taken as one."""
        return self.first.passes * self.first.steps + 1

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[Objective]:
        clean = oracle.batch.inputs
        assert isinstance(clean, Tensor)
        reached, _ = self.first.climb(oracle, rng.fold("first"))
        with tapped(oracle.problem.model, self.layer) as tap:
            features = []
            for x in (clean, reached):
                oracle.logits(x, pays=False)
                features.append(tap.rows(len(x)).detach())
            yield along(tap, unit(features[1] - features[0]))
