"""Ghost networks: a network slightly changed at random, another one for every pass and every row (Li et al. 2020)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from carom.common.attacks.inside.backward_surgery import together
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.oracle import Oracle
from carom.common.models.autograd_graph import Graph
from carom.common.models.evaluation.row_blocks import ROWS_TOGETHER
from carom.common.models.layers import networks
from carom.common.models.networks import TorchModel

ADDITIONS = (torch.add, Tensor.add, Tensor.add_)  # + and += are the last two
CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
ACTIVATIONS = (
    *(torch.relu, F.relu, Tensor.relu, F.relu6, F.gelu, F.silu, F.leaky_relu, F.elu, F.hardswish, F.mish),
    *(torch.tanh, Tensor.tanh, torch.sigmoid, Tensor.sigmoid),
)


class Erosion(TorchFunctionMode):
    """Changes some of torch's functions while the network computes, for rows whose streams were announced."""

    found = 0  # how many were changed in this pass

    def __init__(self) -> None:
        super().__init__()
        self.rng: Rng | None = None
        self.inside = False

    def announce(self, rng: Rng) -> None:
        self.rng = rng

    def enter(self, module: nn.Module, given: Any) -> None:
        self.inside, self.found = True, 0

    def leave(self, module: nn.Module, given: Any, out: Any) -> None:
        self.inside = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = self.eroded(func, args, kwargs or {}) if self.inside and torch.is_grad_enabled() else None
        return func(*args, **(kwargs or {})) if out is None else out

    def eroded(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
        """What the function answers instead; None if it is to be left alone."""
        raise NotImplementedError

    def streams(self, rows: int) -> Rng | None:
        """One for each of the rows, of which the model has added some; None where the first axis is no row's."""
        if self.rng is None or not 0 <= rows - len(self.rng) < ROWS_TOGETHER:
            return None
        self.found += 1
        which = torch.arange(rows, device=self.rng.keys.device)
        return self.rng[torch.where(which < len(self.rng), which, 0)].fold("ghost", self.found)


class SkipErosion(Erosion):
    """The trunk of each residual connection times a number in [1 - rate, 1 + rate]. Of a dense block's layer
    the trunk is what the layers before answered, which the paper leaves open."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.graph = Graph()

    def enter(self, module: nn.Module, given: Any) -> None:
        super().enter(module, given)
        self.graph = Graph()

    def leave(self, module: nn.Module, given: Any, out: Any) -> None:
        super().leave(module, given, out)
        self.graph = Graph()

    def eroded(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
        parts: Any = args[:2] if func in ADDITIONS else args[0] if func in CONCATENATIONS and args else ()
        if len(parts) < 2 or not all(isinstance(part, Tensor) and part.grad_fn is not None for part in parts):
            return None
        nodes = [part.grad_fn for part in parts]
        for node in nodes:
            self.graph.grow(node)
        branch = max(nodes, key=self.graph.depth.__getitem__)  # the newest: what was there before is the trunk
        trunk = [node for node in nodes if node is not branch]
        if func in ADDITIONS:
            joined = len(trunk) == 1 and self.graph.base(branch, trunk[0]) is not None
        else:
            joined = any(self.graph.leads(node, branch) for node in trunk)
        rng = self.streams(len(parts[0])) if joined else None
        if rng is None:
            return None
        factor = 1 + self.rate * (2 * rng.uniform(*[1] * (parts[0].dim() - 1)) - 1)
        parts = [part if part.grad_fn is branch else part * factor.to(part.dtype) for part in parts]
        if func in CONCATENATIONS:
            return func(parts, *args[1:], **kwargs)
        # What is added to the trunk in place is added to a new tensor: its old values may be needed.
        return (func if parts[0] is args[0] else torch.add)(*parts, **kwargs)


class Dropping(Erosion):
    """Of what each activation function answers, numbers are dropped at a rate, the others made larger."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def eroded(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
        if func not in ACTIVATIONS:
            return None
        out = func(*args, **kwargs)
        rng = self.streams(len(out))
        return out if rng is None else out * (rng.uniform(*out.shape[1:]) >= self.rate).to(out.dtype) / (1 - self.rate)


@dataclass(frozen=True)
class Ghosts:
    """A surgery: every pass of every row goes through a network of its own.

    `erosion` is "skip" for networks with residual connections by addition, "dropout" for all that have activation
    functions. The paper tunes the rate until the network's accuracy begins to fall: .22 and less for skips of ResNets.
    """

    erosion: str = "skip"
    rate: float = 0.22

    def __post_init__(self) -> None:
        if self.erosion not in ("skip", "dropout"):
            raise CaromError(f"erosion={self.erosion!r}: choose skip or dropout.")
        if not 0 <= self.rate < 1:
            raise CaromError(f"rate={self.rate}: what is eroded is a share from 0 to below 1.")

    @contextlib.contextmanager
    def __call__(self, oracle: Oracle) -> Iterator[Callable[[Rng], None]]:
        with contextlib.ExitStack() as stack:
            models = networks(oracle.problem.model)
            yield together([stack.enter_context(self._on(model)).announce for model in models])

    @contextlib.contextmanager
    def _on(self, model: TorchModel) -> Iterator[Erosion]:
        mode = SkipErosion(self.rate) if self.erosion == "skip" else Dropping(self.rate)

        def check(module: nn.Module, given: Any, out: Any) -> None:
            mode.leave(module, given, out)
            root = getattr(getattr(out, "logits", out), "grad_fn", None)  # no answer at all after an error
            if not mode.found and mode.rng is not None and root is not None and Graph(root).learned:
                raise CaromError(self._lack(model.name))

        with contextlib.ExitStack() as stack:
            stack.callback(model.module.register_forward_pre_hook(mode.enter).remove)
            stack.callback(model.module.register_forward_hook(check, always_call=True).remove)
            stack.enter_context(mode)
            yield mode

    def _lack(self, name: str) -> str:
        if self.erosion == "skip":
            return f"ghost erodes residual connections, {name} has none. Use erosion=dropout, or a residual network."
        return f"ghost drops what activation functions answer, {name} has none. Choose another source."
