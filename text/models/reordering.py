"""Models of texts that answer the same classes in another order (`carom.common.models.reordering`)."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from carom.common.core.model import Model
from carom.common.models.reordering import Outputs, reordered, reordered_trees
from carom.common.models.trees import TreeEnsemble
from carom.text.models.features import FeatureModel
from carom.text.models.tokens import TokenModel


@reordered.register
def _tokens(model: TokenModel, order: Tensor) -> Model:
    """The module stays as it is: what else is asked of it (attention, rows that differ in a word) is its own."""
    other: Any = copy.copy(model)
    logits = model._logits
    other._logits = lambda answer: logits(answer).index_select(-1, order.to(answer.device))
    return other


@reordered.register
def _features(model: FeatureModel, order: Tensor) -> Model:
    other = copy.copy(model)
    body = model.body
    other.body = (
        reordered_trees(body, order) if isinstance(body, TreeEnsemble) else Outputs(body, order.to(model.device))
    )
    return other
