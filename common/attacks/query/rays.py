"""RayS: rays to corners of the box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carom.common.attacks.query.label_search import Hunt
from carom.common.attacks.query.proposals import flipped
from carom.common.core.threats import column


@dataclass(frozen=True)
class RayS:
    """Rays to corners: directions of signs, shortened in lattice steps (RayS, Chen and Gu 2020, Alg. 1 to 3).

    A direction is tried with the signs of one block turned, blocks that halve (Alg. 2). The fast check of Alg. 3 asks
    one step nearer than the best radius, not at it: what would only be as good is not worth a binary search. Radii are
    multiples of a share `fine` of the budget, or of 1/64 of that of the space where nothing bounds the change. They
    are finer than what can be stored, because the gains of small blocks are; the stored form is asked about besides,
    where a new best radius is within the budget.
    """

    fine: float = 1 / 128

    def __call__(self, hunt: Hunt) -> None:
        n, device = len(hunt.clean), hunt.clean.device
        radius = hunt.ball.radius(hunt.clean)
        grid = self.fine * torch.where(radius.isfinite() & (radius > 0), radius, hunt.width / 64)
        longest = (hunt.width / grid).ceil().long()
        signs = torch.ones_like(hunt.clean)
        tried, place = signs.clone(), torch.zeros(n, dtype=torch.long, device=device)
        best = longest + 1  # in steps of the grid; none found yet
        low, high, steps = torch.zeros_like(best), best.clone(), longest.clone()
        checking = torch.ones(n, dtype=torch.bool, device=device)  # whether the next question is the fast check
        while len(rows := hunt.rows()):
            hit = hunt.ask(hunt.within(rows, column((grid * steps)[rows], hunt.clean) * tried[rows]), rows) > 0
            miss = checking[rows] & ~hit
            high[rows] = torch.where(hit, steps[rows], high[rows])
            low[rows] = torch.where(hit, low[rows], steps[rows])
            ended = miss | (high[rows] - low[rows] <= 1)
            better = rows[ended & ~miss]
            signs[better], best[better] = tried[better], high[better]
            self.store(hunt, better, column((grid * best)[better], hunt.clean), signs[better])
            again, over = rows[~ended], rows[ended]
            checking[again] = False
            steps[again] = (low[again] + high[again]) // 2
            lengths = None if hunt.lengths is None else hunt.lengths[over]
            tried[over] = flipped(signs[over], place[over], lengths)
            place[over] += 1
            checking[over] = True
            low[over], steps[over] = 0, best[over] - 1
            hunt.leave(rows[steps[rows] < 1])

    @staticmethod
    def store(hunt: Hunt, rows: Tensor, reach: Tensor, signs: Tensor) -> None:
        """Offer rays of lengths [M, 1, ...] at the next stored step or, if the budget has an edge, there."""
        radius = column(hunt.ball.radius(hunt.clean[rows]), reach)
        near = (reach <= radius).flatten().nonzero().squeeze(1)
        if hunt.unit:
            reach = (reach / hunt.unit * (1 - 1e-6)).ceil() * hunt.unit
        reach = torch.where(radius.isfinite(), radius, reach)[near]
        x = hunt.within(rows[near], reach * signs[near])
        hunt.offer(hunt.oracle.take(rows[near]).store(x), rows[near])
