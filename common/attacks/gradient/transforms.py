"""Transforms of inputs of any kind, and how transforms are composed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from carom.common.attacks.gradient.step import Transform, prepared
from carom.common.base.rng import Rng
from carom.common.core.batch import Access
from carom.common.core.oracle import Oracle
from carom.common.core.threats import column

if TYPE_CHECKING:
    from carom.common.attacks.gradient.ascent import Ascent


@dataclass(frozen=True)
class Scales:
    """Copies at half the scale each: x, x/2, x/4, ... (scale invariance, Lin et al. 2020, eq. 7)."""

    copies: int = 5

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        return x * column((0.5**copy).to(x.dtype), x)


@dataclass(frozen=True)
class Compose:
    """One transform after another. Their copies multiply: each copy of the first has every copy of the next."""

    parts: tuple[Transform, ...]

    @property
    def copies(self) -> int:
        return math.prod(part.copies for part in self.parts)

    @property
    def in_one_pass(self) -> bool:
        return any(getattr(part, "in_one_pass", False) for part in self.parts)

    def __call__(self, x: Tensor, rng: Rng, copy: Tensor) -> Tensor:
        for number, part in enumerate(self.parts):
            x = part(x, rng.fold("part", number), copy % part.copies)
            copy = copy // part.copies
        return x

    @property
    def prepared(self) -> Callable[[Oracle, Rng], AbstractContextManager[Compose]] | None:
        """None where no part has to be prepared."""
        return self._bound if any(getattr(part, "prepared", None) for part in self.parts) else None

    @contextlib.contextmanager
    def _bound(self, oracle: Oracle, rng: Rng) -> Iterator[Compose]:
        with contextlib.ExitStack() as stack:
            parts = [prepared(part, oracle, rng.fold("part", i)) for i, part in enumerate(self.parts)]
            yield Compose(tuple(stack.enter_context(part) for part in parts))


def compose(*parts: Transform | None) -> Transform | None:
    """The transforms that there are, in order; one of them alone is itself."""
    flat = [p for part in parts if part is not None for p in (part.parts if isinstance(part, Compose) else (part,))]
    return flat[0] if len(flat) == 1 else Compose(tuple(flat)) if flat else None


@dataclass(frozen=True, kw_only=True)
class TransformInfo:
    """One entry of the registry of transforms: what any gradient attack, which is an Ascent, can be given besides."""

    name: str
    summary: str  # one line
    reference: str  # authors, year, title
    apply: Callable[[Ascent], Ascent]
    needs: Access = Access.GRADIENT
    models: str = "any"  # of which build: see MODELS
