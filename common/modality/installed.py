"""The modalities that are installed, imported on first use."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from carom.common.base.errors import UnknownName

if TYPE_CHECKING:  # names alone are known without torch
    from carom.common.loading.zoo import Recipe
    from carom.common.modality.contract import Modality


def modality_names() -> list[str]:
    return sorted(point.name for point in entry_points(group="carom.modalities"))


@lru_cache
def get_modality(name: str) -> Modality:
    """The modality of that name, imported on first use."""
    for point in entry_points(group="carom.modalities"):
        if point.name == name:
            return point.load()
    raise UnknownName("modality", name, modality_names())


def modalities(name: str | None = None) -> list[Modality]:
    """The one of that name, or all that are installed, in the order in which they are listed."""
    found = [get_modality(one) for one in ([name] if name else modality_names())]
    return sorted(found, key=lambda owner: (owner.order, owner.name))


def modality_of_kind(kind: str) -> Modality | None:
    """The modality that alone has specs of this kind; None where the kind does not tell."""
    return next((owner for owner in modalities() if kind in owner.model_kinds), None)


def zoo_recipe(name: str) -> Recipe:
    """The recipe of zoo:NAME, whichever modality ships it."""
    known = {recipe.name: recipe for owner in modalities() for recipe in owner.recipes.values()}
    if name not in known:
        raise UnknownName("model in the zoo", name, known)
    return known[name]
