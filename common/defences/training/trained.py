"""Recipes that a defence trains, made of recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from carom.common.base.errors import CaromError
from carom.common.defences.info import Trains
from carom.common.loading.zoo import Body, Recipe
from carom.common.models.training import Method, Progress


def taught(recipe: Recipe, method: Method, progress: Progress | None) -> nn.Module:
    """The network of a recipe, trained on its data by its schedule and by a method."""
    if recipe.method is not None:
        raise CaromError(f"{recipe.name} is trained by a method of its own already: name the recipe without it.")
    body = recipe.train(replace(recipe, method=method), progress)
    if not isinstance(body, nn.Module):
        raise CaromError(f"{recipe.name} is no network, and this defence trains networks: name another recipe.")
    return body


def part_of(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """What reports one of several trainings that follow each other as a part of the whole."""
    if progress is None:
        return None
    return lambda epoch, epochs, loss: progress(part * epochs + epoch, parts * epochs, loss)


@dataclass(frozen=True)
class By(Trains):
    """A defence that is one training by one method. `method` makes it anew for each training."""

    method: Callable[[], Method]

    def train(self, recipe: Recipe, progress: Progress | None) -> Body:
        return taught(recipe, self.method(), progress)


def trained_by(recipe: Recipe, defence: Trains, label: str, name: str, note: str, of: str = "") -> Recipe:
    """The recipe of what `defence` makes of `recipe`; `label` is the spec that asks for it, `note` what the summary adds,
    `of` the spec of `recipe` where the new one is not of the zoo."""
    if recipe.family == "tree" and not getattr(defence, "trees", False):
        raise CaromError(f"{recipe.name} grows trees, and {label} trains networks: choose harden, or another recipe.")
    build = getattr(defence, "build", None)

    def train(made: Recipe, progress: Progress | None) -> Body:
        return defence.train(replace(made, train=recipe.train, build=recipe.build), progress)

    return replace(
        recipe,
        name=name,
        summary=f"{recipe.summary}, {note}",
        train=train,
        build=recipe.build if build is None else lambda: build(recipe),
        defence=label,
        of=of,
    )
