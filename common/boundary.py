"""Strategies of searches by labels: how RayS, HopSkipJump, SurFree and GeoDA come nearer to the boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from carom.common.decision import Hunt, Noise, White
from carom.common.proposals import flipped
from carom.common.rng import Rng
from carom.common.threats import Linf, column

TRIES = 20  # halvings of a step until it is given up
NUMBERS = 2**24  # drawn at once: what random directions may take of memory


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


def begin(hunt: Hunt) -> None:
    """Random inputs until one reaches the goal: uniform between two bounds that are drawn too, so that some are dark,
    some bright and some flat. The papers draw over the whole space, and a model may call all of that by one label.
    """
    for turn in count():
        rows = hunt.searching()
        if not len(rows):
            return
        hunt.offer(hunt.random(rows, hunt.rng[rows].fold("begin", turn)), rows)


def boundary(hunt: Hunt, rows: Tensor, x: Tensor, halvings: int) -> Tensor:
    """[M, ...]: where the way from x[M, ...], which reach the goal, to the clean inputs first leaves the goal's side: a
    point on that side. The way is the ball's: a line in the L2 ball, clipping to ever smaller boxes in the Linf ball.
    """
    clean = hunt.clean[rows]
    high = hunt.ball.norm(x - clean)
    low = torch.zeros_like(high)
    for _ in range(halvings):
        middle = (low + high) / 2
        hit = hunt.ask(hunt.within(rows, hunt.ball.project(x, clean, middle) - clean), rows) > 0
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    return hunt.within(rows, hunt.ball.project(x, clean, high) - clean)


def settle(hunt: Hunt, rows: Tensor, x: Tensor) -> None:
    """Offer what points on the boundary stand for: a little beyond it, so that rounding leaves them on the goal's side.
    That is the edge of the budget, where they are inside; where nothing bounds the change, one stored step."""
    clean = hunt.clean[rows]
    radius, distance = hunt.ball.radius(clean), hunt.ball.norm(x - clean)
    near = (distance <= radius).nonzero().squeeze(1)
    if not len(near):
        return
    clean, distance = clean[near], distance[near]
    wanted = torch.where(radius[near].isfinite(), radius[near], distance + hunt.unit)
    change = (x[near] - clean) * column(wanted / distance.clamp_min(1e-12), clean)
    beyond = hunt.oracle.problem.model.space.clamp(clean + change)
    hunt.offer(hunt.oracle.take(rows[near]).store(beyond), rows[near])


def normal(hunt: Hunt, rows: Tensor, x: Tensor, probes: int, reach: Tensor, noise: Noise, rng: Rng) -> Tensor:
    """[M, ...]: the direction in which the boundary's far side lies, from `probes` neighbours at distances float[M]
    of points on it: neighbours on the goal's side pull, others push, less the mean of both, which is variance for
    nothing (HopSkipJump, Chen, Jordan and Wainwright 2020, eq. 16)."""
    shape = x.shape
    pulled, drawn = torch.zeros_like(x), torch.zeros_like(x)
    total, asked = torch.zeros_like(reach), torch.zeros_like(reach)
    together = max(1, min(probes, NUMBERS // max(1, x.numel())))
    for start in range(0, probes, together):
        copies = min(together, probes - start)
        streams = Rng(torch.cat([rng.fold("probe", start + k).keys for k in range(copies)]))
        ways = noise(torch.Size((copies * len(x), *shape[1:])), streams)
        ways = ways / column(ways.flatten(1).norm(dim=1).clamp_min(1e-12), ways)
        far, again = column(reach, x).repeat(copies, *[1] * (x.dim() - 1)), rows.repeat(copies)
        points = hunt.within(again, x.repeat(copies, *[1] * (x.dim() - 1)) + far * ways - hunt.clean[again])
        said = hunt.ask(points, rows, copies).view(copies, len(x))
        for answers, point in zip(said, points.view(copies, *shape), strict=True):  # in this order at every batch size
            way = (point - x) / column(reach, x)
            pulled, drawn = pulled + column(answers, x) * way, drawn + column(answers.abs(), x) * way
            total, asked = total + answers, asked + answers.abs()
    mean = total / asked.clamp_min(1)
    mean = torch.where(mean.abs() == 1, 0.0, mean)
    return pulled - column(mean, x) * drawn


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
            settle(hunt, rows, at)
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
        settle(hunt, rows, x[rows])
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
            settle(hunt, rows[some], x[rows[some]])
