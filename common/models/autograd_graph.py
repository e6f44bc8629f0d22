"""What a network is made of, read from the graph that autograd records of one pass: residual branches, attention maps,
ReLUs. Nothing is known of architectures or modules, so it makes no difference who wrote a network, or whether an
addition or an attention is a module of its own. Gradients are changed by hooks on that graph, which ends with its
backward pass: nothing of it stays in the network.

Node names are those of torch's own operations ("AddBackward0"); a network whose branches are custom autograd functions
is not seen through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel

Grads = Sequence[Tensor | None]

LEARNED = ("Convolution", "Addmm", "Mm", "Bmm", "Linear")
"""Operations that weights take part in, by the beginning of their names."""

RELUS = ("Relu", "Hardtanh")

PARTS = ("Unbind", "Split", "UnsafeSplit", "Select")
"""What takes one of several results of a layer: a gate, a step in time. No shortcut goes through one."""

SHAPES = (
    *("View", "UnsafeView", "ReshapeAlias", "Expand", "Squeeze", "Unsqueeze", "Transpose", "Permute", "T"),
    *("Alias", "Clone", "ToCopy"),
)
"""Operations that only lay out anew what they are given."""

ELEMENTWISE = (*SHAPES, "Add", "Mul", "Div", "MaskedFill", "Where")


def kind(node: Node, *names: str) -> bool:
    """Whether a node is of one of these operations: "Add" is AddBackward0, not AddmmBackward0."""
    return node.name().partition("Backward")[0] in names


class Join(NamedTuple):
    """Where a residual branch comes back to the trunk: an addition, or a concatenation of all that came before."""

    at: Node
    branch: int  # which of its inputs is the branch
    base: Node  # what the branch started from

    def scale(self, factor: Callable[[Tensor], Tensor]) -> None:
        """Change the gradient that goes into the branch; that of the trunk stays as it is."""
        change(self.at, {self.branch: factor})


class Attention(NamedTuple):
    """One attention: weights = softmax(queries @ keys), then weights @ values. Heads and rows are one leading axis."""

    scores: Node  # a matrix product of queries [*, N, D] and keys [*, D, N]
    mix: Node  # a matrix product of weights [*, N, N] and values [*, N, D]


def change(node: Node, changes: dict[int, Callable[[Tensor], Tensor]]) -> None:
    """Change the gradients of some inputs of a node, for as long as the graph lasts."""

    def hook(grads: Grads, _: Grads) -> tuple[Tensor | None, ...]:
        return tuple(
            changes[place](grad) if place in changes and grad is not None else grad for place, grad in enumerate(grads)
        )

    node.register_hook(hook)  # type: ignore[arg-type]


class Graph:
    """The operations behind one answer."""

    def __init__(self, root: Node | None = None) -> None:
        self.depth: dict[Node, int] = {}  # most operations between a node and an input; inputs come first
        self.users: dict[Node, list[tuple[Node, int]]] = {}  # who takes what a node answers, as which input
        if root is not None:
            self.grow(root)

    def grow(self, root: Node) -> None:
        """Take in everything behind another node."""
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if node in self.depth:
                continue
            behind = inputs(node)
            if not ready:
                stack.append((node, True))
                stack.extend((other, False) for _, other in behind if other not in self.depth)
                continue
            self.depth[node] = 1 + max((self.depth[other] for _, other in behind), default=-1)
            for place, other in behind:
                self.users.setdefault(other, []).append((node, place))

    @cached_property
    def learned(self) -> bool:
        """Whether weights take part at all: an answer that was cut off from its network has none behind it."""
        return any(kind(node, *LEARNED) for node in self.depth)

    def behind(self, node: Node, least: int) -> set[Node]:
        """A node and all that it was made from, down to a depth."""
        found, stack = {node}, [node]
        while stack:
            for _, other in inputs(stack.pop()):
                if other not in found and self.depth[other] >= least:
                    found.add(other)
                    stack.append(other)
        return found

    def above(self, root: Node, cut: Node) -> list[Node]:
        """What was made from the answer of `cut` on the way to `root`, and `cut` itself not."""
        found, stack = {root} - {cut}, [root] if root is not cut else []
        while stack:
            for _, other in inputs(stack.pop()):
                if other is not cut and other not in found and self.depth[other] > self.depth[cut]:
                    found.add(other)
                    stack.append(other)
        return sorted(found, key=self.depth.__getitem__)

    def joins(self) -> list[Join]:
        """Every residual branch of an addition; every new feature of a concatenation that keeps those it is made of."""
        return [join for node in self.depth for join in self.joins_at(node)]

    def joins_at(self, node: Node) -> Iterator[Join]:
        if not kind(node, "Add", "Cat"):
            return
        given = sorted(inputs(node), key=lambda place: self.depth[place[1]])
        if kind(node, "Add"):
            if len(given) == 2 and (base := self.base(given[1][1], given[0][1])) is not None:
                yield Join(node, given[1][0], base)
            return
        for number, (place, other) in enumerate(given[1:], 1):
            if any(self.leads(before, other) for _, before in reversed(given[:number])):
                yield Join(node, place, given[0][1])

    def base(self, branch: Node, skip: Node) -> Node | None:
        """Where a summand that is a residual branch begins: at the other summand, or at what a projection of it is made
        of. None if it is no such branch: no weights lie between, or the two have nothing in common but the input.
        """
        shortcut = [skip]
        while not kind(shortcut[-1], *PARTS) and len(behind := inputs(shortcut[-1])) == 1:
            shortcut.append(behind[0][1])
        if kind(shortcut[-1], *PARTS) or (len(shortcut) > 1 and not inputs(shortcut[-1])):
            shortcut.pop()  # one of several gates, or the input itself: there everything meets
        made_of = self.behind(branch, self.depth[shortcut[-1]]) if shortcut else set()
        for node in shortcut:
            if node in made_of:
                return node if self._learned(made_of, node) else None
        return None

    def leads(self, earlier: Node, later: Node) -> bool:
        """Whether one answer is made from another by layers with weights."""
        made_of = self.behind(later, self.depth[earlier])
        return earlier in made_of and self._learned(made_of, earlier)

    def _learned(self, made_of: set[Node], since: Node) -> bool:
        return any(kind(node, *LEARNED) for node in made_of if self.depth[node] > self.depth[since])

    def attentions(self) -> list[Attention]:
        """Every softmax between two matrix products."""
        found = []
        for node in self.depth:
            if not kind(node, "Softmax", "SafeSoftmax"):
                continue
            scores, mix = self._scores(node), self._mix(node)
            if scores is not None and mix is not None:
                found.append(Attention(scores, mix))
        return found

    def _scores(self, node: Node) -> Node | None:
        while len(behind := inputs(node)) == 1:
            node = behind[0][1]
            if kind(node, "Bmm"):
                return node if len(inputs(node)) == 2 else None
            if not kind(node, *ELEMENTWISE):
                return None
        return None

    def _mix(self, node: Node) -> Node | None:
        while len(users := self.users.get(node, [])) == 1:
            node, place = users[0]
            if kind(node, "Bmm"):
                return node if place == 0 else None
            if not kind(node, *ELEMENTWISE):
                return None
        return None


def inputs(node: Node) -> list[tuple[int, Node]]:
    """(which input, the node that made it) for each input that is differentiated."""
    return [(place, other) for place, (other, _) in enumerate(node.next_functions) if other is not None]


def plain_attention() -> AbstractContextManager[Any]:
    """Attention by its formula, not by one fused operation, so that the graph shows its parts."""
    return sdpa_kernel(SDPBackend.MATH)
