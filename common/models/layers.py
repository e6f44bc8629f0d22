"""Inner layers of a torch network: seen, and if need be changed, while attacks ask the whole model through an `Oracle`.

`watching` is the one mechanism: forward hooks on some modules, for as long as its context lasts. An attack that wants
the output of one middle layer asks for a `tapped` layer; one that changes what many layers hand on gives `watching` the
modules and a function, as feature mixing does:

    def mix(name: str, out: Tensor) -> Tensor | None: ...   # [R, ...] -> what goes on in its place; None: as it was
    with watching(layers(model, nn.Conv2d, nn.Linear), mix): ...

Both are meant for the `prepared(oracle, rng)` of an objective or the context of a surgery (`attacks.gradient.step`), which
are entered while the model is frozen. R counts copies of the batch, stacked, and the rows that `models.networks` adds
behind them: take as many rows as there are logits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.model import Model
from carom.common.models.networks import TorchModel

See = Callable[[str, Tensor], Tensor | None]
"""(name of a module, its output) -> what goes on in its place, or None."""

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def module_of(model: Model) -> nn.Module:
    """The torch network inside a model."""
    if not isinstance(model, TorchModel):
        raise CaromError(f"{model.name} is no torch network: it has no inner layers to look at. Choose another attack.")
    return model.module


def networks(model: Model) -> Iterator[TorchModel]:
    """The model itself, or the members of an ensemble and of ensembles in it: torch networks all."""
    members = getattr(model, "members", None)
    if members is None:
        module_of(model)
        assert isinstance(model, TorchModel)
        yield model
    for member in members or ():
        yield from networks(member)


def layers(model: Model, *kinds: type[nn.Module]) -> dict[str, nn.Module]:
    """The modules of some kinds, by name, in the order in which they were registered."""
    return {name: module for name, module in module_of(model).named_modules() if isinstance(module, kinds)}


@contextlib.contextmanager
def watching(modules: Mapping[str, nn.Module], see: See) -> Iterator[None]:
    """`see` is told what each module answers, in the order of the computation, and may replace it.

    Of an answer that is a tuple it sees the first part, as of recurrent layers; what is no tensor it does not see.
    """

    def hook(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def told(module: nn.Module, given: Any, out: Any) -> Any:
            first = out[0] if isinstance(out, tuple) and out else out
            if not isinstance(first, Tensor):
                return None
            other = see(name, first)
            return None if other is None else (other, *out[1:]) if isinstance(out, tuple) else other

        return told

    handles = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def units(module: nn.Module) -> dict[str, nn.Module]:
    """The parts a network is built of, outermost first come: residual blocks, dense blocks, transformer layers, and
    what stands alone between them. Plain containers, and whatever holds more than half of all layers, are looked into.
    """
    whole = _size(module)

    def walk(part: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in part.named_children():
            inside = type(child) in CONTAINERS or 2 * _size(child) > whole
            if inside and next(child.children(), None) is not None:
                yield from walk(child, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", child

    return dict(walk(module, ""))


def _size(module: nn.Module) -> int:
    """How many layers: modules that hold no others."""
    return sum(next(part.children(), None) is None for part in module.modules())


class Tap:
    """What one layer answered in the last pass through the model.

    A layer that nobody named is the last of the middle stage: of as many stages as the network's parts have different
    resolutions, or, where all have the same, the middle part. That is the second of a ResNet's, DenseNet's or Swin's
    four stages, the third of VGG-16's (conv3_3), the sixth of ViT-B's twelve layers. It is decided at the first pass.
    """

    def __init__(self, model: Model, layer: str | None) -> None:
        self.model, self.layer, self._asked = model, layer, layer is not None
        module = module_of(model)
        self.modules = units(module) if layer is None else {layer: named(model, layer)}
        self._seen: dict[str, Tensor] = {}  # in the order of the computation

    def see(self, name: str, out: Tensor) -> Tensor | None:
        if name in self._seen:
            del self._seen[name]
        if self.layer is None or name == self.layer:
            self._seen[name] = out
        return out.clone() if self._asked else None  # a layer asked for by name may precede one that works in place

    @property
    def whole(self) -> Tensor:
        """float[R, ...], with rows that the model added."""
        if self.layer is None:
            self.layer = self._middle()
            self._seen = {self.layer: self._seen[self.layer]}
        if self.layer not in self._seen:
            raise CaromError(f"layer {self.layer} of {self.model.name} takes no part in its answers. Name another one.")
        return self._seen[self.layer]

    def rows(self, n: int) -> Tensor:
        """float[n, ...]"""
        return self.whole[:n]

    def _middle(self) -> str:
        """The layer to look at where none is named."""
        names = [name for name, out in self._seen.items() if out.dim() in (3, 4)]
        learned = [name for name in self._seen if next(self.modules[name].parameters(), None) is not None]
        behind = list(self._seen).index(learned[0]) if learned else len(self._seen)  # what is before only prepares
        names = [name for name in names if list(self._seen).index(name) >= behind]
        blocks = [name for name in names if next(self.modules[name].children(), None) is not None]
        names = blocks if len(blocks) > 1 else names
        if not names:
            raise CaromError(
                f"{self.model.name} has no inner layer of the form [N, C, H, W] or [N, tokens, C]. Choose another "
                "source, or an attack that needs no features."
            )
        stages: dict[int, list[str]] = {}  # by resolution, which falls
        for name in names:
            size = _resolution(self._seen[name])
            if size <= min(stages, default=size):
                stages.setdefault(size, []).append(name)
        if len(stages) > 1:
            return list(stages.values())[(len(stages) - 1) // 2][-1]
        return names[(len(names) - 1) // 2]


def _resolution(out: Tensor) -> int:
    """How many places [N, C, H, W], [N, H, W, C] or [N, tokens, C] has."""
    sides = out.shape[1:]
    channels = sides[-1] if len(sides) == 2 or sides[0] == sides[1] != sides[2] else sides[0]
    return sides.numel() // max(1, channels)


def named(model: Model, layer: str) -> nn.Module:
    """The module of that name: as the whole network calls it, or as the part of it that the user handed in does."""
    found = {name: module for name, module in module_of(model).named_modules() if name}
    fitting = sorted((name for name in found if f".{name}".endswith(f".{layer}")), key=lambda name: name.count("."))
    if not fitting:
        raise UnknownName(f"layer of {model.name}", layer, units(module_of(model)))
    return found[fitting[0]]


@contextlib.contextmanager
def tapped(model: Model, layer: str | None = None) -> Iterator[Tap]:
    """A `Tap` on a layer, or on the one that `Tap` chooses; no hook is left behind."""
    tap = Tap(model, layer)
    with watching(tap.modules, tap.see):
        yield tap
