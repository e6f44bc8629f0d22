"""Ensembles: several models that answer as one, and stay open to attacks that read them one by one."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch, Family, Output
from carom.common.core.model import Model
from carom.common.core.objectives import Objective
from carom.common.core.spaces import Box, Inputs
from carom.common.core.tasks import AttackGoal

FUSES = ("logits", "probabilities", "losses")


class Ensemble(Model):
    """Models of the same inputs and classes, fused with equal weights (Liu et al. 2017; Dong et al. 2018, section 3.4).

    - `fuse="logits"`: the answer is the mean of the members' logits.
    - `fuse="probabilities"`: the logarithm of the mean of their probabilities.
    - `fuse="losses"`: an attack climbs the mean of the members' losses. The answer is the mean of their logits, whose
      largest is the class of least mean cross-entropy.

    One answer costs one pass of every member. The ensemble grants what all members grant. Gradients it grants for real
    inputs only: those of texts are each model's own embeddings'.
    """

    def __init__(self, members: Sequence[Model], fuse: str = "logits", name: str | None = None) -> None:
        if fuse not in FUSES:
            raise UnknownName("fusion", fuse, FUSES)
        if not members:
            raise CaromError("an ensemble of no models answers nothing: name at least one.")
        first = members[0]
        for member in members[1:]:
            for what in ("modality", "space", "classes"):
                if getattr(member, what) != getattr(first, what):
                    raise CaromError(
                        f"{member.name} and {first.name} cannot answer together: their {what} differ "
                        f"({_short(getattr(member, what))}; {_short(getattr(first, what))})."
                    )
        if refusing := [member.name for member in members if member.rejects]:
            raise CaromError(f"{', '.join(refusing)} may reject an input, and a mean of answers cannot: leave it out.")
        families = {member.family for member in members}
        called = "+".join(member.name for member in members) + (f"?fuse={fuse}" if fuse != "logits" else "")
        super().__init__(
            called if name is None else name,
            first.modality,
            families.pop() if len(families) == 1 else Family.OTHER,
            first.space,
            first.classes,
            _digest(members, fuse),
        )
        self.members = tuple(members)
        self.fuse = fuse
        self.passes = sum(member.passes for member in members)
        self.random = any(member.random for member in members)
        self.eot = max(member.eot for member in members)
        self.access = Access.MEMBERS | _shared(members)
        self.device = first.device
        self._weights: Tensor | None = None

    def renew(self) -> None:
        for member in self.members:
            member.renew()
        self.digest = _digest(self.members, self.fuse)

    def settle(self, batch: Batch, width: int | None) -> None:
        for member in self.members:
            member.settle(batch, width)

    def weighted(self, weights: Tensor) -> Ensemble:
        """The same members with shares float[N, K] for each of N examples, which add up to 1. Stacked copies of the N
        examples each take the shares of their example."""
        other = copy.copy(self)
        other._weights = weights
        return other

    def keyed(self, rng: Rng) -> Ensemble:
        other = copy.copy(self)
        other.members = tuple(m.keyed(rng.fold("member", place)) for place, m in enumerate(self.members))
        return other

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        return Output(self._fused(self._answers(inputs, lengths)))

    def loss(
        self, objective: Objective, inputs: Tensor, lengths: Tensor | None, goal: AttackGoal
    ) -> tuple[Tensor, Tensor]:
        if self.fuse != "losses":
            return super().loss(objective, inputs, lengths, goal)
        answers = self._answers(inputs, lengths)
        return self._mean(torch.stack([goal.loss(objective, answer) for answer in answers])), self._fused(answers)

    def to(self, device: torch.device | str) -> Ensemble:
        for member in self.members:
            member.to(device)
        super().to(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for member in self.members:
                stack.enter_context(member.frozen())
            yield

    def _answers(self, inputs: Inputs, lengths: Tensor | None) -> Tensor:
        """float[K, N, C]"""
        return torch.stack([member(inputs, lengths).logits.float() for member in self.members])

    def _fused(self, answers: Tensor) -> Tensor:
        if self.fuse != "probabilities":
            return self._mean(answers)
        # The logarithm of a mean of exponentials, through the largest of them: no share underflows to log 0.
        shares = answers.log_softmax(2)
        largest = shares.detach().amax(0)
        return largest + self._mean((shares - largest).exp()).clamp_min(1e-30).log()

    def _mean(self, values: Tensor) -> Tensor:
        """The mean of values[K, N, ...] over the members."""
        if self._weights is None:
            return values.mean(0)
        copies = values.shape[1] // max(1, len(self._weights))
        weights = self._weights.repeat(copies, 1).T.to(values.dtype)
        return (weights.view(*weights.shape, *[1] * (values.dim() - 2)) * values).sum(0)


def _digest(members: Sequence[Model], fuse: str) -> str:
    return hashlib.sha256(repr(("ensemble", fuse, [member.digest for member in members])).encode()).hexdigest()


def _shared(members: Sequence[Model]) -> Access:
    """What every member grants, of what an ensemble can pass on."""
    shared = Access.LABEL | Access.SCORE
    if isinstance(members[0].space, Box):
        shared |= Access.GRADIENT
    for member in members:
        shared &= member.access
    return shared


def _short(value: object) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return text if len(text) < 60 else f"{text[:57]}..."
