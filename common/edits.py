"""Inputs made of parts that are exchanged whole, such as the words of a text: what a search sees of them, what it may
ask, and how the answers are compared. Inputs are described as edits of the clean one (`Chosen`); only the example
itself knows what a part is.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from carom.common.problem import Goal, Status
from carom.common.rng import Rng

Move = tuple[int, int]
"""(site, option): one change."""

Chosen = Mapping[int, int]
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

    def edit(self, chosen: Chosen) -> Any:
        """The input with these changes."""


@runtime_checkable
class Reads(Protocol):
    """A model that knows what it reads of an input: token ids, say. Inputs that read the same are scored once."""

    def codes(self, inputs: Sequence[Any]) -> Sequence[Hashable]:
        """What the model reads of each input. `len(code)` is what a row of it costs."""

    def read(self, codes: Sequence[Any]) -> Tensor:
        """Logits float[N, C] of inputs with these codes."""


class Reader(Protocol):
    """What a model reads of the edits of one example. Keys are short, hashable, and equal where it reads the same."""

    def key(self, chosen: Chosen) -> Any: ...

    def moves(self, at: Chosen, moves: Sequence[Move]) -> list[tuple[Any, Any]]:
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
        self, edits: Sequence[tuple[Any, Chosen]], goal: Goal, mixtures: Sequence[Gains | None] | None = None
    ) -> list[Gains]:
        """What every option would add to the objective. One forward and one backward row for each example."""


@runtime_checkable
class Attends(Protocol):
    """A model that shows how much it attends to the parts of an input."""

    def attention(self, examples: Sequence[Any]) -> list[list[float]]:
        """What every site of each clean example receives. One forward row for each."""


@dataclass(frozen=True)
class Ask:
    """A search wants the scores of these edits, of those that may not stand -inf. With `judged=False` it asks by
    `Stand` itself about the few that it would take: without a query budget, the others are scored whether or not they
    may stand, since judging a text can take longer than asking about it."""

    rows: Sequence[Chosen]
    judged: bool = True


@dataclass(frozen=True)
class Try:
    """A search wants the scores of one edit with one more change each: the same as `Ask`, for less."""

    at: Chosen
    moves: Sequence[Move]
    judged: bool = True


@dataclass(frozen=True)
class Stand:
    """A search wants to know which of these edits the threat admits as a whole: list[bool]."""

    rows: Sequence[Chosen]


@dataclass(frozen=True)
class Lean:
    """A search wants the gains of all options at this edit; or, with `mixture` [site][option], at the clean input in
    which the parts of each site are mixed with these shares of its options."""

    at: Chosen
    mixture: Gains | None = None


@dataclass(frozen=True)
class Heed:
    """A search wants to know how much the model attends to each site of the clean input."""


@dataclass(frozen=True)
class Answer:
    """Scores of the rows that were asked for: fewer than asked if the query budget ran out, which `over` says.

    A score is the log-odds of any answer but the label, or of the target: it orders inputs as their probability does,
    but does not saturate. -inf where a logit is not finite.
    """

    scores: Sequence[float]
    reached: Sequence[bool]  # the goal
    over: bool
    tie: float  # scores this close are equal

    def best(self, among: Sequence[int] | None = None) -> int | None:
        """The row with the highest score; of rows that tie, the first."""
        rows = range(len(self.scores)) if among is None else among
        if not rows:
            return None
        top = max(self.scores[row] for row in rows)
        return next(row for row in rows if self.scores[row] >= top - self.tie)


@dataclass(frozen=True)
class Found:
    """How a search ended. An unchanged example that nothing could be done about says so in its status."""

    chosen: Chosen
    reached: bool
    status: Status = Status.DONE
    score: float = -math.inf


Request = Ask | Try | Stand | Lean | Heed


Search = Generator[Request, Any, Found]


def rows_of(ask: Ask | Try) -> Sequence[Chosen]:
    return ask.rows if isinstance(ask, Ask) else [{**ask.at, site: option} for site, option in ask.moves]


def some_of(ask: Ask | Try, places: Sequence[int]) -> Ask | Try:
    """The same question about some of the rows."""
    if isinstance(ask, Ask):
        return Ask([ask.rows[n] for n in places], ask.judged)
    return Try(ask.at, [ask.moves[n] for n in places], ask.judged)


class Strategy(Protocol):
    """How one example is searched."""

    def search(self, example: Editable, rng: Rng) -> Search: ...


def odds(logits: Tensor, goal: Goal) -> Tensor:
    """float[N]: log-odds of any answer but the label or, targeted, of the target; of logits float[N, C]."""
    anchor = goal.labels if goal.targets is None else goal.targets
    own = logits.gather(1, anchor[:, None]).squeeze(1)
    others = logits.scatter(1, anchor[:, None], -torch.inf).logsumexp(1)
    score = others - own if goal.targets is None else own - others
    return torch.where(logits.isfinite().all(1), score, -torch.inf)


def ranked(scores: Sequence[float], tie: float) -> list[int]:
    """Positions by falling score. Scores within `tie` of their neighbour stay in the order they came in."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    groups: list[list[int]] = []
    for at, i in enumerate(order):
        if at and scores[order[at - 1]] - scores[i] <= tie:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [i for group in groups for i in sorted(group)]


def steepest(gains: Sequence[float], count: int | None = None) -> list[int]:
    """Positions of the `count` largest gains (of all), by falling gain, compared to four digits."""
    tie = 1e-4 * max(map(abs, gains), default=0.0)
    if count == 1 and gains:  # most often one is far above the others
        top = max(gains)
        near = [i for i, gain in enumerate(gains) if top - gain <= tie]
        if len(near) == 1:
            return near
    return ranked(gains, tie)[:count]


def spent(example: Editable, chosen: Chosen) -> int:
    """How many changes an edit counts as."""
    return sum(example.price(site, option) for site, option in chosen.items())


def affordable(example: Editable, at: Chosen) -> list[Move]:
    """Every further change that the limit leaves room for, in order."""
    left = example.limit - spent(example, at)
    if left < 1:
        return []
    moves = ((s, o) for s, size in enumerate(example.sizes) if s not in at for o in range(size))
    return [move for move in moves if example.price(*move) <= left]
