"""The inner maximisation of adversarial training: adversarial versions of a training batch, against the network as it is
at that step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.attacks.gradient.ascent import climb_of, with_climb
from carom.common.attacks.info import AttackInfo
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.base.specs import bare, call_with, split_parameters
from carom.common.core.batch import Access, Batch, Family, Goal, Output
from carom.common.core.model import Model
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Attack, Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import Threat
from carom.common.models.networks import FrozenModule


@dataclass(frozen=True)
class Ground:
    """What training against attacks asks of a modality."""

    modality: str
    space: Box  # of the inputs that a recipe's sampler gives
    threats: Mapping[str, Callable[[float], Threat]]
    attacks: Mapping[str, AttackInfo]
    load: Callable[[str], Model]  # a model of the modality, by spec
    threat: str  # the kind by default
    eps: float  # its budget by default
    static: str  # specs of trained models whose examples ensemble adversarial training takes, by default

    @property
    def exact(self) -> Box:
        """The space without rounding: training inputs are augmented, and are not saved."""
        return replace(self.space, unit=0.0)


class Learner(Model):
    """The network that is being trained, as an attack sees it: in evaluation mode, with weights that need no gradient,
    and as it is. Its digest names nothing: the weights are others at the next step."""

    access = Access.LABEL | Access.SCORE | Access.GRADIENT | Access.FEATURES

    def __init__(self, module: nn.Module, modality: str, space: Box, classes: int) -> None:
        names = [str(number) for number in range(classes)]
        super().__init__("learner", modality, Family.OTHER, space, names, "a network that is being trained")
        self.module = module
        self._freeze = FrozenModule(module)

    def __call__(self, inputs: Tensor, lengths: Tensor | None = None) -> Output:
        return Output(self.module(inputs))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with self._freeze():
            yield


class Inner(Protocol):
    """(the network, clean inputs[B, ...], labels int64[B], generator) -> adversarial inputs[B, ...]"""

    def __call__(self, module: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor: ...


@dataclass(frozen=True)
class Crafted:
    """By an attack of the registry, on the network itself or on another model."""

    attack: Attack
    threat: Threat
    ground: Ground
    source: Model | None = None

    def __call__(self, module: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        model = self.source or Learner(module, self.ground.modality, self.ground.exact, self._classes(module, inputs))
        ids = [str(row) for row in range(len(inputs))]
        seed = int(torch.randint(1 << 62, (), generator=generator))
        problem = Problem(model, Goal(labels), self.threat)
        with torch.enable_grad():
            return self.attack(problem, Batch(inputs, labels, ids), Rng.of(seed, ids)).inputs.detach()

    def _classes(self, module: nn.Module, inputs: Tensor) -> int:
        with FrozenModule(module)(), torch.no_grad():
            return module(inputs[:1]).shape[1]


@dataclass(frozen=True)
class Transferred:
    """For each batch by one source drawn from the network itself and static models, all equally likely (Tramer et al.
    2017, section 4.2)."""

    sources: Sequence[Inner]

    def __call__(self, module: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        drawn = int(torch.randint(len(self.sources), (), generator=generator))
        return self.sources[drawn](module, inputs, labels, generator)


@dataclass(frozen=True)
class Divergence:
    """What TRADES climbs: the Kullback-Leibler divergence of the answers from those to the clean inputs, or from what a
    `teacher` answers to them; probabilities at a `temperature`. Its gradient is zero at the clean inputs themselves."""

    teacher: Callable[[Tensor], Tensor] | None = None
    temperature: float = 1.0
    passes = 0

    @contextlib.contextmanager
    def prepared(self, oracle: Oracle, rng: Rng) -> Iterator[Any]:
        x0 = oracle.batch.inputs
        with torch.no_grad():
            logits = oracle.logits(x0, pays=False) if self.teacher is None else self.teacher(x0)
            clean = (logits / self.temperature).softmax(1)

        def apart(logits: Tensor, goal: Goal) -> Tensor:
            wanted = clean.repeat(len(logits) // len(clean), 1)
            return F.kl_div((logits / self.temperature).log_softmax(1), wanted, reduction="none").sum(1)

        yield apart


def crafted(
    ground: Ground,
    attack: str,
    eps: float,
    threat: str | None,
    who: str,
    objective: Divergence | None = None,
    source: Model | None = None,
    granted: Access = Learner.access,
) -> Crafted:
    """The inner maximisation by the attack of a spec such as `pgd?steps=7`, with another `objective` where one is given.
    `who` is the defence that errors name, `granted` what is trained grants an attack."""
    name, parameters = split_parameters(bare(attack))
    if name not in ground.attacks:
        raise UnknownName(f"{ground.modality} attack", name, ground.attacks)
    info, kind = ground.attacks[name], threat or ground.threat
    if kind not in ground.threats:
        raise UnknownName(f"threat for {ground.modality}", kind, ground.threats)
    if kind not in info.threats:
        raise CaromError(
            f"{who}: {name} works in {', '.join(info.threats)}, not in {kind}. Give threat={info.threats[0]}."
        )
    granted = granted if source is None else source.access
    if info.needs & ~granted:
        lacking, asked = ", ".join((info.needs & ~granted).words()), "it" if source is None else source.name
        remedy = "Choose another attack, such as the default." if source is None else "Name another model."
        raise CaromError(f"{who}: {name} needs {lacking}, which {asked} does not grant. {remedy}")
    built = call_with(info.build, parameters, f"attack {name}", counts=True)
    if objective is not None:
        climb = climb_of(built)
        if climb is None:
            raise CaromError(f"{who} climbs a divergence of its own, and {name} climbs no gradient: choose attack=pgd.")
        # At the clean inputs a divergence from their own answers has no gradient.
        built = with_climb(built, replace(climb, objective=objective, random_start=True))
    return Crafted(built, info.threat(ground.threats[kind](eps)), ground, source)
