"""What an attack climbs: per-example losses float[N], larger is more adversarial, of logits float[N, C] and a Goal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.batch import Goal

Objective = Callable[[Tensor, Goal], Tensor]


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Loss of the label; targeted, minus the loss of the target (Goodfellow et al. 2015; Kurakin et al. 2017)."""
    if goal.targets is None:
        return F.cross_entropy(logits, goal.labels, reduction="none")
    return -F.cross_entropy(logits, goal.targets, reduction="none")


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """Best other logit minus the label's; targeted, the target's minus the best other (Carlini and Wagner 2017, f6).

    Positive exactly when the goal is achieved, ties aside.
    """
    anchor = goal.labels if goal.targets is None else goal.targets
    own = logits.gather(1, anchor[:, None]).squeeze(1)
    others = logits.scatter(1, anchor[:, None], -torch.inf).amax(1)
    return others - own if goal.targets is None else own - others


def dlr(logits: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, eq. 6 and 7): the margin free of the logits' scale and shift.

    Targeted, the paper subtracts the label's logit; here it is the best of all but the target, which is the same until
    the label has lost, and then still leads to the target. The ratio takes three classes, targeted four: with fewer it
    is constant wherever the label is first and the target last. Targeted with three it is the margin, undivided.
    """
    if logits.shape[1] < 3:
        raise CaromError(f"loss dlr compares three logits, the model has {logits.shape[1]}: use loss=margin.")
    ordered = logits.sort(1, descending=True).values
    if goal.targets is None:
        return margin(logits, goal) / (ordered[:, 0] - ordered[:, 2] + 1e-12)
    if logits.shape[1] == 3:
        return margin(logits, goal)
    return margin(logits, goal) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + 1e-12)


def dlr_or_margin(logits: Tensor, goal: Goal) -> Tensor:
    """The difference of logits ratio; the margin where two classes leave it undefined."""
    return dlr(logits, goal) if logits.shape[1] > 2 else margin(logits, goal)


def confidence(logits: Tensor, goal: Goal) -> Tensor:
    """Probability of every answer but the label; targeted, of the target. Between 0 and 1."""
    shares = logits.softmax(1)
    if goal.targets is None:
        return 1 - shares.gather(1, goal.labels[:, None]).squeeze(1)
    return shares.gather(1, goal.targets[:, None]).squeeze(1)


def logit(logits: Tensor, goal: Goal) -> Tensor:
    """The target's logit (Zhao, Liu and Larson 2021); untargeted, minus the label's."""
    if goal.targets is None:
        return -logits.gather(1, goal.labels[:, None]).squeeze(1)
    return logits.gather(1, goal.targets[:, None]).squeeze(1)


def po_trip(logits: Tensor, goal: Goal) -> Tensor:
    """Minus the Poincare distance of the logits to the target, and a little of a triplet loss: nearer to the target
    than to the label by an angle (Po+Trip, Li et al. 2020, eq. 6 to 12, with its constants). The distance does not
    level off as cross-entropy does. Untargeted, the distance to the label.

    The paper divides the logits by the sum of their sizes. Here the smallest is taken from all first: of few classes,
    most of them with negative logits, the paper's distance falls when the label's logit grows.
    """
    anchor = goal.labels if goal.targets is None else goal.targets
    above = logits - logits.detach().amin(1, keepdim=True)
    point = above / above.sum(1, keepdim=True).clamp_min(1e-12)
    corner = (F.one_hot(anchor, logits.shape[1]).to(logits.dtype) - 1e-5).clamp_min(0)
    apart = 2 * (point - corner).square().sum(1)
    rims = (1 - point.square().sum(1)).clamp_min(1e-5) * (1 - corner.square().sum(1))
    distance = torch.acosh(1 + apart / rims)
    if goal.targets is None:
        return distance
    cosine = logits.abs() / logits.norm(dim=1, keepdim=True).clamp_min(1e-12)
    target, label = (cosine.gather(1, at[:, None]).squeeze(1) for at in (goal.targets, goal.labels))
    return -distance - 0.01 * (label - target + 0.007).clamp_min(0)


OBJECTIVES = {"ce": cross_entropy, "margin": margin, "dlr": dlr, "logit": logit}


def objective(name: str) -> Objective:
    if name not in OBJECTIVES:
        raise UnknownName("objective", name, OBJECTIVES)
    return OBJECTIVES[name]
