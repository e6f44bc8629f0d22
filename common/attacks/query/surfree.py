"""SurFree: arcs in random planes, without an estimate of the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from carom.common.attacks.query.boundary_steps import begin
from carom.common.attacks.query.label_search import Hunt, Noise, White
from carom.common.base.rng import Rng
from carom.common.core.threats import column


@dataclass(frozen=True)
class SurFree:
    """Circles through the nearest point and the clean input, in planes with random directions: on such a circle every
    point is nearer (SurFree, Maho, Furon and Le Merrer 2021, section 3 and Alg. 1).

    Angles are tried from the largest down, on both sides; around the first that reaches the goal a binary search looks
    for a larger one. The largest angle shrinks after failures and grows after successes. Directions are made orthogonal
    to the one from the clean input, not also to a hundred earlier ones as in the released code: they would not fit into
    memory. Every question is about a stored form.
    """

    noise: Noise = field(default_factory=White)
    widest: float = 30.0  # degrees, at first
    angles: int = 3  # tried on each side
    pace: float = 0.98  # by which the widest angle shrinks, or grows
    halvings: int = 6

    def __call__(self, hunt: Hunt) -> None:
        begin(hunt)
        rows = hunt.rows()
        x = hunt.nearest[rows]
        high = hunt.ball.norm(x - hunt.clean[rows])
        low = torch.zeros_like(high)
        for _ in range(self.halvings + 4):
            middle = (low + high) / 2
            hit = hunt.offer(hunt.within(rows, hunt.ball.project(x, hunt.clean[rows], middle) - hunt.clean[rows]), rows)
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        widest = torch.full_like(hunt.distance, math.radians(self.widest))
        for turn in count():
            rows = hunt.rows()
            if not len(rows):
                return
            circle = Circle.drawn(hunt, rows, self.noise, hunt.rng[rows].fold("turn", turn))
            angle = torch.zeros_like(circle.distance)
            for step in range(2 * self.angles):
                some = (angle == 0).nonzero().squeeze(1)
                share = (1 - step // 2 / self.angles) * (1 - 2 * (step % 2))
                tried = share * widest[rows[some]]
                hit = hunt.offer(circle.at(some, tried), rows[some])
                angle[some] = torch.where(hit, tried, 0.0)
            found = angle != 0
            widest[rows] = torch.where(found, widest[rows] / self.pace, widest[rows] * self.pace).clamp_max(math.pi / 2)
            some = found.nonzero().squeeze(1)
            low = angle[some]
            high = low + low.sign() * widest[rows[some]] / self.angles
            for _ in range(self.halvings):
                middle = (low + high) / 2
                hit = hunt.offer(circle.at(some, middle), rows[some])
                low, high = torch.where(hit, middle, low), torch.where(hit, high, middle)


@dataclass(frozen=True)
class Circle:
    """For M examples, the circle whose diameter leads from the clean input to the nearest point found."""

    hunt: Hunt
    rows: Tensor
    distance: Tensor
    out: Tensor  # from the clean input to the point, of norm 1
    aside: Tensor  # orthogonal to it

    @classmethod
    def drawn(cls, hunt: Hunt, rows: Tensor, noise: Noise, rng: Rng) -> Circle:
        change = hunt.nearest[rows] - hunt.clean[rows]
        distance = change.flatten(1).norm(dim=1)
        out = change / column(distance.clamp_min(1e-12), change)
        aside = noise(change.shape, rng)
        aside = aside - column((aside * out).flatten(1).sum(1), out) * out
        return cls(hunt, rows, distance, out, aside / column(aside.flatten(1).norm(dim=1).clamp_min(1e-12), aside))

    def at(self, some: Tensor, angle: Tensor) -> Tensor:
        """The points at angles float[M'] of some of the examples."""
        along, across = (column(f(angle), self.out) for f in (torch.cos, torch.sin))
        way = along * self.out[some] + across * self.aside[some]
        return self.hunt.within(self.rows[some], column(self.distance[some], way) * along * way)
