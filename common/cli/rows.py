"""What is registered, as rows of tables; modalities are imported to be asked. `carom list` remembers these rows."""

from __future__ import annotations

from typing import Any

from carom.common.base.requirements import Requires
from carom.common.loading.zoo import read_card
from carom.common.modality.defences import describe_defence, list_defences
from carom.common.modality.installed import modalities
from carom.common.modality.registry import describe_attack, list_attacks

Row = dict[str, Any]


def attacks(modality: str | None = None) -> list[Row]:
    return [describe_attack(owner, info) for owner, info in list_attacks(modality)]


def defences(modality: str | None = None) -> list[Row]:
    return [describe_defence(owner, info) for owner, info in list_defences(modality)]


def transforms(modality: str | None = None) -> list[Row]:
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


def metrics(modality: str | None = None) -> list[Row]:
    """What is measured of the size of perturbations; `missing` says why one cannot be had here. By `needs` that can be
    told again, where they lack or no `try_out` comes after them; None of a metric that has to be asked itself."""
    rows = []
    for owner in modalities(modality):
        for metric in owner.metrics:
            told = metric.missing if isinstance(metric.missing, Requires) else None
            rows.append(
                {
                    "name": metric.name,
                    "modality": owner.name,
                    "summary": metric.summary,
                    "reference": metric.reference,
                    "missing": metric.missing(),
                    "needs": None if told is None else [[one.kind, one.names, one.how] for one in told.these],
                    "try_out": told is not None and told.try_out is not None,
                }
            )
    return rows


def models(modality: str | None = None) -> list[Row]:
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
                    "card": str(recipe.card),
                }
            )
    return rows


def data(modality: str | None = None) -> list[Row]:
    return [
        {"name": f"builtin:{name}", "modality": owner.name, "summary": summary}
        for owner in modalities(modality)
        for name, summary in owner.data.items()
    ]
