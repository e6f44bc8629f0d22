"""Strategies of searches by labels: how RayS, HopSkipJump, SurFree and GeoDA come nearer to the boundary."""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor

from carom.common.attacks.query.label_search import Hunt, Noise
from carom.common.base.rng import Rng
from carom.common.core.threats import column

NUMBERS = 2**24  # drawn at once: what random directions may take of memory


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


def offer_beyond(hunt: Hunt, rows: Tensor, x: Tensor) -> None:
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
    at_once = max(1, min(probes, NUMBERS // max(1, x.numel())))
    for start in range(0, probes, at_once):
        copies = min(at_once, probes - start)
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
