"""What `carom show` says of one thing."""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from carom.common.api import load_model
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import Spec, parse
from carom.common.cli.listing import attacks, data, defences, models, transforms
from carom.common.core.batch import Batch
from carom.common.core.model import MISFITS, Model
from carom.common.core.spaces import Box
from carom.common.defences.defended import Defended
from carom.common.defences.info import ADAPTATIONS
from carom.common.defences.training.trained import trained_by
from carom.common.loading.boosters.read import SAVE
from carom.common.loading.dispatch import load_python
from carom.common.loading.zoo import Recipe, read_card
from carom.common.modality.defences import choose_defence
from carom.common.modality.installed import get_modality, modalities, zoo_recipe
from carom.common.modality.registry import describe_attack, find_attack
from carom.common.models.evaluation.row_blocks import ROWS_TOGETHER
from carom.common.models.networks import TorchModel
from carom.common.runs.run import load_run

MODEL_KINDS = ("torchvision", "torchaudio", "hf", "safetensors", "sklearn", *SAVE, "py", "defended", "ensemble")


def described(model: Model) -> dict[str, Any]:
    """What is told of a model that was loaded."""
    how = evaluated(model)
    return {
        "name": model.name,
        "modality": model.modality,
        "family": model.family.value,
        "grants": model.access.words(),
        "classes": len(model.classes),
        "shape": ["any" if side is None else side for side in getattr(model, "shape", None) or ()],
        **model.facts,
        **how,
        **defence_of(model),
        "digest": model.digest,
    }


def defence_of(model: Model) -> dict[str, Any]:
    """How an attacker who knows it attacks a model behind defences; nothing of others."""
    if not isinstance(model, Defended):
        return {}
    averaged = {"draws averaged by an attacker": model.eot} if model.random else {}
    return {"attacked": [ADAPTATIONS[word] for word in model.adaptation], "random": model.random, **averaged}


def evaluated(model: Model) -> dict[str, str]:
    """How a network is evaluated, found out on random inputs of its shape; nothing of what is no torch network."""
    if not isinstance(model, TorchModel) or not isinstance(model.space, Box):
        return {}
    sides = [side for side in model.shape or () if side is not None]
    if not sides or len(sides) < len(model.shape or ()):
        return {"evaluated": "as its first inputs decide, since it takes inputs of any size"}
    low, high = model.space.low, model.space.high
    x = torch.rand(ROWS_TOGETHER, *sides, generator=torch.Generator().manual_seed(0)) * (high - low) + low
    lengths = torch.full((len(x),), x.shape[-1]) if model.takes_lengths else None
    batch = Batch(x, torch.zeros(len(x), dtype=torch.long), list(map(str, range(len(x)))), lengths)
    with warnings.catch_warnings(), contextlib.suppress(CaromError, *MISFITS):  # what fails is told as a reason
        warnings.simplefilter("ignore")  # of what is told as a fact
        model.settle(batch, len(model.classes))
    with model.frozen():
        return {"evaluated": str(model.evaluation((x,) if lengths is None else (x, lengths)))}


def recipe_of(spec: str) -> Recipe:
    """The recipe of zoo:NAME, or the one of your own that py:pkg.module:name is or makes."""
    parsed = parse(spec, ("zoo", "py")) if ":" in spec else Spec("zoo", spec)
    if parsed.kind == "zoo":
        return zoo_recipe(parsed.rest)
    found = load_python(parsed)
    if not isinstance(found, Recipe):
        raise CaromError(
            f"{spec} is a {type(found).__name__}: `carom train` takes a Recipe (carom.common.loading.zoo), or a function "
            "that makes one."
        )
    return found


def defended_recipe(recipe: Recipe, of: str, wanted: str) -> Recipe:
    """The recipe of what a defence that trains makes of a recipe, by the specs of both."""
    choice = choose_defence(get_modality(recipe.modality), wanted)
    if choice.trainer is None:
        raise CaromError(
            f"{choice.info.name} stands around a model and trains none: use it as defended:zoo:{recipe.name}+"
            f"{choice.label}. See `carom list defences` for those of the kind training."
        )
    file = re.sub(r"[^A-Za-z0-9.]+", "-", f"{recipe.name}-{wanted}").strip("-")
    return trained_by(recipe, choice.trainer, wanted, file, f"defended by {wanted}", of)


def find(name: str, modality: str | None = None) -> dict[str, Any]:
    """Facts of one attack, transform, defence, model, data set or run folder. The first three may share a name:
    `transform:ssa` is the transform, `defence:noise` the defence. A model from outside the zoo is loaded to be asked;
    where its spec does not tell its modality, it has to be named."""
    if (Path(name) / "manifest.json").exists():
        return load_run(Path(name))[1]
    if name.partition(":")[0] in MODEL_KINDS:
        return described(load_model(name, modality))
    for owner in modalities(modality):
        if name.partition(":")[0] in owner.attack_kinds:
            return describe_attack(owner.name, find_attack(owner, name))
    bare = name.split(":", 1)[-1]
    kinds = {"attack": attacks, "transform": transforms, "defence": defences}
    for kind, rows in kinds.items():
        if name.partition(":")[0] in kinds and not name.startswith(f"{kind}:"):
            continue
        found = [row for row in rows() if row["name"] == bare and modality in (None, row["modality"])]
        if found:
            return {**found[0], "modality": [row["modality"] for row in found]}
    for row in [*models(), *data()]:
        if bare == row["name"].split(":", 1)[1]:
            recipe = recipe_of(row["name"]) if row["name"].startswith("zoo:") else None
            return {**row, **(read_card(recipe) if recipe is not None and recipe.card.exists() else {})}
    known = {row["name"] for row in [*attacks(), *transforms(), *defences(), *models(), *data()]}
    named = known | {n.split(":", 1)[-1] for n in known}
    raise UnknownName("attack, transform, defence, model, data set or run", name, named)
