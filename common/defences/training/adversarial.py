"""Adversarial training: what is descended on adversarial inputs, and the methods that put it to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from carom.common.core.spaces import Box
from carom.common.core.threats import Ball, column
from carom.common.defences.training.inner import Inner
from carom.common.defences.training.watch import Watch
from carom.common.models.training import Method, Sampler, Schedule

Network = Callable[[Tensor], Tensor]


class Outer(Protocol):
    """(the network, clean inputs[B, ...], adversarial ones, labels int64[B]) -> the loss of the batch, a number"""

    def __call__(self, network: Any, clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class BothLosses:
    """Cross-entropy of the adversarial inputs, and of the clean ones with weight `clean` (Madry et al. 2018: 0)."""

    clean: float = 0.0

    def __call__(self, network: Network, clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
        loss = F.cross_entropy(network(adversarial), labels)
        if not self.clean:
            return loss
        return self.clean * F.cross_entropy(network(clean), labels) + (1 - self.clean) * loss


def divergence(wanted: Tensor, given: Tensor) -> Tensor:
    """float[B]: Kullback-Leibler divergence of the answers to logits `given` from those to logits `wanted`."""
    return F.kl_div(given.log_softmax(1), wanted.softmax(1), reduction="none").sum(1)


@dataclass(frozen=True)
class Trades:
    """Cross-entropy of the clean inputs, and `beta` times the divergence of the adversarial answers from the clean ones
    (Zhang et al. 2019, eq. 5)."""

    beta: float

    def __call__(self, network: Network, clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
        natural = network(clean)
        return F.cross_entropy(natural, labels) + self.beta * divergence(natural, network(adversarial)).mean()


@dataclass(frozen=True)
class Mart:
    """Boosted cross-entropy of the adversarial inputs, and `beta` times the divergence, weighted by how wrong the clean
    answer is (Wang et al. 2020, eq. 12)."""

    beta: float

    def __call__(self, network: Network, clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
        natural, attacked = network(clean), network(adversarial)
        shares = attacked.softmax(1)
        others = shares.scatter(1, labels[:, None], 0.0).amax(1)
        boosted = F.cross_entropy(attacked, labels) - (1 - others).clamp_min(1e-12).log().mean()
        doubt = 1 - natural.softmax(1).gather(1, labels[:, None]).squeeze(1)
        return boosted + self.beta * (divergence(natural, attacked) * doubt).mean()


@dataclass(frozen=True)
class Awp:
    """Another outer loss at weights moved against it: each matrix of weights by `gamma` of its norm, along the gradient
    of the loss (Wu et al. 2020, eq. 10; one step). The gradient is that at the moved weights, and the step is taken from
    the weights as they are."""

    outer: Outer
    gamma: float

    def __call__(self, network: nn.Module, clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
        weights = {name: value for name, value in network.named_parameters() if value.ndim > 1 and value.requires_grad}

        def at(moved: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> Network:
            return lambda x: functional_call(network, {**moved, **buffers}, (x,))

        untouched = {name: value.clone() for name, value in network.named_buffers()}
        loss = self.outer(at(weights, untouched), clean, adversarial, labels)
        grads = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        moved = {}
        for (name, value), grad in zip(weights.items(), grads, strict=True):
            length = self.gamma * value.detach().norm() / grad.norm().clamp_min(1e-12)
            moved[name] = value + length * grad
        return self.outer(at(moved, {}), clean, adversarial, labels)


@dataclass(frozen=True)
class Distilled:
    """Adversarially robust distillation: `alpha` times the divergence of the adversarial answers from the teacher's to
    the clean inputs, at a temperature and times its square, and the rest cross-entropy of the clean inputs (Goldblum et
    al. 2020, eq. 3)."""

    teacher: Network
    temperature: float
    alpha: float

    def __call__(self, network: Network, clean: Tensor, adversarial: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher(clean) / self.temperature
        loss = self.temperature**2 * divergence(wanted, network(adversarial) / self.temperature).mean()
        if self.alpha == 1:
            return loss
        return self.alpha * loss + (1 - self.alpha) * F.cross_entropy(network(clean), labels)


class Watched(Method):
    """A method for so many `epochs` (None: the recipe's), under a watch if it has one."""

    def __init__(self, epochs: int | None = None, watch: Watch | None = None) -> None:
        self.epochs, self.watch = epochs, watch

    def schedule(self, schedule: Schedule) -> Schedule:
        return schedule if self.epochs is None else replace(schedule, epochs=self.epochs)

    def begin(self, module: nn.Module, sample: Sampler, indices: Tensor, generator: torch.Generator) -> Tensor:
        return indices if self.watch is None else self.watch.hold_out(sample, indices, generator)

    def look(self, network: nn.Module, epoch: int) -> bool:
        return self.watch is not None and self.watch.look(network, epoch)

    def end(self, network: nn.Module) -> None:
        if self.watch is not None:
            self.watch.put_back(network)


class Adversarial(Watched):
    """Adversarial inputs by `inner`, descended on by `outer`."""

    def __init__(self, inner: Inner, outer: Outer, epochs: int | None = None, watch: Watch | None = None) -> None:
        super().__init__(epochs, watch)
        self.inner, self.outer = inner, outer

    def loss(
        self, module: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        return self.outer(module, inputs, self.inner(module, inputs, labels, generator), labels)


class Free(Watched):
    """Each batch for `replays` steps in a row; the gradient that descends the weights also takes the change of the inputs
    one step up, and the next batch begins with the change of the last (Shafahi et al. 2019, Alg. 1). As many steps in
    all as the recipe takes."""

    def __init__(
        self, threat: Ball, space: Box, replays: int, size: float, epochs: int | None = None, watch: Watch | None = None
    ) -> None:
        super().__init__(epochs, watch)
        self.threat, self.space, self.replays, self.size = threat, space, replays, size
        self._change: Tensor | None = None

    def schedule(self, schedule: Schedule) -> Schedule:
        schedule = super().schedule(schedule)
        return replace(schedule, epochs=max(1, round(schedule.epochs / self.replays)))

    def loss(
        self, module: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        self._change = self._moved(inputs).requires_grad_()
        return F.cross_entropy(module(self.space.clamp(inputs + self._change)), labels)

    def _moved(self, inputs: Tensor) -> Tensor:
        """The change after the step up that the last backward pass showed."""
        last = self._change
        if last is None or last.grad is None or last.shape != inputs.shape:
            return torch.zeros_like(inputs)
        space, x = self.space, self.space.clamp(inputs + last.detach())
        way = self.threat.ascent(last.grad, x, space.low, space.high)
        x = x + column(self.size * self.threat.stride(inputs), x) * way
        return self.threat.inside(x, inputs, space.low, space.high) - inputs
