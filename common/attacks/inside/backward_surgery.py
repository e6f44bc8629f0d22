"""Surgeries: changes to how a network passes gradients, or to what it computes, that make attacks on it transfer.

Weights are never touched. Those of the backward pass read the graph that each pass records
(carom.common.models.autograd_graph), and so work on any torch network that has what they change: residual branches,
ReLUs, attention. One that has none of it is refused by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from carom.common.attacks.gradient.step import Surgery
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.oracle import Oracle
from carom.common.models.autograd_graph import RELUS, Grads, Graph, Join, change, kind, plain_attention
from carom.common.models.layers import Tap, networks, tapped
from carom.common.models.networks import TorchModel


class Rewiring:
    """A surgery on the graph of each pass. Subclasses say what they do to it."""

    lack: ClassVar[str]  # what is said of a network that has nothing of what the surgery changes
    tap: bool = False  # whether it starts at a layer: `layer`, or the middle one

    extra: ClassVar[int] = 0  # how many more gradients it takes, at most, where there is one to take

    def rewire(self, graph: Graph, root: Node, layer: Node | None) -> bool:
        """Register hooks on nodes. `root` answers the logits, `layer` what the layer answers. False: found nothing."""
        raise NotImplementedError

    def again(self, graph: Graph, root: Node, layer: Node | None) -> int:
        """How many more times a gradient of this graph passes some of it."""
        return 0

    @contextlib.contextmanager
    def __call__(self, oracle: Oracle) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(plain_attention())
            for model in networks(oracle.problem.model):
                stack.enter_context(self._on(model, oracle))
            yield None

    @contextlib.contextmanager
    def _on(self, model: TorchModel, oracle: Oracle) -> Iterator[None]:
        tap: Tap | None = None

        def told(module: nn.Module, given: Any, out: Any) -> None:
            root = getattr(out, "logits", out).grad_fn
            if root is None:
                return
            graph, layer = Graph(root), None if tap is None else tap.whole.grad_fn
            # An answer that was cut off from its network leads to no layer, and has a gradient of zero.
            if graph.learned and not self.rewire(graph, root, layer):
                raise CaromError(self.lack.format(model.name))
            oracle.again[id(model)] = self.again(graph, root, layer)

        with contextlib.ExitStack() as stack:
            stack.callback(oracle.again.pop, id(model), None)
            tap = stack.enter_context(tapped(model, getattr(self, "layer", None))) if self.tap else None
            stack.callback(model.module.register_forward_hook(told).remove)
            yield


@dataclass(frozen=True)
class SkipGradients(Rewiring):
    """Gradients prefer skip connections: into each residual branch goes `decay` of them (SGM, Wu et al. 2020).

    The paper takes .2 for ResNets of 50 and more layers and .5 for DenseNets; where a network has few blocks, .2 leaves
    little to climb by. Its code decays at the ReLUs in and behind the branch by roots, whose product within the branch
    is `decay` of what the trunk gets, and divides by a standard deviation over the batch: a factor of the whole
    gradient, which no sign can see. New features of dense blocks are branches, and so are a transformer's attention and
    MLP.
    """

    decay: float = 0.5

    lack = (
        "sgm decays the gradients of residual branches, {} has none. It works on residual and densely connected "
        "networks and on transformers."
    )

    def rewire(self, graph: Graph, root: Node, layer: Node | None) -> bool:
        joins = graph.joins()
        for join in joins:
            join.scale(lambda grad: self.decay * grad)
        return bool(joins)


@dataclass(frozen=True)
class LinearBackward(Rewiring):
    """Behind a layer, gradients pass ReLUs as if these were linear (LinBP, Guo et al. 2020); through residual branches,
    with the norm that they would have otherwise, as in the paper's section on residual networks and the released code.
    For that each of these branches is passed two more times: where there are any, a gradient counts as three, though
    the trunk and what lies before the layer are passed once. Equal-cost comparisons (`extra`) assume that there are.
    """

    layer: str | None = None

    tap = True
    extra = 2
    lack = "linbp passes gradients through ReLUs, {} has none behind that layer. It works on networks with ReLUs."

    def rewire(self, graph: Graph, root: Node, layer: Node | None) -> bool:
        if layer not in graph.depth:
            return False
        behind = set(graph.above(root, layer))
        relus = [node for node in behind if kind(node, *RELUS)]
        linear = Switch()
        for relu in relus:
            relu.register_hook(linear.hook)  # type: ignore[arg-type]
        for join in self._branches(graph, behind, layer):
            join.scale(Balanced(join, linear))
        return bool(relus)

    def again(self, graph: Graph, root: Node, layer: Node | None) -> int:
        if layer is None or layer not in graph.depth:
            return 0
        return self.extra if self._branches(graph, set(graph.above(root, layer)), layer) else 0

    @staticmethod
    def _branches(graph: Graph, behind: set[Node], layer: Node | None) -> list[Join]:
        """The residual branches behind the layer."""
        return [join for join in graph.joins() if join.at in behind and (join.base in behind or join.base is layer)]


@dataclass
class Switch:
    """Whether the gradient of a ReLU is the one it is given, or its own."""

    on: bool = True

    def hook(self, grads: Grads, given: Grads) -> Grads | None:
        return given if self.on else None


@dataclass(frozen=True)
class Balanced:
    """The gradient that goes into a branch, for each example scaled so that behind the branch, passed linearly, it has
    the norm that it would have if it was passed as it should."""

    join: Join
    linear: Switch

    def __call__(self, grad: Tensor) -> Tensor:
        linear, self.linear.on = self._passed(grad), False
        try:
            own = self._passed(grad)
        finally:
            self.linear.on = True
        shape = (-1, *[1] * (grad.dim() - 1))
        return grad * (own.flatten(1).norm(dim=1) / linear.flatten(1).norm(dim=1).clamp_min(1e-30)).view(shape)

    def _passed(self, grad: Tensor) -> Tensor:
        node, number = self.join.at.next_functions[self.join.branch]
        assert node is not None, "a branch is made of something"
        branch = GradientEdge(node, number)
        return torch.autograd.grad(branch, GradientEdge(self.join.base, 0), grad, retain_graph=True)[0]


@dataclass(frozen=True)
class ConstantAttention(Rewiring):
    """Attention weights are constants to the gradient (PNA, Wei et al. 2022). The paper's PatchOut, a change to few
    patches at a time, is not part of it."""

    lack = "pna skips the gradients of attention maps, {} has none. It works on transformers."

    def rewire(self, graph: Graph, root: Node, layer: Node | None) -> bool:
        found = graph.attentions()
        for attention in found:
            change(attention.mix, {0: torch.zeros_like})
        return bool(found)


@dataclass(frozen=True)
class RegularTokens(Rewiring):
    """Gradients of attention maps, of queries, keys and values, and of what MLPs answer are weakened, and those of the
    most extreme tokens dropped (TGR, Zhang et al. 2023): in each channel the largest and the smallest; in an
    attention map, all of their rows and columns.

    Extremes are found for every example, and in windowed attention for every window; the released code takes the
    first example's for the whole batch.
    """

    attention: float = 0.25
    projections: float = 0.75
    mlp: float = 0.5

    lack = (
        "tgr regularises the gradients of tokens in attention and MLPs, {} has no attention. It works on transformers."
    )

    def rewire(self, graph: Graph, root: Node, layer: Node | None) -> bool:
        found = graph.attentions()
        for attention in found:
            change(attention.mix, {0: lambda grad: self.attention * no_extreme_pairs(grad), 1: self._values})
            change(attention.scores, {0: self._values, 1: lambda keys: self._values(keys.mT).mT})
        if found:
            inside = {attention.mix for attention in found}
            for join in graph.joins():
                branch = graph.behind(join.at.next_functions[join.branch][0], graph.depth[join.base])  # type: ignore[arg-type]
                if not branch & inside and not any(kind(node, "Convolution") for node in branch):
                    join.scale(lambda grad: self.mlp * no_extremes(grad.flatten(1, -2)).reshape(grad.shape))
        return bool(found)

    def _values(self, grad: Tensor) -> Tensor:
        return self.projections * no_extremes(grad)


def no_extremes(grad: Tensor) -> Tensor:
    """[R, tokens, C] without the largest and the smallest token of each channel."""
    place = torch.cat([grad.argmax(1, keepdim=True), grad.argmin(1, keepdim=True)], 1)
    return grad.scatter(1, place, 0.0)


def no_extreme_pairs(grad: Tensor) -> Tensor:
    """[R, tokens, tokens] without the rows and the columns of the largest and the smallest entry."""
    flat, width = grad.flatten(1), grad.shape[2]
    keep = torch.ones_like(grad, dtype=torch.bool)
    for place in (flat.argmax(1), flat.argmin(1)):
        down, across = (place // width)[:, None], (place % width)[:, None]
        keep &= (torch.arange(grad.shape[1], device=grad.device) != down)[:, :, None]
        keep &= (torch.arange(width, device=grad.device) != across)[:, None, :]
    return torch.where(keep, grad, 0.0)


@dataclass(frozen=True)
class Surgeries:
    """Several at once, the first outermost."""

    parts: tuple[Surgery, ...]

    @property
    def extra(self) -> int:
        return sum(getattr(part, "extra", 0) for part in self.parts)

    @contextlib.contextmanager
    def __call__(self, oracle: Oracle) -> Iterator[Callable[..., None] | None]:
        with contextlib.ExitStack() as stack:
            told = [announce for part in self.parts if (announce := stack.enter_context(part(oracle))) is not None]
            yield together(told) if told else None


def together(told: Sequence[Callable[[Rng], None]]) -> Callable[[Rng], None]:
    """One announcement to several, each of streams of its own."""

    def announce(rng: Rng) -> None:
        for number, tell in enumerate(told):
            tell(rng.fold("surgery", number) if number else rng)

    return announce


def operate(first: Surgery | None, then: Surgery) -> Surgery:
    """Both; one of them alone is itself."""
    if first is None:
        return then
    return Surgeries((*(first.parts if isinstance(first, Surgeries) else (first,)), then))
