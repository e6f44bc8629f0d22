"""Networks to be trained as surrogates: copies, training samples, accuracies."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.base.specs import OWN_CODE, parse
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.modality.installed import get_modality
from carom.common.modality.load import load_model_of
from carom.common.models.class_matching import classes_for, matched
from carom.common.models.ensembles import Ensemble
from carom.common.models.networks import TorchModel
from carom.common.models.training import Sampler


def examples_of(model: TorchModel, data: Dataset, labels: Tensor) -> Sampler:
    """Reads one training batch; lengths travel to the module beside its inputs."""

    def sample(rows: Tensor, generator: torch.Generator) -> tuple[Any, Tensor]:
        inputs = data.space.decode(data.stored[rows])
        if model.takes_lengths and data.lengths is not None:
            return (inputs, data.lengths[rows]), labels[rows]
        return inputs, labels[rows]

    return sample


def network_of(
    source: Model | str, data: Dataset, modality: str | None, fresh: bool = False
) -> tuple[TorchModel, str | None, Dataset]:
    """(the torch model of a spec, or the one given; its spec; the data with labels in its classes)"""
    spec = source if isinstance(source, str) else None
    if isinstance(source, str):
        source = built(source, modality or data.modality, data, fresh)
    if not isinstance(source, TorchModel):
        raise CaromError(f"{source.name} is no torch network: there is nothing in it to train. Name another one.")
    if source.space != data.space:
        raise CaromError(f"{source.name} takes {source.space.name}, and {data.name} holds {data.space.name}.")
    return source, spec, matched(data, [source])[0]


def built(spec: str, modality: str, data: Dataset | Sequence[str], fresh: bool = False) -> Model:
    """The model of a spec; `fresh`, one of the zoo with untrained weights, drawn from torch's generator. Classes that it
    cannot tell are those of the data, or the ones given."""
    owner, parsed = get_modality(modality), parse(spec)
    told: dict[str, Any] = {}
    if parsed.kind in OWN_CODE and "classes" not in parsed.parameters:
        told["classes"] = classes_for(spec, data) if isinstance(data, Dataset) else list(data)
    model = load_model_of(owner, spec, told)
    if fresh and parsed.kind == "zoo" and isinstance(model, TorchModel):
        module = owner.recipes[parsed.rest].build()
        assert isinstance(module, nn.Module)
        return copied(model, model.name, module)
    return model


def copied(model: TorchModel, name: str, module: nn.Module | None = None) -> TorchModel:
    """A model with the same facts around another module; by default, around a copy of its own."""
    return TorchModel(
        copy.deepcopy(model.module).cpu() if module is None else module,
        name=name,
        modality=model.modality,
        family=model.family,
        space=model.space,
        classes=model.classes,
        shape=model.shape,
        takes_lengths=model.takes_lengths,
    )


def accuracies(model: Model, data: Dataset | None) -> dict[str, Any]:
    if data is None:
        return {}
    data = matched(data, [model])[0]

    def accuracy(model: Model) -> float:
        return round((model.predict(data.batch()).argmax(1) == data.labels).float().mean().item(), 4)

    facts = {"held_out": data.name, "held_out_digest": data.digest, "clean_accuracy": accuracy(model)}
    if isinstance(model, Ensemble):
        facts["members_clean_accuracy"] = [accuracy(member) for member in model.members]
    return facts
