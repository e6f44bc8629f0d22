"""Finding attacks by name, with their parameters checked before anything is computed."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from carom.common.errors import CaromError, UnknownName
from carom.common.modality import AttackInfo, Modality, get_modality, modality_names
from carom.common.specs import call_with, split_parameters
from carom.common.units import Chosen


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


def choose_attack(modality: Modality, spec: str, threat: str | None = None) -> Chosen:
    """The attack that `pgd?steps=20` asks for, checked against the kind of threat."""
    name, parameters = split_parameters(spec)
    known = attacks_of(modality)
    if name not in known:
        raise UnknownName(f"{modality.name} attack", name, known)
    info = known[name]
    if threat is not None and threat not in info.threats:
        kinds = ", ".join(info.threats)
        raise CaromError(f"attack {name} works within {kinds}, not {threat}. Choose another --threat.")
    return Chosen(info, parameters, call_with(info.build, parameters, f"attack {name}"))


def list_attacks(modality: str | None = None) -> list[tuple[str, AttackInfo]]:
    """(modality, entry) of every registered attack."""
    names = [modality] if modality else modality_names()
    return [(name, info) for name in names for info in attacks_of(get_modality(name)).values()]


def describe_attack(modality: str, info: AttackInfo) -> dict[str, Any]:
    """One attack as `carom list attacks --json` prints it."""
    import inspect

    return {
        "name": info.name,
        "modality": modality,
        "summary": info.summary,
        "reference": info.reference,
        "needs": info.needs.words(),
        "threats": list(info.threats),
        "cost": info.cost,
        "targeted": info.targeted,
        "models": info.models,
        "random": info.random,
        "parameters": {p.name: p.default for p in inspect.signature(info.build).parameters.values()},
    }
