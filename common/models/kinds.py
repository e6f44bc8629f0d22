"""Which of carom.common.attacks.info.MODELS a model is: found out by one pass, not by its name. An ensemble is what all its
members are, and has no layer of its own."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.core.batch import Access, Batch
from carom.common.core.model import Model
from carom.common.models.autograd_graph import RELUS, Graph, kind, plain_attention
from carom.common.models.layers import tapped
from carom.common.models.networks import TorchModel
from carom.common.models.trees import TreeModel


def builds_of(model: Model, batch: Batch) -> set[str]:
    """The kinds that a model is, seen on the first example of a batch."""
    found = {"any"}
    if isinstance(model, TreeModel):
        found.add("trees")
    if Access.MEMBERS in model.access:
        found.add("members")
    if members := getattr(model, "members", ()):
        found |= set.intersection(*(builds_of(member, batch) for member in members)) - {"layers"}
    if isinstance(model, TorchModel) and len(batch) and isinstance(batch.inputs, Tensor):
        found |= _of_network(model, batch.take(torch.tensor([0])).to(model.device))
    return found


def _of_network(model: TorchModel, batch: Batch) -> set[str]:
    assert isinstance(batch.inputs, Tensor)
    x, found, middle = batch.inputs.detach().requires_grad_(), set(), None
    with model.frozen(), torch.enable_grad(), plain_attention(), tapped(model) as tap:
        root = model(x, batch.lengths).logits.grad_fn
        with contextlib.suppress(CaromError):
            middle = tap.whole.grad_fn
            found.add("layers")
    if root is not None:
        graph = Graph(root)
        found |= {"residual"} if graph.joins() else set()
        found |= {"attention"} if graph.attentions() else set()
        behind = graph.above(root, middle) if middle in graph.depth else []
        found |= {"relu"} if any(kind(node, *RELUS) for node in behind) else set()
    return found
