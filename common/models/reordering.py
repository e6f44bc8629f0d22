"""Models that answer the same classes in another order: the same model, its outputs put in the order that is wanted."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.core.model import Model
from carom.common.models.ensembles import Ensemble
from carom.common.models.evaluation.evaluator import Evaluator
from carom.common.models.functions import FunctionModel
from carom.common.models.networks import FrozenModule, TorchModel
from carom.common.models.trees import TreeEnsemble, TreeModel


def answering_in(model: Model, order: Sequence[int], classes: Sequence[str]) -> Model:
    """The model with output `order[n]` at place n, where the class is called `classes[n]`.

    Raises CaromError for kinds of model whose outputs cannot be put in another order.
    """
    same = list(order) == list(range(len(classes)))
    other = copy.copy(model) if same else reordered(model, torch.tensor(list(order)))
    other.classes = tuple(classes)
    if not same:
        other.digest = hashlib.sha256(repr((model.digest, "outputs in the order", list(order))).encode()).hexdigest()
    return other


@singledispatch
def reordered(model: Model, order: Tensor) -> Model:
    """A copy of the model with its outputs in the order int64[C]. Modalities register their own kinds."""
    raise CaromError(
        f"model {model.name} ({type(model).__name__}) has its classes in another order than the other models. Measure it "
        "in a run of its own."
    )


class Outputs(nn.Module):
    """A module that answers logits, in another order. `read` finds them in what it answers to so many rows."""

    order: Tensor

    def __init__(self, module: nn.Module, order: Tensor, read: Callable[[Any, int], Tensor] | None = None) -> None:
        super().__init__()
        self.module = module
        self.read = read
        self.register_buffer("order", order)

    def forward(self, *given: Tensor) -> Tensor:
        answer = self.module(*given)
        logits: Tensor = answer if self.read is None else self.read(answer, len(given[0]))
        return logits.index_select(-1, self.order)


def reordered_trees(trees: TreeEnsemble, order: Tensor) -> TreeEnsemble:
    """The trees with their classes in another order."""
    base = None if trees.base is None else trees.base[order.to(trees.base.device)]
    return replace(trees, value=trees.value[:, :, order.to(trees.value.device)], base=base)


@reordered.register
def _network(model: TorchModel, order: Tensor) -> Model:
    other = copy.copy(model)
    other.module = Outputs(model.module, order.to(model.device), model._read)
    other.threshold, other.facts = None, dict(model.facts)
    other._freeze, other._frozen, other._evaluator = FrozenModule(other.module), 0, Evaluator()
    return other


@reordered.register
def _trees(model: TreeModel, order: Tensor) -> Model:
    other = copy.copy(model)
    other.ensemble = reordered_trees(model.ensemble, order)
    return other


@reordered.register
def _function(model: FunctionModel, order: Tensor) -> Model:
    other = copy.copy(model)

    def answer(given: Any) -> Tensor:
        return model(given if isinstance(given, list) else torch.as_tensor(given)).logits[:, order]

    other.function, other.probabilities, other.threshold = answer, False, None
    return other


@reordered.register
def _ensemble(model: Ensemble, order: Tensor) -> Model:
    other = copy.copy(model)
    other.members = tuple(reordered(member, order) for member in model.members)
    for member in other.members:
        member.classes = tuple(member.classes[at] for at in order.tolist())
    return other
