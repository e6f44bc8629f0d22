"""The one training loop: every network of the zoo, in every modality, is trained by `fit`, with any `Method`."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.core.model import Model
from carom.common.models.trees import TreeEnsemble

Sampler = Callable[[Tensor, torch.Generator], tuple[Any, Tensor]]
"""(indices[B], generator) -> (inputs[B, ...], labels[B]): reads, pads and augments one training batch. Inputs in a
tuple are a module's several arguments."""

Progress = Callable[[int, int, float], None]
"""(epoch, epochs, mean training loss): called after each epoch."""


@dataclass(frozen=True)
class Schedule:
    """How a network is trained: AdamW under a one-cycle learning rate, with an averaged copy of the weights. Or, with
    `constant`, stochastic gradient descent with momentum .9 at one learning rate."""

    epochs: int
    batch: int = 64
    lr: float = 2e-3  # peak learning rate
    weight_decay: float = 0.01
    smoothing: float = 0.05  # of the labels
    clip: float = 1.0  # largest gradient norm
    average: float = 0.0  # decay of the exponential moving average that is returned; 0 returns the last weights
    constant: bool = False


class Method:
    """How a network is taught, one object for one training: what `fit` asks of it, answered in the plain way. This one
    descends the cross-entropy of the training examples. Defences that train answer some of it otherwise
    (carom.common.defences).
    """

    replays = 1  # how many steps in a row each batch is used for

    def schedule(self, schedule: Schedule) -> Schedule:
        """The schedule to train by, instead of a recipe's own."""
        return schedule

    def begin(self, module: nn.Module, sample: Sampler, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Told once, before the first step. Answers the indices to train on: all, or those that are not held out."""
        return indices

    def mode(self, module: nn.Module) -> None:
        """Put the module into the mode it is trained in, before each epoch."""
        module.train()

    def loss(
        self, module: nn.Module, inputs: Any, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        """The loss of one batch, a number: its gradient is what a step descends. `smoothing` of the labels is the
        schedule's."""
        return F.cross_entropy(answer(module, inputs), labels, label_smoothing=smoothing)

    def look(self, network: nn.Module, epoch: int) -> bool:
        """Told after each epoch, from 1 on, of the network as it would be returned now: whether to stop here."""
        return False

    def grow(
        self,
        fit: Callable[[Tensor, Tensor], TreeEnsemble],
        model: Callable[[TreeEnsemble], Model],
        inputs: Tensor,
        labels: Tensor,
        seed: int,
    ) -> TreeEnsemble:
        """Of trees, instead of all other: grown by `fit(inputs, labels)`, here once. `model` makes a model of trees, to be
        attacked."""
        return fit(inputs, labels)

    def end(self, network: nn.Module) -> None:
        """Told once, before the network is returned, which may be put back to an earlier state."""


def answer(module: Any, inputs: Any) -> Tensor:
    """What a module answers to one batch; inputs in a tuple are its several arguments."""
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


@contextlib.contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Training inside gives the same weights again on one machine: one thread, torch's generator seeded. Both are put
    back afterwards."""
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    with threadpool_limits(1), torch.random.fork_rng(devices=[]):  # numpy's and scipy's threads too
        torch.set_num_threads(1)  # the same sums in the same order, whatever machine shares its cores
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def fit(
    module: nn.Module,
    sample: Sampler,
    indices: Tensor,
    schedule: Schedule,
    seed: int,
    progress: Progress | None = None,
    after: Callable[[int], None] | None = None,
    method: Method | None = None,
) -> nn.Module:
    """Train `module` on the examples `indices` names and return it in eval mode. `after` is told every step, from 1 on,
    once it is made. `method` says how it is taught, if not in the plain way.

    The caller seeds torch before building `module`; batches and augmentation follow from `seed` alone, so one
    thread on one machine gives the same weights again.
    """
    method = Method() if method is None else method
    schedule = method.schedule(schedule)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout reads the global generator
    indices = method.begin(module, sample, indices, generator)
    per_epoch = max(1, len(indices) // schedule.batch)
    optimiser, cycle = _optimiser(module, schedule, per_epoch * method.replays)
    averaged = copy.deepcopy(module) if schedule.average else None
    network, step = module if averaged is None else averaged, 0
    for epoch in range(schedule.epochs):
        method.mode(module)
        order = indices[torch.randperm(len(indices), generator=generator)]
        total = 0.0
        for at in range(per_epoch):
            inputs, labels = sample(order[at * schedule.batch : (at + 1) * schedule.batch], generator)
            for _ in range(method.replays):
                loss = method.loss(module, inputs, labels, generator, schedule.smoothing)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(module.parameters(), schedule.clip)
                optimiser.step()
                if cycle is not None:
                    cycle.step()
                total += loss.item()
                step += 1
                if averaged is not None:
                    _follow(averaged, module, schedule.average)
                if after is not None:
                    after(step)
        if progress is not None:
            progress(epoch + 1, schedule.epochs, total / (per_epoch * method.replays))
        if method.look(network, epoch + 1):
            break
    method.end(network)
    return network.eval()


def _optimiser(module: nn.Module, schedule: Schedule, per_epoch: int) -> tuple[torch.optim.Optimizer, Any]:
    """(optimiser, its schedule of learning rates or None)"""
    if schedule.constant:
        decay = schedule.weight_decay
        return torch.optim.SGD(module.parameters(), schedule.lr, momentum=0.9, weight_decay=decay), None
    optimiser = torch.optim.AdamW(module.parameters(), schedule.lr, weight_decay=schedule.weight_decay)
    total = schedule.epochs * per_epoch
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.lr, total_steps=total)


@torch.no_grad()
def _follow(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    """One step of the moving average; buffers (batch-norm statistics) are copied, being averages already."""
    for mean, value in zip(averaged.parameters(), module.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for kept, current in zip(averaged.buffers(), module.buffers(), strict=True):
        kept.copy_(current)
