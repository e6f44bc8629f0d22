"""Attacks that read the members of an ensemble one by one: gradient estimators, and MI-FGSM on them.

All but `OneMember` ask the ensemble as a whole too, as it is fused. Views are drawn for an example, not for a member:
all members see the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.attacks.gradient.estimators import Estimate
from carom.common.attacks.gradient.step import Step
from carom.common.attacks.gradient.updates import levelled
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access
from carom.common.core.model import Model
from carom.common.core.tasks import of_classes
from carom.common.core.threats import L2, confine
from carom.common.models.ensembles import Ensemble


def ensemble_of(step: Step) -> Ensemble:
    """The attacked ensemble, every member of which grants gradients."""
    model = step.oracle.problem.model
    if not isinstance(model, Ensemble):
        raise CaromError(
            f"{model.name} is one model, and this attack reads the members of an ensemble: make one with "
            "carom.ensemble([...]), or ensemble:SPEC+SPEC on the command line."
        )
    deaf = [member.name for member in model.members if Access.GRADIENT not in member.access]
    if deaf:
        raise CaromError(
            f"{', '.join(deaf)} grants no gradient, and this attack differentiates every member of {model.name}: "
            "leave it out of the ensemble."
        )
    return model


def gradient_of(member: Model, step: Step, x: Tensor) -> Tensor:
    """One member's own gradient; nothing of it falls on padding."""
    return confine(step.of(member).gradient(x).grad, step.oracle.batch.mask())


def gradients_of(members: tuple[Model, ...], step: Step, x: Tensor) -> Tensor:
    """[K, N, ...]: every member's own gradient."""
    return torch.stack([gradient_of(member, step, x) for member in members])


@dataclass(frozen=True)
class OneMember:
    """The gradient of one member, drawn anew for every example and step (LGV, Gubri et al. 2022, Alg. 1)."""

    passes = 1
    alone = True  # of one member
    queries = 0
    splits = True

    def __call__(self, step: Step, x: Tensor, memory: None) -> Estimate:
        members = ensemble_of(step).members
        return Estimate(_drawn(step, members, x, "member"))


def _drawn(step: Step, members: tuple[Model, ...], x: Tensor, *key: str | int, less: Tensor | None = None) -> Tensor:
    """The gradient of a random member for each example, less the same member's of `less` [K, N, ...]."""
    chosen, grad = step.rng.fold(*key).integers(len(members)), torch.zeros_like(x)
    for number, member in enumerate(members):
        rows = (chosen == number).nonzero().squeeze(1)
        if len(rows):
            own = gradient_of(member, step.take(rows), x[rows])
            grad[rows] = own if less is None else own - less[number, rows]
    return grad


@dataclass(frozen=True)
class VarianceReduced:
    """Where `inner` steps per member lead, each along a random member's gradient corrected by how that member differed
    from the ensemble at x (SVRE, Xiong et al. 2022, Alg. 1; the paper's 16 inner steps for 4 members).

    The members' gradients at x are computed once; the paper computes one in every inner step.
    """

    inner: int = 4
    size: float = 1.0  # of an inner step, as a share of the step's length
    decay: float = 1.0  # of the inner momentum
    queries = 0
    splits = True

    @property
    def passes(self) -> int:
        return 2 + self.inner

    def __call__(self, step: Step, x: Tensor, memory: None) -> Estimate:
        members = ensemble_of(step).members
        whole, logits = step.gradient(x)
        own = gradients_of(members, step, x)
        at, total = x, torch.zeros_like(x)
        for index in range(self.inner * len(members)):
            grad = _drawn(step, members, at, "inner", index, less=own) + whole
            total = self.decay * total + levelled(confine(grad, step.oracle.batch.mask()))
            at = step.moved(at, total, self.size * step.length)
        return Estimate(total, None, logits if step.transform is None else None)


@dataclass(frozen=True)
class CommonWeakness:
    """Where one long step along every member in turn leads from a point a little downhill (CWA, Chen et al. 2024: SAM,
    section 3.2, then the cosine similarity encourager, section 3.3 and Alg. 1; constants of the released code).

    The released code leaves the downhill step out where it is targeted; here it is always made.
    """

    reverse: float = 1 / 15  # of the downhill step, as a share of the radius
    inner: float = 10.0  # of a long step, in L2 lengths of the ball: the code's 250 for 16/255 of 224 x 224 colours
    decay: float = 1.0  # of the inner momentum, which outlasts the step
    passes = 2
    queries = 0

    def __call__(self, step: Step, x: Tensor, memory: Tensor | None) -> Estimate:
        members, ball, space = ensemble_of(step).members, step.ball, step.oracle.problem.model.space
        radius, ones = ball.radius(step.clean).view_as(step.length), torch.ones_like(step.clean)
        pace = self.inner * radius * (L2(1.0).norm(ones) / ball.norm(ones)).view_as(step.length)
        whole, logits = step.gradient(x)
        downhill = ball.step(confine(-whole, step.oracle.batch.mask()))
        at, momentum = space.clamp(x + self.reverse * radius * downhill), torch.zeros_like(x)
        momentum = momentum if memory is None else memory
        for member in members:
            momentum = self.decay * momentum + L2(1.0).step(gradient_of(member, step, at))
            at = space.clamp(ball.project(at + pace * momentum, step.clean))
        return Estimate(at - x, momentum, logits if step.transform is None else None)


@dataclass(frozen=True)
class AdaEa:
    """The gradient of the ensemble with more weight on members whose own next step fools the others, kept where the
    members agree (AdaEA, Chen et al. 2023, section 3.2 and 3.3).

    Weights and agreement are each example's own; the released code weighs by losses averaged over the batch. It is for
    untargeted attacks: targeted, the ratio of the losses is turned over. Agreement is the mean cosine over all pairs of
    members (eq. 9); in the released code the pairs with the last member count half and the divisor stays, so that its
    means are nearer to zero and pass the threshold more often. With one channel a cosine is 1 or -1.
    """

    beta: float = 10.0  # how far apart the weights are
    threshold: float = -0.3  # mean cosine of two members' gradients, along the channels, below which nothing is kept
    passes = 2  # and a forward pass of every member on every member's next step
    queries = 0

    def __call__(self, step: Step, x: Tensor, memory: None) -> Estimate:
        ensemble = ensemble_of(step)
        own = gradients_of(ensemble.members, step, x)
        weights = self.weights(step, ensemble.members, torch.stack([step.moved(x, grad) for grad in own]))
        return Estimate(step.of(ensemble.weighted(weights)).gradient(x).grad * self.agreement(own))

    def weights(self, step: Step, members: tuple[Model, ...], moved: Tensor) -> Tensor:
        """float[N, K], given where each member's own step leads, [K, N, ...] (adaptive gradient modulation)."""
        goal = of_classes(step.oracle.goal())
        wanted = goal.labels if goal.targets is None else goal.targets

        def losses(member: Model) -> Tensor:  # float[K, N]: at every member's next step
            oracle = step.oracle.of(member)
            found = [F.cross_entropy(oracle.logits(x, pays=False), wanted, reduction="none") for x in moved]
            return torch.stack(found).clamp_min(1e-6)

        fooled = torch.zeros(moved.shape[:2], device=moved.device)
        for number, member in enumerate(members):
            loss = losses(member)
            ratio = loss / loss[number] if goal.targets is None else loss[number] / loss
            ratio[number] = 0  # how far a member fools itself does not count
            fooled += ratio
        return (self.beta * fooled).softmax(0).T

    def agreement(self, own: Tensor) -> Tensor:
        """1 where the members' gradients [K, N, ...] agree, else 0: one number for all channels (disparity-reduced
        filter). Inputs without channels, such as sounds, count as having one."""
        k = len(own)
        if k == 1:
            return torch.ones_like(own[0])
        level = levelled(own.flatten(0, 1)).view_as(own)
        channels = own.dim() > 3
        unit = F.normalize(level if channels else level[:, :, None], dim=2, eps=1e-30)
        # Of all pairs: the square of the sum has every pair twice, beside every member with itself.
        cosine = (unit.sum(0).square().sum(1) - unit.square().sum((0, 2))) / (k * (k - 1))
        keep = (cosine >= self.threshold).to(own.dtype)
        return keep[:, None] if channels else keep
