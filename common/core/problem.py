"""The nouns every attack shares: a Problem goes in, a Result comes out, whatever the modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.spaces import Inputs
from carom.common.core.tasks import AttackGoal

if TYPE_CHECKING:
    from carom.common.core.model import Model
    from carom.common.core.threats import Threat


@dataclass(frozen=True)
class Budget:
    """Hard limits per example; None is unlimited."""

    queries: int | None = None


@dataclass(frozen=True)
class Problem:
    """What is attacked, to what end, within which budget."""

    model: Model
    goal: AttackGoal
    threat: Threat
    budget: Budget = field(default_factory=Budget)
    others: Batch | None = None  # clean examples the attacker has besides; none of them is under attack
    stream: tuple[
        str | int, ...
    ] = ()  # tells this problem's questions from others': random models answer them otherwise
    eot: int | None = None  # how many draws of a random model are averaged; None: as many as the model says


class Status(IntEnum):
    """How the attack on one example ended."""

    DONE = 0  # the attack ran; `success` says whether it reached the goal
    SKIPPED = 1  # the goal was reached before anything was changed
    BAD_GRADIENT = 2  # a gradient or score was not finite: the example is unchanged
    NO_GRADIENT = 3  # every gradient was zero: the example is unchanged
    INFEASIBLE = 4  # nothing within the budget can be tried: the example is unchanged


@dataclass(frozen=True)
class Cost:
    """Per example, int64[N] each: rows sent through the model, rows differentiated, answers an attacker pays for."""

    forward: Tensor
    backward: Tensor
    queries: Tensor

    @classmethod
    def join(cls, costs: Sequence[Cost]) -> Cost:
        """Of consecutive examples."""
        return cls(*(torch.cat([getattr(cost, name) for cost in costs]) for name in COUNTS))


COUNTS = ("forward", "backward", "queries")
"""The columns that a cost is stored as."""


@dataclass(frozen=True)
class Result:
    """Adversarial inputs in stored form's values (already rounded), and what they cost."""

    inputs: Inputs
    success: Tensor  # bool[N], of the stored inputs on the attacked model
    cost: Cost
    status: Tensor  # int64[N] of Status
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    """What the user has to be warned of, as what is said of the examples -> bool[N]: of which. An attack names the same
    things whatever it is asked to do."""


class Attack(Protocol):
    """One way to solve problems."""

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result: ...
