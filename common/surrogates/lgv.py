"""LGV: networks on a path of stochastic gradient descent near a given one."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.models.ensembles import Ensemble
from carom.common.models.mismatch import fitting
from carom.common.models.training import Progress, Schedule, deterministic, fit
from carom.common.surrogates.networks import accuracies, copied, examples_of, network_of

SGD_PATH = Schedule(epochs=10, batch=64, lr=0.05, weight_decay=1e-4, smoothing=0.0, clip=float("inf"), constant=True)
"""LGV's, but for the batch of 256 images."""


def lgv(
    model: Model | str,
    data: Dataset,
    *,
    epochs: int = 10,
    per_epoch: int = 4,
    lr: float = 0.05,
    batch: int = 64,
    seed: int = 0,
    held_out: Dataset | None = None,
    modality: str | None = None,
    progress: Progress | None = None,
) -> Ensemble:
    """Networks on a path of stochastic gradient descent at a constant, high learning rate, which starts at `model` and
    stays in its vicinity (LGV, Gubri et al. 2022, Alg. 1): `epochs * per_epoch` of them, an ensemble of mean logits.

    `data` are labelled examples of its training distribution, used as they are: the paper augments them. The attack
    that belongs to it, `lgv`, asks one random member a step. `held_out` is where the card's accuracies are measured.

    The same arguments give the same weights on one machine: training takes one thread of the CPU, which suits small
    networks, and its randomness is `seed`.

    Args:
        model: a network, or the spec of one, where the path starts.
        data: labelled examples to go on training on.
        epochs: how often all of them are gone through.
        per_epoch: networks collected in each, evenly spaced.
        lr: the constant learning rate.
        batch: examples a step.
        seed: of the order of the examples and of dropout.
        held_out: examples on which the card states accuracies; None states none.
        modality: for specs that do not tell it.
        progress: called with (epoch, epochs, mean loss) after each.

    Returns:
        An Ensemble of `epochs * per_epoch` networks, with a card.

    Raises:
        CaromError: the model is no torch network, or the numbers collect no network.
    """
    base, spec, data = network_of(model, data, modality)
    if per_epoch < 1 or epochs < 1:
        raise CaromError(f"epochs={epochs} and per_epoch={per_epoch} collect no network: give 1 or more of each.")
    schedule = replace(SGD_PATH, epochs=epochs, lr=lr, batch=min(batch, len(data)))
    steps = max(1, len(data) // schedule.batch)
    if per_epoch > steps:
        raise CaromError(
            f"{len(data)} examples make {steps} batches of {schedule.batch}, from which {per_epoch} networks an epoch "
            "cannot be collected. Give more data, or a smaller per_epoch or batch."
        )
    path, found = copied(base, base.name), []
    stops = {steps * (k + 1) // per_epoch % steps for k in range(per_epoch)}  # of the steps of an epoch

    def collect(step: int) -> None:
        if step % steps in stops:
            found.append(copy.deepcopy(path.module).eval())

    with fitting(base, data), deterministic(seed):
        fit(
            path.module,
            examples_of(path, data, data.labels),
            torch.arange(len(data)),
            schedule,
            seed,
            progress,
            collect,
        )
    members = [copied(base, f"{base.name}-lgv{k}", module) for k, module in enumerate(found)]
    ensemble = Ensemble(members, name=f"{base.name}-lgv")
    ensemble.card = {
        "kind": "lgv",
        "network": spec,
        "network_digest": base.digest,
        "members": len(members),
        "data": data.name,
        "data_digest": data.digest,
        "examples": len(data),
        "seed": seed,
        "epochs": epochs,
        "per_epoch": per_epoch,
        "lr": lr,
        "batch": schedule.batch,
        **accuracies(ensemble, held_out),
    }
    return ensemble
