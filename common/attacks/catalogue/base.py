"""Where attacks and transforms are registered: beside the functions that compose them."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack

from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.transforms import TransformInfo
from carom.common.attacks.info import AttackInfo
from carom.common.core.batch import Access
from carom.common.core.threats import Threat

Build = TypeVar("Build", bound=Callable[..., Any])
Change = TypeVar("Change", bound=Callable[..., Ascent])


class Facts(TypedDict, total=False):
    """What an entry says besides its name, summary and paper: the fields of `AttackInfo` of these names."""

    needs: Access
    threats: tuple[str, ...]
    cost: str
    targeted: bool
    threat: Callable[[Threat], Threat]
    models: str
    random: bool
    shared: bool
    departures: str


class Catalogue:
    """Attacks in the order in which they are registered, and transforms for them. What its attacks have in common is
    given once; an attack that differs says so.

        GRADIENT = Catalogue(needs=Access.GRADIENT, threats=BALLS, cost="steps forward, steps backward")

        @GRADIENT.attack("bim", "FGSM in small steps", paper="Kurakin, Goodfellow and Bengio 2017, Adversarial examples ...")
        def bim(steps: int = 10) -> Ascent: ...

    `finish` makes of each entry the one that is registered. A modality lists the catalogues that it offers
    (`attacks_within`, `transforms_in`).
    """

    def __init__(self, finish: Callable[[AttackInfo], AttackInfo] | None = None, **common: Unpack[Facts]) -> None:
        self.attacks: list[AttackInfo] = []
        self.transforms: list[TransformInfo] = []
        self._finish, self._common = finish, common

    def attack(self, name: str, summary: str, *, paper: str, **own: Unpack[Facts]) -> Callable[[Build], Build]:
        """Registers the function below, whose keyword parameters are the attack's. `paper`: authors, year, title."""

        def register(build: Build) -> Build:
            facts: dict[str, Any] = {**self._common, **own}
            info = AttackInfo(name=name, summary=summary, reference=paper, build=build, **facts)
            self.attacks.append(info if self._finish is None else self._finish(info))
            return build

        return register

    def transform(
        self, name: str, summary: str, *, paper: str, needs: Access = Access.GRADIENT, models: str = "any"
    ) -> Callable[[Change], Change]:
        """Registers the function below, which gives its transform to an attack; what else it takes has defaults."""

        def register(apply: Change) -> Change:
            self.transforms.append(
                TransformInfo(name=name, summary=summary, reference=paper, apply=apply, needs=needs, models=models)
            )
            return apply

        return register


def attacks_within(kinds: Container[str], *catalogues: Catalogue) -> dict[str, AttackInfo]:
    """The attacks of these catalogues that work in some of a modality's kinds of threat, by name."""
    found: dict[str, AttackInfo] = {}
    for info in (info for catalogue in catalogues for info in catalogue.attacks):
        if threats := tuple(kind for kind in info.threats if kind in kinds):
            if info.name in found:
                raise ValueError(f"two attacks are registered as {info.name}")
            found[info.name] = replace(info, threats=threats)
    return found


def transforms_in(*catalogues: Catalogue) -> dict[str, TransformInfo]:
    """The transforms of these catalogues, by name."""
    listed = [info for catalogue in catalogues for info in catalogue.transforms]
    found = {info.name: info for info in listed}
    if len(found) < len(listed):
        raise ValueError(f"two transforms share a name: {sorted(info.name for info in listed)}")
    return found
