"""What `carom list` and `carom show` say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carom.common.api import load_model
from carom.common.base.errors import UnknownName
from carom.common.base.specs import parse
from carom.common.core.model import Model
from carom.common.loading.zoo import Recipe, read_card
from carom.common.modality.installed import modalities, zoo_recipe
from carom.common.modality.registry import describe_attack, find_attack, list_attacks
from carom.common.runs.run import load_run

COLUMNS = {
    "attacks": ("name", "modality", "needs", "threats", "cost", "paper", "summary"),
    "transforms": ("name", "modality", "needs", "summary"),
    "metrics": ("name", "modality", "summary", "missing"),
    "models": ("name", "modality", "family", "clean_accuracy", "summary"),
    "data": ("name", "modality", "summary"),
    "defences": ("name", "modality", "summary"),
    "runs": ("folder", "finished", "modalities", "seconds"),
}
NONE = {
    "attacks": "no attacks",
    "transforms": "no transforms",
    "metrics": "no metrics",
    "models": "no models",
    "data": "no data",
    "defences": "no defences are built in yet",
    "runs": "no finished runs below runs/ or in carom-demo/",
}


def attacks(modality: str | None = None) -> list[dict[str, Any]]:
    return [describe_attack(owner, info) for owner, info in list_attacks(modality)]


def transforms(modality: str | None = None) -> list[dict[str, Any]]:
    """What `--transform` takes: any gradient attack can be given them."""
    return [
        {
            "name": info.name,
            "modality": owner.name,
            "summary": info.summary,
            "reference": info.reference,
            "needs": info.needs.words(),
            "use": f"--transform {info.name}, or in an attack: mi-fgsm?transform={info.name}",
        }
        for owner in modalities(modality)
        for info in owner.transforms.values()
    ]


def metrics(modality: str | None = None) -> list[dict[str, Any]]:
    """What is measured of the size of perturbations; `missing` says why one cannot be had here."""
    return [
        {
            "name": metric.name,
            "modality": owner.name,
            "summary": metric.summary,
            "reference": metric.reference,
            "missing": metric.missing(),
        }
        for owner in modalities(modality)
        for metric in owner.metrics
    ]


def models(modality: str | None = None) -> list[dict[str, Any]]:
    rows = []
    for owner in modalities(modality):
        for recipe in owner.recipes.values():
            card = read_card(recipe) if recipe.card.exists() else {}
            rows.append(
                {
                    "name": f"zoo:{recipe.name}",
                    "modality": owner.name,
                    "family": recipe.family,
                    "clean_accuracy": card.get("clean_accuracy"),
                    "summary": recipe.summary,
                    "seed": recipe.seed,
                    "half": recipe.half,
                }
            )
    return rows


def data(modality: str | None = None) -> list[dict[str, Any]]:
    return [
        {"name": f"builtin:{name}", "modality": owner.name, "summary": summary}
        for owner in modalities(modality)
        for name, summary in owner.data.items()
    ]


def defences(modality: str | None = None) -> list[dict[str, Any]]:
    return []


def runs(modality: str | None = None) -> list[dict[str, Any]]:
    """Finished runs below the working directory, newest last."""
    rows = []
    for path in sorted(Path().glob("*/manifest.json")) + sorted(Path("runs").glob("*/manifest.json")):
        study, manifest = load_run(path.parent)
        if modality is None or modality in study.modalities:
            rows.append(
                {
                    "folder": str(path.parent),
                    "finished": manifest["finished"],
                    "modalities": list(study.modalities),
                    "seconds": _seconds(path.parent),
                }
            )
    return rows


def _seconds(folder: Path) -> float | None:
    """How long a run took, as its result says."""
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))["seconds"]
    except (OSError, ValueError, KeyError):
        return None


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
