"""Models behind a defence: models like any other, which an attacker differentiates as one who knows the defence."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from carom.common.base.identity import Digest, describe
from carom.common.base.rng import Rng
from carom.common.core.batch import Access, Batch
from carom.common.core.model import Model
from carom.common.models.reordering import reordered

PASSED = Access.LABEL | Access.SCORE | Access.GRADIENT
"""What a defended model grants of what its base does: its layers, leaves and members are not those that answer."""

EOT = 16
"""Draws of a random defence that an attacker averages over, unless told otherwise (`pgd?eot=64`)."""


class Defended(Model):
    """A model `base` behind one `part`, a frozen dataclass whose fields are part of its identity.

    It is random where either is. Every call needs one stream of random numbers for each input (`streams`): those it was
    keyed with, or new ones at each call. Gradients at the parts of inputs, such as words, are those of the base, around
    the defence (`Model.guides`).
    """

    def __init__(self, base: Model, part: Any, draws: bool = False) -> None:
        """`draws`: whether the part draws anything."""
        name = f"{base.name}+{type(part).__name__}"
        super().__init__(name, base.modality, base.family, base.space, base.classes, _digest(base, part))
        self.part = part
        self._stand_before(base)
        self.shape = getattr(base, "shape", None)
        self.device, self.remedy, self.facts = base.device, base.remedy, dict(base.facts)
        self.access = base.access & PASSED
        self.rejects, self.passes = base.rejects, base.passes
        self.random = base.random or draws
        self.eot = max(base.eot, EOT if draws else 1)
        self._streams: Rng | None = None
        self._calls = 0

    def renew(self) -> None:
        self.base.renew()
        self.digest = _digest(self.base, self.part)

    def _stand_before(self, base: Model) -> None:
        self.base, self.guides = base, base.guides
        for name in base.guides:
            setattr(self, name, getattr(base, name))

    @property
    def adaptation(self) -> tuple[str, ...]:
        """How one who knows the defences attacks: words of `ADAPTATIONS`."""
        own = (*self._own_adaptation(), *getattr(self.base, "adaptation", ()))
        return tuple(dict.fromkeys(own))

    def _own_adaptation(self) -> tuple[str, ...]:
        raise NotImplementedError

    def keyed(self, rng: Rng) -> Model:
        if not self.random:
            return self
        other = copy.copy(self)
        other._streams = self._own(rng)
        other.base = self.base.keyed(rng.fold("base"))
        return other

    def streams(self, rows: int) -> Rng:
        """A stream for each of the inputs of a call."""
        if self._streams is None:
            self._calls += 1
            return self._own(Rng.of(0, [f"call {self._calls} row {row}" for row in range(rows)], self.device))
        if len(self._streams) != rows:
            raise ValueError(f"model {self.name} was keyed for {len(self._streams)} inputs and asked about {rows}")
        return self._streams

    def _own(self, rng: Rng) -> Rng:
        """What the part draws from, by its own `seed`."""
        return rng.fold("defence", getattr(self.part, "seed", 0))

    def settle(self, batch: Batch, width: int | None) -> None:
        self.base.settle(batch, width)
        super().settle(batch, width)

    def to(self, device: torch.device | str) -> Defended:
        self.base.to(device)
        super().to(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with self.base.frozen():
            yield


def _digest(base: Model, part: Any) -> Digest:
    digest = Digest(hashlib.sha256(repr(("defended", base.digest, describe(part))).encode()).hexdigest())
    digest.why = getattr(base.digest, "why", "")
    return digest


def undefended(model: Model) -> Model:
    """What stands behind all defences of a model."""
    while isinstance(model, Defended):
        model = model.base
    return model


@reordered.register
def _behind(model: Defended, order: Tensor) -> Model:
    other, base = copy.copy(model), reordered(model.base, order)
    base.classes = tuple(base.classes[at] for at in order.tolist())
    other._stand_before(base)
    return other
