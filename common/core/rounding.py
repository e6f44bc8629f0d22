"""Rounding to what can be stored without leaving the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from carom.common.core.spaces import Space
from carom.common.core.threats import Ball, Threat, column

SHORTENED = 8
"""How often a change is shortened at most."""


def within(threat: Threat, space: Space, x: Tensor, x0: Tensor) -> Tensor:
    """x rounded to its stored form, within the budget.

    Rounding lengthens a change whose components are few steps long: in the L2 ball almost every point of the rim leaves
    it. Such changes are shortened as a whole until their nearest stored form fits, which keeps their direction;
    rounding each component towards x0 would take what is shorter than a step from all of them. Where that does not do,
    as for threats without a norm, components are.
    """
    nearest = space.round(x)
    fits = threat.allows(nearest, x0)
    if isinstance(threat, Ball) and not threat.counts:
        length = torch.ones_like(fits, dtype=x.dtype)
        for _ in range(SHORTENED):
            rows = (~fits).nonzero().squeeze(1)
            if not len(rows):
                break
            x0_, radius = x0[rows], threat.radius(x0)[rows]
            length[rows] *= (radius / threat.norm(nearest[rows] - x0_).clamp_min(1e-12)).clamp_max(1) * 0.999
            shorter = space.round(x0_ + column(length[rows], x0_) * (x[rows] - x0_))
            nearest = nearest.index_copy(0, rows, shorter)  # not in place: nothing may have been rounded at all
            fits = threat.allows(nearest, x0)
    if bool(fits.all()):
        return nearest
    return torch.where(column(fits, x), nearest, space.round(x, toward=x0))
