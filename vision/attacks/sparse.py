"""Attacks that change little of an image, but that much: JSMA and SparseFool by few pixels, EAD by the L1 norm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.minimal.carlini_wagner import Weight
from carom.common.attacks.minimal.linearised import Boundary, Rivals, slope
from carom.common.attacks.minimal.search import Closest, Look, Scene, Undirected, judged
from carom.common.core.batch import Access, Goal
from carom.common.core.objectives import margin
from carom.common.core.oracle import Oracle
from carom.common.core.threats import L2, column
from carom.common.core.ties import closeness, first_largest

SPARSE = Catalogue(needs=Access.GRADIENT)


def for_and_against(logits: Tensor, goal: Goal) -> Tensor:
    """float[N, 2]: the target's logit and the sum of the others; untargeted, minus the label's, and minus the rest."""
    anchor = goal.labels if goal.targets is None else goal.targets
    own = logits.gather(1, anchor[:, None]).squeeze(1)
    both = torch.stack([own, logits.sum(1) - own], 1)
    return -both if goal.targets is None else both


@dataclass(frozen=True)
class Saliency:
    """JSMA (Papernot et al. 2016, Alg. 3 and eq. 8 to 10, on logits): two components at a time go up by `theta`, the
    pair whose gradients raise the target's logit and lower the others' by the largest product; or, with `down`, down,
    if that is more (Wiyatno and Xu 2018, M-JSMA). None moves twice. Untargeted, which the paper is not, the label's
    logit is to fall and the others to rise.

    Pairs are looked for among the `pool` components that raise the most and those that lower the most; all are, where
    there are no more. Where no pair does both, the one with the largest difference moves. When the budget pays for no
    further pixels, pairs are of those that have changed already.
    """

    theta: float = 1.0
    down: bool = True
    pool: int = 128

    def begin(self, scene: Scene) -> Tensor:
        return torch.zeros_like(scene.x0, dtype=torch.bool)  # which have moved

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        grads, values, logits = aim.gradients(for_and_against, x)
        return Look(x, oracle.reached(x, logits), oracle.goal().loss(margin, logits), x, values, grads)

    def next(self, scene: Scene, look: Look, moved: Tensor) -> tuple[Tensor, Tensor]:
        x, space = look.x, scene.space
        changed = (x != scene.x0).any(1, keepdim=True)
        full = column(scene.ball.norm(x - scene.x0) + 2 > scene.radius, x)
        open_ = (~moved & (changed | ~full)).flatten(1)
        ways = [(1.0, open_ & (x < space.high).flatten(1))]
        if self.down:
            ways.append((-1.0, open_ & (x > space.low).flatten(1)))
        found = [self._pair(sign * look.grads.flatten(2), free) for sign, free in ways]
        scores = torch.stack([score for score, _ in found], 1)
        best, every = first_largest(scores, closeness(scores.amax(1))), torch.arange(len(x), device=x.device)
        pair = torch.stack([at for _, at in found])[best, every]
        free = torch.stack([free for _, free in ways])[best, every].gather(1, pair)
        sign = torch.tensor([sign for sign, _ in ways], device=x.device, dtype=x.dtype)[best][:, None]
        flat, step = x.flatten(1), torch.where(free, self.theta * sign, 0.0)
        flat = flat.scatter(1, pair, (flat.gather(1, pair) + step).clamp(space.low, space.high))
        return flat.view_as(x), moved | torch.zeros_like(open_).scatter(1, pair, True).view_as(moved)

    def _pair(self, grads: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """(score float[M], the pair int64[M, 2]) among the free components, given grads[M, 2, D] of both objectives."""
        gain, loss = grads[:, 0], grads[:, 1]
        count = min(self.pool, gain.shape[1])
        chosen = torch.cat(
            [
                part.masked_fill(~free, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :count]
                for part in ((gain,) if count == gain.shape[1] else (gain, -loss))
            ],
            1,
        )
        gain, loss, free = (part.gather(1, chosen) for part in (gain, loss, free))
        alpha, beta = gain[:, :, None] + gain[:, None], loss[:, :, None] + loss[:, None]
        allowed = free[:, :, None] & free[:, None] & (chosen[:, :, None] != chosen[:, None])
        does = allowed & (alpha > 0) & (beta < 0)
        # Below zero: pairs that do not do both, by their difference, squashed.
        score = torch.where(does, -alpha * beta, ((alpha - beta).tanh() - 2).masked_fill(~allowed, -4.0)).flatten(1)
        place = first_largest(score, closeness(score.amax(1)))
        value = score.gather(1, place[:, None]).squeeze(1)
        first, second = place // chosen.shape[1], place % chosen.shape[1]
        return value, chosen.gather(1, torch.stack([first, second], 1))


@dataclass(frozen=True)
class SparseBoundary:
    """SparseFool (Modas et al. 2019, Alg. 2 and 3, as released): DeepFool in L2 finds the boundary, `farther` times as
    far as that the normal is taken, and the fewest components of the clean image go to their bounds until they cross
    that plane, largest slopes first. Where the plane lies behind the clean image, for which the released code moves
    everything there is, the normal at the boundary itself is taken; and each turn goes farther beyond the plane than
    the last, without which some turn in circles. Towards a target, which the paper has none of, DeepFool goes to its
    boundary.
    """

    farther: float = 3.0
    overshoot: float = 0.02
    inner: int = 10
    rivals: int = 9

    def begin(self, scene: Scene) -> tuple[()]:
        return ()

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        logits, at, x0 = oracle.logits(x, pays=False), x.clone(), oracle.batch.inputs
        reached = oracle.reached(x, logits)
        rows = (~aim.goal().achieved(logits)).nonzero().squeeze(1)
        for _ in range(self.inner):
            if not len(rows):
                break
            at[rows] = self._nearer(aim.take(rows), at[rows])
            there = aim.take(rows)
            rows = rows[~there.goal().achieved(there.logits(at[rows], pays=False))]
        plane = x0 + self.farther * (at - x0)
        grad, value, _ = aim.gradient(margin, plane)
        rows = ((grad * (plane - x0)).flatten(1).sum(1) <= 0).nonzero().squeeze(1)
        if len(rows):  # bent so far that the plane lies behind the clean image: that at the boundary itself
            plane[rows] = at[rows]
            grad[rows], value[rows], _ = aim.take(rows).gradient(margin, at[rows])
        return Look(x, reached, oracle.goal().loss(margin, logits), plane, value[:, None], grad[:, None])

    def _nearer(self, aim: Oracle, at: Tensor) -> Tensor:
        """A step of DeepFool."""
        grads, values, logits = aim.gradients(Rivals(self.rivals), at)
        ball = L2(math.inf)
        near = Boundary.nearest(Look(at, torch.empty(0), logits, at, values, grads), ball)
        length = 1e-4 + near.value.abs() / slope(near.grad, ball).clamp_min(1e-30)
        space = aim.problem.model.space
        return space.clamp(at + (1 + self.overshoot) * column(length, at) * ball.step(near.grad))

    def next(self, scene: Scene, look: Look, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        w, start = look.grads[:, 0].flatten(1).double(), scene.x0.flatten(1).double()
        bound = torch.where(w > 0, scene.space.high, scene.space.low)
        room = torch.where(w == 0, 0.0, (bound - start).abs())
        gap = (w * (look.at.flatten(1).double() - start)).sum(1, keepdim=True)
        need = gap.clamp_min(0) * 1.15**scene.number + 1e-3 * w.norm(dim=1, keepdim=True)
        order = w.abs().argsort(dim=1, descending=True, stable=True)
        rate, far = w.abs().gather(1, order), room.gather(1, order)
        before = (rate * far).cumsum(1) - rate * far
        way = torch.minimum(((need - before) / rate.clamp_min(1e-300)).clamp_min(0), far)
        change = torch.zeros_like(w).scatter(1, order, way) * w.sign()
        return scene.x0 + (1 + self.overshoot) * change.to(scene.x0.dtype).view_as(scene.x0), state


class EadState(NamedTuple):
    """What EAD remembers, beside the point itself."""

    last: Tensor  # the point before its momentum
    weight: Weight


@dataclass(frozen=True)
class Elastic(Undirected):
    """EAD (Chen et al. 2018, Alg. 1): descend ||x - x0||_2^2 + beta ||x - x0||_1 + weight * max(-margin, -kappa) by
    steps that fall as a root, each followed by shrinking all changes by `beta` (FISTA); the weight is searched for as
    by Carlini and Wagner. Of what reached the goal the smallest in the threat's norm is kept: the L1 rule.

    The paper judges the points before their momentum, for one more forward pass a step; here those after it are judged.
    """

    searches: int = 9
    rate: float = 0.01
    beta: float = 0.01
    weight: float = 1e-3
    kappa: float = 0.0

    def look(self, oracle: Oracle, aim: Oracle, x: Tensor) -> Look:
        look = judged(oracle, aim, x, margin)
        return look._replace(reached=look.reached & (look.gap >= self.kappa))

    def begin(self, scene: Scene) -> EadState:
        return EadState(scene.x0, Weight.begin(self.weight, scene.radius))

    def next(self, scene: Scene, look: Look, state: EadState) -> tuple[Tensor, EadState]:
        weight, each = state.weight.noted(look), scene.steps // self.searches
        turn = scene.number % each
        if turn == each - 1:
            return scene.x0, EadState(scene.x0, weight.next())
        grad = weight.slope(scene, look, self.kappa)
        change = look.x - self.rate * (1 - turn / each) ** 0.5 * grad - scene.x0
        new = scene.space.clamp(scene.x0 + change.sign() * (change.abs() - self.beta).clamp_min(0))
        return new + turn / (turn + 3) * (new - state.last), EadState(new, weight)


@SPARSE.attack(
    "jsma",
    "fewest pixels: pairs of components by the product of what they do for and against the target",
    paper="Papernot et al. 2016, The limitations of deep learning in adversarial settings; Wiyatno and Xu 2018, "
    "Maximal Jacobian-based saliency map attack",
    threats=("l0",),
    cost="at most 1 + steps forward, 2 * steps backward, and as many forward again where points succeed",
    departures="pairs are looked for among the `pool` most promising components; untargeted, the label's logit is to "
    "fall",
)
def jsma(steps: int = 50, theta: float = 1.0, down: bool = True, pool: int = 128) -> Closest:
    """JSMA, two components a step; down=false moves them up only, as in the paper."""
    return Closest(Saliency(theta, down, pool), steps, stop=True)


@SPARSE.attack(
    "sparsefool",
    "fewest pixels: to the nearest boundary by the components with the largest slopes",
    paper="Modas, Moosavi-Dezfooli and Frossard 2019, SparseFool: a few pixels make a big difference",
    threats=("l0",),
    cost="at most steps * (3 + 2 * inner) forward, steps * (2 + 9 * inner) backward, and again where points succeed",
    departures="where the plane lies behind the clean image the normal at the boundary is taken; each turn goes "
    "farther beyond it; aimed at a target as well",
)
def sparsefool(steps: int = 20, farther: float = 3.0, overshoot: float = 0.02, inner: int = 10) -> Closest:
    """SparseFool; `farther` is the paper's lambda."""
    return Closest(SparseBoundary(farther, overshoot, inner), steps, stop=True, roam=True)


@SPARSE.attack(
    "ead",
    "smallest L1 change: the elastic net of distances with a penalty, by FISTA",
    paper="Chen et al. 2018, EAD: elastic-net attacks to deep neural networks via adversarial examples",
    threats=("l1",),
    cost="steps * searches forward and backward, and as many forward again where points succeed",
    departures="points after their momentum are judged, not those before it",
)
def ead(steps: int = 100, searches: int = 9, rate: float = 0.01, beta: float = 0.01, weight: float = 1e-3) -> Closest:
    """`searches` weights, `steps` steps for each. The paper's steps are 1000, its beta .001."""
    return Closest(Elastic(searches=searches, rate=rate, beta=beta, weight=weight), steps * searches)
