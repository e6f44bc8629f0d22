"""HopSkipJump: steps along an estimate of the boundary's normal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from carom.common.attacks.query.boundary_steps import begin, boundary, normal, offer_beyond
from carom.common.attacks.query.label_search import Hunt, Noise, White
from carom.common.base.rng import Rng
from carom.common.core.threats import Linf, column

TRIES = 20  # halvings of a step until it is given up


@dataclass(frozen=True)
class Cube:
    """Uniform between -1 and 1."""

    def __call__(self, shape: torch.Size, rng: Rng) -> Tensor:
        return 2 * rng.uniform(*shape[1:]) - 1


@dataclass(frozen=True)
class HopSkipJump:
    """Steps along the boundary's normal and back to the boundary (Chen, Jordan and Wainwright 2020, Alg. 2).

    `probes` neighbours in the first estimate of the normal, growing with the root of the turn. In the Linf ball
    neighbours are uniform, steps follow the sign and the way back is clipping, as in the paper. Neighbours and points
    on the boundary need not be on the stored lattice, whose steps are far larger than their distances; each turn the
    stored form of the point on the boundary is asked about besides, once it is near enough to count.
    """

    probes: int = 30
    noise: Noise = field(default_factory=White)

    def __call__(self, hunt: Hunt) -> None:
        begin(hunt)
        x, linf = hunt.nearest.clone(), isinstance(hunt.ball, Linf)
        size = max(2, x[:1].numel())
        halvings = math.ceil((2.0 if linf else 1.5) * math.log2(size))  # the paper's theta: size ** -2 or -1.5
        for turn in count(1):
            rows = hunt.rows()
            if not len(rows):
                return
            at, clean = boundary(hunt, rows, x[rows], halvings), hunt.clean[rows]
            offer_beyond(hunt, rows, at)
            distance = hunt.ball.norm(at - clean)
            reach = distance / size if turn > 1 else torch.full_like(distance, 0.1 * hunt.width)
            probes = int(self.probes * math.sqrt(turn))
            noise: Noise = Cube() if linf else self.noise
            way = hunt.ball.step(normal(hunt, rows, at, probes, reach, noise, hunt.rng[rows].fold("turn", turn)))
            x[rows] = ahead(hunt, rows, at, way, distance / math.sqrt(turn))


def ahead(hunt: Hunt, rows: Tensor, x: Tensor, way: Tensor, length: Tensor) -> Tensor:
    """x[M, ...] after a step along `way`, halved until it stays on the goal's side; x where it never does."""
    found, open_ = x, torch.ones_like(length, dtype=torch.bool)
    for _ in range(TRIES):
        some = open_.nonzero().squeeze(1)
        if not len(some):
            break
        point = hunt.within(rows[some], x[some] + column(length[some], x) * way[some] - hunt.clean[rows[some]])
        said = hunt.ask(point, rows[some])
        found = found.index_copy(0, some[said > 0], point[said > 0])
        open_[some[said >= 0]] = False  # found, or out of questions
        length = length / 2
    return found
