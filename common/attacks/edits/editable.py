"""Inputs made of parts that are exchanged whole, such as the words of a text: what a search sees of them, and
what models may offer to read them quickly. Inputs are described as edits of the clean one; only the example itself
knows what a part is.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from carom.common.core.batch import Goal

Move = tuple[int, int]
"""(site, option): one change."""


Edit = Mapping[int, int]
"""Site -> number of the option that stands there, or BLANK or DROPPED. Sites that are not named are as they were."""


Gains = Sequence[Sequence[float]]
"""[site][option] -> how much an objective would grow, to first order, if the option stood there."""


BLANK = -1
"""In place of an option: a token that no model knows. It only serves to rank sites, as does `DROPPED`."""


DROPPED = -2
"""In place of an option: nothing at all."""


class Editable(Protocol):
    """One input as sites that can be changed, each to one of a few options in a fixed order."""

    @property
    def limit(self) -> int:
        """How many changes may be made."""

    @property
    def sizes(self) -> Sequence[int]:
        """How many options each site has."""

    def price(self, site: int, option: int) -> int:
        """How many changes an option counts as."""

    def edit(self, edit: Edit) -> Any:
        """The input with these changes."""


@runtime_checkable
class EditThreat(Protocol):
    """A threat whose budget counts edits."""

    def editable(self, x: Any) -> Editable:
        """An input with the edits that the budget allows one by one."""

    @property
    def judges_inputs(self) -> bool:
        """Whether some edited inputs are refused as a whole."""

    def admits(self, pairs: Sequence[tuple[Any, Any]]) -> list[bool]:
        """Which edited inputs are allowed as a whole, given (edited, clean)."""


@runtime_checkable
class Reads(Protocol):
    """A model that knows what it reads of an input: token ids, say. Inputs that read the same are scored once."""

    def codes(self, inputs: Sequence[Any]) -> Sequence[Hashable]:
        """What the model reads of each input. `len(code)` is what a row of it costs."""

    def read(self, codes: Sequence[Any]) -> Tensor:
        """Logits float[N, C] of inputs with these codes."""


class Reader(Protocol):
    """What a model reads of the edits of one example. Keys are short, hashable, and equal where it reads the same."""

    def key(self, edit: Edit) -> Any: ...

    def moves(self, at: Edit, moves: Sequence[Move]) -> list[tuple[Any, Any]]:
        """The key of `at` with one more change, for each; and (key of a row, what changes it into this one) for
        `Moved`, or None."""

    def row(self, key: Any, change: Any = None) -> Any:
        """What the model's `read` takes, or the input itself where it has none. `change`, where `moves` gave one, is a
        shorter way there."""

    def size(self, key: Any) -> int:
        """What a row costs."""


@runtime_checkable
class Slotted(Protocol):
    """A model that reads edits without the inputs being made."""

    def slots(self, example: Any) -> Reader | None:
        """None for examples that it cannot do it for."""


@runtime_checkable
class Moved(Protocol):
    """A model that can work out the answer to a row from a row that differs in one place."""

    moves_rows: bool

    def moved(self, bases: Sequence[Any], changes: Sequence[tuple[int, Any]]) -> Tensor:
        """Logits float[N, C] of rows that are `bases[i]` but for one change, for each (i, change)."""


@runtime_checkable
class Guides(Protocol):
    """A model with a gradient at the parts of an input."""

    def gains(
        self, edits: Sequence[tuple[Any, Edit]], goal: Goal, mixtures: Sequence[Gains | None] | None = None
    ) -> list[Gains]:
        """What every option would add to the objective. One forward and one backward row for each example."""


@runtime_checkable
class Attends(Protocol):
    """A model that shows how much it attends to the parts of an input."""

    def attention(self, examples: Sequence[Any]) -> list[list[float]]:
        """What every site of each clean example receives. One forward row for each."""


def spent(example: Editable, edit: Edit) -> int:
    """How many changes an edit counts as."""
    return sum(example.price(site, option) for site, option in edit.items())


def affordable(example: Editable, at: Edit) -> list[Move]:
    """Every further change that the limit leaves room for, in order."""
    left = example.limit - spent(example, at)
    if left < 1:
        return []
    moves = ((s, o) for s, size in enumerate(example.sizes) if s not in at for o in range(size))
    return [move for move in moves if example.price(*move) <= left]
