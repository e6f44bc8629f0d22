"""Models that answer by several draws of a random one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.core.batch import Output
from carom.common.core.model import Model
from carom.common.core.spaces import Inputs
from carom.common.defences.defended import EOT, Defended
from carom.common.defences.transforms import Around


def mean_of(answers: Tensor) -> Tensor:
    """The logarithm of the mean probabilities of logits float[K, N, C]; of single numbers [K, N, 1], their mean."""
    if answers.shape[2] == 1:
        return answers.mean(0)
    return answers.log_softmax(2).logsumexp(0) - torch.tensor(float(len(answers))).log().item()


def majority_of(answers: Tensor) -> Tensor:
    """The logarithm of the share of votes, of which each answer has one; between equal shares the mean probability
    decides, which counts as less than a vote. Its gradient is that of the mean."""
    if answers.shape[2] == 1:
        return answers.median(0).values
    mean = mean_of(answers)
    votes = F.one_hot(answers.argmax(2), answers.shape[2]).sum(0)
    shares = ((votes + mean.detach().exp()) / (len(answers) + 1)).clamp_min(1e-12).log()
    return Around.apply(shares.to(mean.dtype), mean)


RULES: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean_of, "majority": majority_of}


@dataclass(frozen=True)
class Vote:
    """The answers to `draws` draws of a random model as one."""

    draws: int
    rule: str

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UnknownName("rule of a vote", self.rule, RULES)

    def wrap(self, model: Model) -> Model:
        if not model.random:
            raise CaromError(
                f"{model.name} answers an input the same each time, so there is nothing to vote on: put a random defence "
                "before the vote, as in defended:zoo:NAME+noise+vote."
            )
        if model.rejects:
            raise CaromError(f"{model.name} may reject an input, and a vote cannot: put the vote before the detector.")
        return Voted(model, self)


class Voted(Defended):
    """A random model that is asked several times for one answer. An attacker's gradient goes through all of them, so he
    averages fewer draws besides."""

    part: Vote

    def __init__(self, base: Model, part: Vote) -> None:
        super().__init__(base, part)
        self.random = True
        self.passes = base.passes * part.draws
        self.eot = max(1, -(-EOT // part.draws))

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        return Output(RULES[self.part.rule](self.answers(inputs, lengths)))

    def answers(self, inputs: Inputs, lengths: Tensor | None) -> Tensor:
        """float[K, N, C]: of each draw."""
        streams = self.streams(len(inputs))
        return torch.stack([self._draw(inputs, lengths, streams.fold("vote", draw)) for draw in range(self.part.draws)])

    def _draw(self, inputs: Inputs, lengths: Tensor | None, rng: Rng) -> Tensor:
        logits = self.base.keyed(rng)(inputs, lengths).logits.float()
        if logits.dim() != 2:
            raise CaromError(f"{self.name}: a vote is taken over classes, and {self.base.name} answers sequences.")
        return logits

    def _own_adaptation(self) -> tuple[str, ...]:
        return ("surrogate" if self.part.rule == "majority" else "exact", "expectation")
