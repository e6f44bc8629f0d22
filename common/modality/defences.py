"""Finding defences by name, with their parameters checked before anything is loaded."""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from typing import Any

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import call_with, split_parameters
from carom.common.defences.info import ADAPTATIONS, KINDS, DefenceChoice, DefenceInfo
from carom.common.modality.contract import Modality
from carom.common.modality.installed import modalities
from carom.common.modality.registry import paper


def defences_of(modality: Modality) -> dict[str, DefenceInfo]:
    """The modality's own defences and those that third parties add in the entry-point group `carom.defences`.

    An entry point called MODALITY.NAME loads a `DefenceInfo`.
    """
    found = dict(modality.defences)
    for point in entry_points(group="carom.defences"):
        owner, _, name = point.name.partition(".")
        if owner == modality.name and name not in found:
            found[name] = point.load()
    return found


def find_defence(modality: Modality, name: str) -> DefenceInfo:
    """The entry of a registered defence."""
    known = defences_of(modality)
    if name not in known:
        if others := [owner.name for owner in modalities() if name in defences_of(owner)]:
            raise CaromError(
                f"{name} is a defence of models for {' and '.join(others)}, not for {modality.name}. See `carom list "
                f"defences --modality {modality.name}`."
            )
        raise UnknownName(f"{modality.name} defence", name, known)
    return known[name]


def choose_defence(modality: Modality, spec: str) -> DefenceChoice:
    """The defence that `jpeg?quality=50` asks for."""
    name, parameters = split_parameters(spec)
    info = find_defence(modality, name)
    own = {key: value for key, value in parameters.items() if key not in info.besides}
    told = {key: value for key, value in parameters.items() if key in info.besides}
    call_with(_calibration, told, f"defence {name}", counts=True)
    return DefenceChoice(info, parameters, call_with(info.build, own, f"defence {name}", counts=True))


def _calibration(data: str | None = None, split: str = "train", limit: int = 500) -> None:
    """What the values of CALIBRATION have to be."""


def list_defences(modality: str | None = None) -> list[tuple[str, DefenceInfo]]:
    """(modality, entry) of every registered defence."""
    return [(owner.name, info) for owner in modalities(modality) for info in defences_of(owner).values()]


def describe_defence(modality: str, info: DefenceInfo) -> dict[str, Any]:
    """One defence as `carom list defences --json` prints it."""
    own = inspect.signature(info.build).parameters.values()
    return {
        "name": info.name,
        "modality": modality,
        "summary": info.summary,
        "kind": info.kind,
        "what": KINDS[info.kind],
        "paper": paper(info.reference),
        "reference": info.reference,
        "adaptation": list(info.adaptation),
        "attacked": [ADAPTATIONS[one] for one in info.adaptation],
        "cost": info.cost,
        "departures": info.departures,
        "parameters": {
            p.name: "needed" if p.default is p.empty else p.default for p in own if p.kind is not p.VAR_KEYWORD
        }
        | info.besides,
        "use": f"carom train zoo:NAME --defence {info.name}"
        if info.kind == "training"
        else f"-t defended:zoo:NAME+{info.name}, or --defence {info.name}",
    }
