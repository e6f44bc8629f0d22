"""What a registry says of an attack, and an attack as a study asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carom.common.core.batch import Access
from carom.common.core.model import Model
from carom.common.core.problem import Attack
from carom.common.core.threats import Threat


@dataclass(frozen=True, kw_only=True)
class AttackInfo:
    """One entry of the attack registry."""

    name: str
    summary: str  # one line
    reference: str  # authors, year, title
    needs: Access
    threats: tuple[str, ...]  # kinds of threat it works in: linf, l2, l0, snr, words
    build: Callable[..., Attack]  # its keyword parameters are the attack's
    cost: str  # per example: "steps forward and backward"
    targeted: bool = True  # can be aimed at a class
    threat: Callable[[Threat], Threat] = field(default=lambda threat: threat)  # the threat it implies, if it fixes one
    models: str = "any"  # of which build: see MODELS
    random: bool = False  # whether its outcome depends on the seed
    shared: bool = False  # whether most of it is done once for all examples; its cost is charged to each in full
    departures: str = ""  # where it differs from the paper, if it does


MODELS = {
    "any": "every model that grants the access",
    "layers": "networks with inner layers of the form [N, C, H, W] or [N, tokens, C]",
    "residual": "residual or densely connected networks",
    "relu": "networks with ReLUs behind their middle layer",
    "attention": "vision transformers",
    "members": "ensembles",
    "trees": "decision trees and ensembles of them",
}
"""What an attack may ask of a model's build, beyond access."""


BALLS = ("linf", "l2", "snr")


@dataclass(frozen=True)
class AttackChoice:
    """An attack as asked for: its entry in the registry, its parameters, and the attack they make."""

    info: AttackInfo
    parameters: Mapping[str, Any]
    attack: Attack
    eot: int | None = None  # how many draws of a random model it averages; None: as many as the model says

    def threat(self, asked: Threat) -> Threat:
        """The threat that the attack works in when asked for another: its entry may fix one, and so may the attack."""
        threat = self.info.threat(asked)
        within = getattr(self.attack, "within", None)
        return threat if within is None else within(threat)

    @property
    def needs_others(self) -> bool:
        return Access.EXAMPLES in self.info.needs

    def runs_on(self, source: Model) -> bool:
        """Whether the source grants what the attack needs of a model."""
        return (self.info.needs & ~Access.EXAMPLES) in source.access

    @property
    def label(self) -> str:
        """The spec that asks for it again."""
        tail = "&".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.info.name}?{tail}" if tail else self.info.name
