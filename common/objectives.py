"""What an attack climbs: per-example losses float[N], larger is more adversarial, of logits float[N, C] and a Goal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.errors import CaromError
from carom.common.problem import Goal

Objective = Callable[[Tensor, Goal], Tensor]

ULPS = 64
"""Scores this many units of rounding apart count as equal: that much of a row's score hangs on the rows beside it."""


def tie(logits: Tensor) -> Tensor:
    """float[N]: how close two scores made of such logits must be to count as equal, whatever their last digits are.

    Two inputs whose scores are equal in exact arithmetic (a part that the model does not look at was changed) come
    out a few units of rounding apart, which way depends on the machine and on the number of rows computed together.
    """
    return ULPS * torch.finfo(torch.float32).eps * logits.abs().amax(1).clamp_min(1.0)


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

    It takes three classes; targeted, with three, the denominator is the spread of all logits. With two it would be the
    sign of the margin, whose gradient is zero.
    """
    if logits.shape[1] < 3:
        raise CaromError(f"loss dlr compares three logits, the model has {logits.shape[1]}: use loss=margin.")
    ordered = logits.sort(1, descending=True).values
    if goal.targets is None:
        spread = ordered[:, 0] - ordered[:, 2]
        return margin(logits, goal) / (spread + 1e-12)
    label = logits.gather(1, goal.labels[:, None]).squeeze(1)
    target = logits.gather(1, goal.targets[:, None]).squeeze(1)
    low = (ordered[:, 2] + ordered[:, 3]) / 2 if ordered.shape[1] > 3 else ordered[:, -1]
    return (target - label) / (ordered[:, 0] - low + 1e-12)


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
