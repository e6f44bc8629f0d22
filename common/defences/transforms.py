"""Defences that change the input before the model sees it, and how gradients pass them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.rng import Rng
from carom.common.core.batch import Output
from carom.common.core.model import Model
from carom.common.core.objectives import Objective
from carom.common.core.spaces import Inputs, Space
from carom.common.core.tasks import AttackGoal
from carom.common.defences.defended import Defended
from carom.common.models.company import of_equal_length


class InputTransform:
    """The base of changes to inputs: a frozen dataclass with a method `__call__(x)`, or of a random one `__call__(x,
    rng)` with a stream for each input, that gives inputs of the same shape. Sounds come without padding, so all of a
    call are of one length. What leaves the space is clamped.

    `gradient` says how gradients pass: "exact", by autograd; "around", as if it were the identity; "surrogate", through
    a method `surrogate(x)` or `surrogate(x, rng)`, whose value may differ and whose derivative stands in. Texts are
    lists, which gradients go around.
    """

    gradient: ClassVar[str] = "around"
    random: ClassVar[bool] = False

    def __call__(self, x: Any, *rng: Rng) -> Any:
        raise NotImplementedError

    def surrogate(self, x: Tensor, *rng: Rng) -> Tensor:
        raise NotImplementedError

    def wrap(self, model: Model) -> Model:
        return Transformed(model, self)


class Around(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, through: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0]


def seen(part: InputTransform, x: Inputs, rng: Rng | None) -> Inputs:
    """What a model sees of inputs behind a transform, with the gradient that the transform states."""
    given = (rng,) if part.random and rng is not None else ()
    if not isinstance(x, Tensor) or part.gradient == "exact":
        return part(x, *given)
    with torch.no_grad():
        value = part(x, *given)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return value
    return Around.apply(value, part.surrogate(x, *given) if part.gradient == "surrogate" else x)


def behind(part: InputTransform, space: Space, x: Inputs, lengths: Tensor | None, rng: Rng | None = None) -> Inputs:
    """What a model sees of inputs of a space, padded or not, behind a transform; `rng` has a stream for each of them."""
    if lengths is None or not isinstance(x, Tensor) or not len(x):
        return space.clamp(seen(part, x, rng))
    whole, parts, groups = x.shape[-1], [], of_equal_length(lengths)
    for rows in groups:
        rows = rows.to(x.device)
        found = space.clamp(seen(part, x[rows][..., : int(lengths[rows[0]])], None if rng is None else rng[rows]))
        parts.append(F.pad(found, (0, whole - found.shape[-1])))
    return torch.cat(parts)[torch.cat(groups).argsort().to(x.device)]


class Transformed(Defended):
    """A model that sees inputs through a transform."""

    part: InputTransform

    def __init__(self, base: Model, part: InputTransform) -> None:
        super().__init__(base, part, draws=part.random)

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        return self.base(self.changed(inputs, lengths), lengths)

    def loss(
        self, objective: Objective, inputs: Tensor, lengths: Tensor | None, goal: AttackGoal
    ) -> tuple[Tensor, Tensor]:
        return self.base.loss(objective, self.changed(inputs, lengths), lengths, goal)

    def changed(self, inputs: Inputs, lengths: Tensor | None = None) -> Inputs:
        """What the base is asked about."""
        rng = self.streams(len(inputs)) if self.part.random else None
        return behind(self.part, self.space, inputs, lengths, rng)

    def _own_adaptation(self) -> tuple[str, ...]:
        return (self.part.gradient, *(("expectation",) if self.part.random else ()))
