"""Networks of the user's own, trained on the user's own data by a defence."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.defences.training.trained import trained_by
from carom.common.loading.zoo import Body, Recipe
from carom.common.modality.defences import choose_defence
from carom.common.modality.installed import get_modality
from carom.common.models.averaged import Averaged
from carom.common.models.ensembles import Ensemble
from carom.common.models.mismatch import fitting
from carom.common.models.training import Progress, Schedule, deterministic, fit
from carom.common.surrogates.networks import accuracies, copied, examples_of, network_of


def train_defended(
    model: Model | str,
    data: Dataset,
    defence: str,
    *,
    epochs: int = 10,
    lr: float = 2e-3,
    batch: int = 64,
    seed: int = 0,
    held_out: Dataset | None = None,
    modality: str | None = None,
    progress: Progress | None = None,
) -> Model:
    """A network trained by a defence of the kind training, such as "pgd-at?eps=8/255": a model like any other.

    `model` is one whose architecture is taken, with the weights that it has (of what a defence trains besides, such as
    further members of an ensemble, drawn anew); of a zoo spec with fresh ones. It is not changed. Of several networks
    that answer together an `Ensemble` is returned. `data` are labelled examples, used as they are. `held_out` is where
    the accuracy on its card is measured, on clean inputs: what it withstands is what an attack says that knows of it. The
    same arguments give the same weights on one machine.

    Zoo models are trained by their own recipes and augmentation with `carom train zoo:NAME --defence DEFENCE`.

    Args:
        model: a torch network for images or sounds, or the spec of one.
        data: labelled examples to train on.
        defence: the spec of a defence of the kind training.
        epochs: how often all examples are gone through.
        lr: peak learning rate.
        batch: examples a step.
        seed: of everything random.
        held_out: labelled examples for the card's accuracy; None states none.
        modality: for specs that do not tell it.
        progress: called with (epoch, epochs, mean loss) after each.

    Returns:
        A TorchModel, or an Ensemble of them.

    Raises:
        CaromError: the defence trains nothing, or the model is no torch network that it can train.
    """
    with deterministic(seed):
        base, spec, data = network_of(model, data, modality, fresh=True)
    choice = choose_defence(get_modality(base.modality), defence)
    if choice.trainer is None:
        raise CaromError(f"{choice.info.name} stands around a model and trains none: carom.defend(model, {defence!r}).")
    schedule = Schedule(epochs=epochs, batch=min(batch, len(data)), lr=lr)

    def train(recipe: Recipe, progress: Progress | None) -> Body:
        module = recipe.build()
        assert isinstance(module, nn.Module)
        sample, rows = examples_of(base, data, data.labels), torch.arange(len(data))
        return fit(module, sample, rows, schedule, recipe.seed, progress, method=recipe.method)

    recipe = Recipe(
        name=base.name,
        modality=base.modality,
        family=base.family,
        summary=base.name,
        build=_Again(base.module, seed),
        train=train,
        evaluate=lambda recipe, body: 0.0,
        data=data.name,
        data_digest=lambda recipe: data.digest,
        folder=Path(),
        seed=seed,
    )
    name = f"{base.name}+{choice.label}"
    wanted = trained_by(recipe, choice.trainer, choice.label, name, f"defended by {choice.label}")
    with fitting(base, data), deterministic(seed):
        body = wanted.train(wanted, progress)
    assert isinstance(body, nn.Module)
    made: Model = copied(base, name, body)
    if isinstance(body, Averaged):
        members = [copied(base, f"{name}{k}", member) for k, member in enumerate(body.members)]
        made = Ensemble(members, "probabilities", name)
    card: Mapping[str, Any] = {
        "kind": "defended",
        "defence": choice.label,
        "network": spec,
        "data": data.name,
        "data_digest": data.digest,
        "examples": len(data),
        "seed": seed,
        "epochs": epochs,
        "lr": lr,
        "batch": schedule.batch,
        **accuracies(made, held_out),
    }
    made.card = card
    return made


class _Again:
    """Copies of a network: the first with its weights, others with weights drawn anew."""

    def __init__(self, module: nn.Module, seed: int) -> None:
        self.module, self.seed, self.made = module, seed, 0

    def __call__(self) -> nn.Module:
        module = copy.deepcopy(self.module).cpu()
        if self.made:
            # Not from `seed` itself: whoever seeded torch with it drew the given weights from there.
            torch.manual_seed(self.seed + 1_000_003 * self.made)
            for part in module.modules():
                if callable(reset := getattr(part, "reset_parameters", None)):
                    reset()
        self.made += 1
        return module
