"""Finding attacks by name, with their parameters checked before anything is computed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from carom.common.attacks.gradient.ascent import climb_of, with_climb
from carom.common.attacks.gradient.transforms import TransformInfo
from carom.common.attacks.info import AttackChoice, AttackInfo
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import call_with, split_parameters
from carom.common.core.batch import Access
from carom.common.core.problem import Attack
from carom.common.modality.contract import Modality
from carom.common.modality.installed import modalities


def attacks_of(modality: Modality) -> dict[str, AttackInfo]:
    """The modality's own attacks and those that third parties add in the entry-point group `carom.attacks`.

    An entry point called MODALITY.NAME loads an `AttackInfo`.
    """
    found = dict(modality.attacks)
    for point in entry_points(group="carom.attacks"):
        owner, _, name = point.name.partition(".")
        if owner == modality.name and name not in found:
            found[name] = point.load()
    return found


def find_attack(modality: Modality, name: str) -> AttackInfo:
    """The entry of a registered attack, or what KIND:REST makes of another library's."""
    kind, colon, rest = name.partition(":")
    known = attacks_of(modality)
    if colon and kind in modality.attack_kinds:
        return modality.attack_kinds[kind](rest)
    if name not in known:
        if others := [owner.name for owner in modalities() if name in attacks_of(owner)]:
            raise CaromError(
                f"{name} is an attack on {' and '.join(others)}, not on {modality.name}. See `carom list attacks "
                f"--modality {modality.name}`."
            )
        raise UnknownName(f"{modality.name} attack", name, [*known, *(f"{k}:NAME" for k in modality.attack_kinds)])
    return known[name]


def choose_attack(modality: Modality, spec: str, threat: str | None = None) -> AttackChoice:
    """The attack that `pgd?steps=20&transform=di,ti` asks for, checked against the kind of threat."""
    name, parameters = split_parameters(spec)
    info = find_attack(modality, name)
    if threat is not None and threat not in info.threats:
        kinds = ", ".join(info.threats)
        raise CaromError(f"attack {name} works within {kinds}, not {threat}. Choose another --threat.")
    return build_attack(modality, info, parameters)


def build_attack(modality: Modality, info: AttackInfo, parameters: Mapping[str, Any]) -> AttackChoice:
    """A registered attack with its parameters. `transform` is not its own but names transforms to add, `eot` how many draws
    of a random model it averages."""
    name, own = info.name, dict(parameters)
    taken = inspect.signature(info.build).parameters
    wanted = None if "transform" in taken else own.pop("transform", None)
    eot = None if "eot" in taken else own.pop("eot", None)
    if eot is not None and (not isinstance(eot, int) or isinstance(eot, bool) or eot < 1):
        raise CaromError(f"attack {name}: eot takes a whole number, 1 or more, not {eot!r}: draws of a random model.")
    attack = call_with(info.build, own, f"attack {name}", counts=True)
    if wanted is not None:
        attack, needs = transformed(modality, attack, str(wanted), f"attack {name}")
        info = replace(info, needs=info.needs | needs)
    return AttackChoice(info, parameters, attack, eot)


def transformed(modality: Modality, attack: Attack, names: str | Iterable[str], what: str) -> tuple[Attack, Access]:
    """(the attack with these transforms, in order, after those it has; what they need besides)."""
    wanted = chosen_transforms(modality, names)
    climb = climb_of(attack)
    if climb is None:
        raise CaromError(
            f"{what} takes no transform: it does not climb a gradient. Leave --transform out, or name transforms in "
            "the attacks that do: 'mi-fgsm?transform=di'."
        )
    needs = Access(0)
    for info in wanted:
        climb, needs = info.apply(climb), needs | (info.needs & ~Access.GRADIENT)
    return with_climb(attack, climb), needs


def chosen_transforms(modality: Modality, names: str | Iterable[str]) -> list[TransformInfo]:
    """The transforms that "di,ti" names, each once."""
    split = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    if not modality.transforms:
        raise CaromError(f"{modality.name} has no transforms. See `carom list transforms`.")
    for name in split:
        if name not in modality.transforms:
            raise UnknownName(f"{modality.name} transform", name, modality.transforms)
    if twice := sorted({name for name in split if split.count(name) > 1}):
        raise CaromError(f"transform {', '.join(twice)} is named twice. Name each once, in the order to apply them.")
    return [modality.transforms[name] for name in split]


def list_attacks(modality: str | None = None) -> list[tuple[str, AttackInfo]]:
    """(modality, entry) of every registered attack."""
    return [(owner.name, info) for owner in modalities(modality) for info in attacks_of(owner).values()]


def paper(reference: str) -> str:
    """Authors and year, as tables cite a paper; "own" where a reference names none.

    >>> paper("Dong et al. 2018, Boosting adversarial attacks with momentum")
    'Dong et al. 2018'
    """
    cited = re.match(r"(.*?\b(?:19|20)\d\d)\b", reference)
    return cited[1] if cited else "own"


def describe_attack(modality: str, info: AttackInfo) -> dict[str, Any]:
    """One attack as `carom list attacks --json` prints it."""
    return {
        "name": info.name,
        "modality": modality,
        "summary": info.summary,
        "paper": paper(info.reference),
        "reference": info.reference,
        "needs": info.needs.words(),
        "threats": list(info.threats),
        "cost": info.cost,
        "targeted": info.targeted,
        "models": info.models,
        "random": info.random,
        "departures": info.departures,
        "parameters": {p.name: p.default for p in _own_parameters(info)},
    }


def _own_parameters(info: AttackInfo) -> list[inspect.Parameter]:
    """Those that an attack names, without what it hands on."""
    return [p for p in inspect.signature(info.build).parameters.values() if p.kind is not p.VAR_KEYWORD]
