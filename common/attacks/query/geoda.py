"""GeoDA: along one estimate of the normal after another."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count

from carom.common.attacks.query.boundary_steps import begin, boundary, normal, offer_beyond
from carom.common.attacks.query.label_search import Hunt, Noise, White
from carom.common.core.threats import column


@dataclass(frozen=True)
class GeoDA:
    """The normal of the boundary, taken for a plane, and the nearest point of that plane (GeoDA, Rahmati et al. 2020,
    Alg. 1): from the clean input straight along the normal in the L2 ball, along its signs in the Linf ball.

    Each turn spends `growth` times as many probes on the normal as the one before, the optimum of the paper's
    Theorem 2 (its lambda is 1 / growth); the first spends `probes`. A turn that leads no nearer is dropped.
    """

    probes: int = 30
    noise: Noise = field(default_factory=White)
    growth: float = 1.5
    reach: float = 0.02  # of the probes, as a share of the point's distance

    def __call__(self, hunt: Hunt) -> None:
        begin(hunt)
        rows = hunt.rows()
        x = hunt.nearest.clone()
        # Points on the boundary must be nearer to it than probes reach across it, of which one in eight will do.
        halvings = math.ceil(math.log2(8 / self.reach * math.sqrt(max(1, x[:1].numel()))))
        for _ in range(2):  # the first time from far away
            x[rows] = boundary(hunt, rows, x[rows], halvings)
        offer_beyond(hunt, rows, x[rows])
        for turn in count():
            rows = hunt.rows()
            if not len(rows):
                return
            at, clean = x[rows], hunt.clean[rows]
            length = (at - clean).flatten(1).norm(dim=1)
            probes = int(self.probes * self.growth**turn)
            reach = self.reach * length
            way = normal(hunt, rows, at, probes, reach, self.noise, hunt.rng[rows].fold("turn", turn))
            distance = hunt.ball.norm(at - clean)
            point = clean + column(distance, at) * hunt.ball.step(way)
            hit = hunt.ask(hunt.within(rows, point - clean), rows) > 0
            some = hit.nonzero().squeeze(1)
            x[rows[some]] = boundary(hunt, rows[some], point[some], halvings)
            offer_beyond(hunt, rows[some], x[rows[some]])
