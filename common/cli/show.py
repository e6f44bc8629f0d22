"""What `carom show` says of one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carom.common.api import load_model
from carom.common.base.errors import UnknownName
from carom.common.base.specs import parse
from carom.common.cli.listing import attacks, data, models, transforms
from carom.common.core.model import Model
from carom.common.loading.zoo import Recipe, read_card
from carom.common.modality.installed import modalities, zoo_recipe
from carom.common.modality.registry import describe_attack, find_attack
from carom.common.runs.run import load_run

MODEL_KINDS = ("torchvision", "torchaudio", "hf", "safetensors", "sklearn", "py")


def described(model: Model) -> dict[str, Any]:
    """What is told of a model that was loaded."""
    return {
        "name": model.name,
        "modality": model.modality,
        "family": model.family.value,
        "grants": model.access.words(),
        "classes": len(model.classes),
        "shape": ["any" if side is None else side for side in getattr(model, "shape", None) or ()],
        **model.facts,
        "digest": model.digest,
    }


def recipe_of(spec: str) -> Recipe:
    """The recipe of zoo:NAME."""
    return zoo_recipe(parse(spec, ("zoo",)).rest if ":" in spec else spec)


def find(name: str, modality: str | None = None) -> dict[str, Any]:
    """Facts of one attack, transform, model, data set or run folder. An attack and a transform may share a name:
    `transform:ssa` is the transform. A model from outside the zoo is loaded to be asked; where its spec does not tell
    its modality, it has to be named."""
    if (Path(name) / "manifest.json").exists():
        return load_run(Path(name))[1]
    if name.partition(":")[0] in MODEL_KINDS:
        return described(load_model(name, modality))
    for owner in modalities(modality):
        if name.partition(":")[0] in owner.attack_kinds:
            return describe_attack(owner.name, find_attack(owner, name))
    bare = name.split(":", 1)[-1]
    for rows in ([] if name.startswith("transform:") else [attacks()]) + [transforms()]:
        if found := [row for row in rows if row["name"] == bare]:
            return {**found[0], "modality": [row["modality"] for row in found]}
    for row in [*models(), *data()]:
        if bare == row["name"].split(":", 1)[1]:
            recipe = recipe_of(row["name"]) if row["name"].startswith("zoo:") else None
            return {**row, **(read_card(recipe) if recipe is not None and recipe.card.exists() else {})}
    known = {row["name"] for row in [*attacks(), *transforms(), *models(), *data()]}
    raise UnknownName("attack, transform, model, data set or run", name, known | {n.split(":", 1)[-1] for n in known})
