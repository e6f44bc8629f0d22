"""Substitution search: attacks on inputs made of parts that are exchanged whole, such as the words of a text.

A search is a generator written for ONE example: it yields inputs to score and receives their scores. `Lockstep` runs
the searches of all examples side by side, merges what they ask into full batches and hands each its own answers.
Inputs are described as edits of the clean one (`Chosen`); only the example itself knows what a part is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, count
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from carom.common.errors import CaromError
from carom.common.models import Model
from carom.common.objectives import ULPS
from carom.common.problem import Batch, Cost, Goal, Problem, Result, Status
from carom.common.rng import Rng

Move = tuple[int, int]
"""(site, option): one change."""

Chosen = Mapping[int, int]
"""Site -> number of the option that stands there, or BLANK or DROPPED. Sites that are not named are as they were."""

Gains = Sequence[Sequence[float]]
"""[site][option] -> how much an objective would grow, to first order, if the option stood there."""

BLANK, DROPPED = -1, -2
"""In place of an option: a token that no model knows; nothing at all. They only serve to rank sites."""


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


def _moved(at: Chosen, moves: Sequence[Move], number: int) -> Chosen:
    site, option = moves[number]
    return {**at, site: option}


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


def level(until: float | None) -> float:
    """The log-odds at which no more than `until` of the probability is left against the goal."""
    if until is None:
        return 0.0
    return math.log((1 - until) / until) if until > 0 else math.inf


def enough(score: float, reached: bool, until: float | None) -> bool:
    """Whether a search may stop: at the goal, and with no more than `until` of the probability left against it."""
    return reached and (until is None or score >= level(until))


def better(
    answer: Answer, edit: Callable[[int], Chosen], score: float, reached: bool
) -> Generator[Stand, Sequence[bool], int | None]:
    """The row that a greedy search moves to, if any improves: the best edit that may stand. Once at the goal, it stays
    there. `edit` makes a row."""
    scores = list(answer.scores)
    if reached:
        scores = [s if hit else -math.inf for s, hit in zip(scores, answer.reached, strict=True)]
    while True:
        top = max(scores, default=-math.inf)
        level = [row for row, s in enumerate(scores) if s >= top - answer.tie]
        if not level or not scores[level[0]] > score + answer.tie:
            return None
        verdicts = yield Stand([edit(row) for row in level])
        if all(verdicts):
            return level[0]
        for row, ok in zip(level, verdicts, strict=True):
            scores[row] = scores[row] if ok else -math.inf


def share(score: float) -> float:
    """The probability that log-odds stand for."""
    return 1 / (1 + math.exp(-score)) if score > 0 else math.exp(score) / (1 + math.exp(score))


GUESSES = 4  # by gains, before `Leap` doubles and halves
ORDERS = ("unk", "delete", "saliency", "gradient", "attention", "random")


@dataclass(frozen=True)
class GreedySites:
    """Rank the sites once, then change one after another to its best option, if that raises the score.

    `order` ranks the sites: "unk" and "delete" by the score without the site (Li et al. 2016, Jin et al. 2020),
    "saliency" by that times the score of the site's best option (Ren et al. 2019), "gradient" by the first-order gain
    of its best option (Ebrahimi et al. 2018), "attention" by what the last layer attends to (Hsieh et al. 2019),
    "random" not at all. `top` tries only that many options of each site,
    those of the highest gain. The search stops at the goal or, with `until`, when no more than that probability is
    left to the label (to anything but the target); an attack that is to transfer goes on.

    With `until=None`, the results and queries are those of TextAttack 0.3.11's GreedyWordSwapWIR, ties aside: there
    the machine's sorting routine settles them, here the order of sites and options does.
    """

    order: str = "unk"
    top: int | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise CaromError(f"order {self.order!r}: choose one of {', '.join(ORDERS)}.")
        if self.top is not None and (self.top < 1 or self.order != "gradient"):
            raise CaromError("top picks options by their gradient: it needs order=gradient and is at least 1.")

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        score, reached, over = clean.scores[0], False, clean.over
        options: dict[int, Sequence[int]] = {site: range(size) for site, size in enumerate(example.sizes)}
        if self.order == "gradient":
            gains = None if over else (yield Lean({}))
            if gains is None:
                return Found({}, False)
            if isinstance(gains, Status):
                return Found({}, False, gains)
            changeable = [site for site, size in enumerate(example.sizes) if size]
            order = [changeable[i] for i in steepest([max(gains[site]) for site in changeable])]
            if self.top is not None:
                options = {site: sorted(steepest(gains[site], self.top)) for site in changeable}
        elif self.order == "attention":
            heeded = None if over else (yield Heed())
            if heeded is None:
                return Found({}, False)
            if not all(map(math.isfinite, heeded)):
                return Found({}, False, Status.BAD_GRADIENT)
            order = steepest(heeded)
        else:
            order, over = yield from self._order(example, over, rng)
        chosen: dict[int, int] = {}
        for site in order:
            left = example.limit - spent(example, chosen)
            if over or left < 1 or enough(score, reached, self.until):
                break
            moves = [(site, option) for option in options[site] if example.price(site, option) <= left]
            if not moves:
                continue
            answer = yield Try(chosen, moves, judged=False)
            over = answer.over
            best = yield from better(answer, partial(_moved, chosen, moves), score, reached)
            if best is not None:
                chosen, score, reached = {**chosen, site: moves[best][1]}, answer.scores[best], answer.reached[best]
        return Found(chosen, reached, score=score)

    def _order(self, example: Editable, over: bool, rng: Rng) -> Generator[Try, Answer, tuple[list[int], bool]]:
        """Sites, the most important first, and whether the query budget is used up."""
        count = len(example.sizes)
        if self.order == "random":
            return rng.fold("order").uniform(count)[0].argsort(stable=True).tolist(), over
        if over:
            return [], over
        without = yield Try({}, [(site, DROPPED if self.order == "delete" else BLANK) for site in range(count)])
        scores = list(without.scores)
        over = without.over
        if self.order == "saliency":
            pairs = [(site, option) for site, size in enumerate(example.sizes) for option in range(size)]
            peaks = [0.0] * len(scores)
            if not over:
                answer = yield Try({}, pairs)
                over = answer.over
                for (site, _), score in zip(pairs, answer.scores, strict=False):
                    peaks[site] = max(peaks[site], share(score))
            weights = torch.tensor([share(score) for score in scores], dtype=torch.float64).softmax(0).tolist()
            scores = [weight * peak for weight, peak in zip(weights, peaks, strict=True)]
            return ranked(scores, without.tie / count), over
        return ranked(scores, without.tie), over


@dataclass(frozen=True)
class BestEdits:
    """At each step try every option of every site, and keep the `width` best edits: beam search, greedy at width 1.

    With `top`, a gradient at each kept edit picks that many options, over all sites, and only they are scored
    (Ebrahimi et al. 2018, HotFlip). The search ends when no edit raises the score; `until` as in `GreedySites`.
    """

    width: int = 1
    top: int | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or (self.top is not None and self.top < 1):
            raise CaromError("width and top are at least 1.")

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        chosen: Chosen = {}
        score, reached, over = clean.scores[0], False, clean.over
        kept: list[Chosen] = [chosen]
        while not over and not enough(score, reached, self.until):
            rows: dict[frozenset[tuple[int, int]], Chosen] = {}
            for edit in kept:
                pairs = affordable(example, edit)
                if self.top is not None and pairs:
                    gains = yield Lean(edit)
                    if isinstance(gains, Status):
                        if not chosen:
                            return Found({}, False, gains)
                        pairs = []
                    elif gains is None:
                        over, pairs = True, []
                    else:
                        pairs = [pairs[i] for i in steepest([gains[s][o] for s, o in pairs], self.top)]
                for site, option in pairs:
                    row = {**edit, site: option}
                    rows.setdefault(frozenset(row.items()), row)
            if over or not rows:
                break
            tried = list(rows.values())
            answer = yield Ask(tried, judged=self.width > 1)
            over = answer.over
            best = yield from better(answer, tried.__getitem__, score, reached)
            if best is None:
                break
            chosen, score, reached = tried[best], answer.scores[best], answer.reached[best]
            kept = [chosen, *(tried[row] for row in ranked(answer.scores, answer.tie) if row != best)][: self.width]
        return Found(chosen, reached, score=score)


@dataclass(frozen=True)
class Leap:
    """Change the sites of the highest first-order gain together, each to its best option: as many as the gains say
    are enough, then, as what they did tells, more or fewer, until one fewer is known not to be enough. One gradient
    and a handful of rows.

    What is enough need not grow with the number of sites; where it does not, more are changed than needed.
    """

    until: float | None = None

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        start, over = clean.scores[0], clean.over
        best = Found({}, False, score=start)
        gains = None if over else (yield Lean({}))
        if gains is None:
            return best
        if isinstance(gains, Status):
            return Found({}, False, gains)
        options = {site: steepest(own, 1)[0] for site, own in enumerate(gains) if own}
        order = list(options)
        ranks = steepest([gains[site][options[site]] for site in order])
        prices = accumulate(example.price(order[i], options[order[i]]) for i in ranks)
        order = [order[i] for i, price in zip(ranks, prices, strict=True) if price <= example.limit]
        rises = list(accumulate(max(0.0, gains[site][options[site]]) for site in order))
        needed = level(self.until) - start
        low, high, kept = 0, len(order) + 1, 1.0  # not enough; enough; what is kept of a promised rise
        seen: set[int] = set()
        for turn in count(1):
            if high - low < 2 or over:
                break
            if turn <= GUESSES:
                tried = bisect_left(rises, needed / kept) + 1
            else:  # the gains mislead
                tried = 2 * low if high > len(order) else (low + high) // 2
            tried = min(max(tried, low + 1), high - 1)
            seen.add(tried)
            edit = {site: options[site] for site in order[:tried]}
            answer = yield Ask([edit])
            over = answer.over
            if not answer.scores:
                return best
            score, reached = answer.scores[0], answer.reached[0]
            if score > start and rises[tried - 1] > 0:
                kept = (score - start) / rises[tried - 1]
            if enough(score, reached, self.until):
                high, best = tried, Found(edit, True, score=score)
            else:
                if (reached, score) > (best.reached, best.score) and high > len(order):
                    best = Found(edit, reached, score=score)
                low = tried
        if best.reached or over:
            return best
        # All together are not enough; fewer may be.
        halves = [n for power in range(1, len(order).bit_length()) if (n := len(order) >> power) not in seen]
        edits = [{site: options[site] for site in order[:n]} for n in halves]
        answer = yield Ask(edits)
        for edit, score, reached in zip(edits, answer.scores, answer.reached, strict=False):
            if (reached, score) > (best.reached, best.score) or (best.reached and enough(score, reached, self.until)):
                best = Found(edit, reached, score=score)
        return best


@dataclass(frozen=True)
class Cascade:
    """One search and, where it does not reach the goal, another: the quick one costs its own queries where it fails,
    and no success of the thorough one is lost."""

    first: Strategy
    then: Strategy

    def search(self, example: Editable, rng: Rng) -> Search:
        found = yield from self.first.search(example, rng)
        if found.reached or found.status != Status.DONE:
            return found
        other = yield from self.then.search(example, rng.fold("then"))
        return max(found, other, key=lambda f: (f.reached, f.score, f is found))


def ended(clean: Answer, example: Editable) -> Found | None:
    """The result of a search that need not or cannot begin, judged by the answer to the clean input."""
    if not clean.scores or clean.scores[0] == -torch.inf:
        return Found({}, False, Status.BAD_GRADIENT if clean.scores else Status.INFEASIBLE)
    if clean.reached[0]:
        return Found({}, True, Status.SKIPPED)
    if example.limit < 1 or not any(example.sizes):
        return Found({}, False, Status.INFEASIBLE)
    return None


CELLS = 2048
"""Tokens that go through a model at once: what small networks make of them stays near the processor."""

WIDE = 128  # a GPU takes so many times as many


class Lockstep:
    """Runs the searches of N examples side by side on one model.

    A row's score is remembered for its example by what the model reads of it: rows that read the same are sent once.
    Rows are never shared between examples, so that costs do not depend on who else is in the batch. A row that the
    model works out from another (`Moved`) counts as a row.
    """

    def __init__(
        self,
        model: Model,
        examples: Sequence[Editable],
        goal: Goal,
        queries: int | None = None,
        rows: int = 128,
        cells: int = CELLS,
        admits: Callable[[Sequence[int], Sequence[Any]], list[bool]] | None = None,
        confidence: float | None = None,
    ) -> None:
        """`queries` is the budget of each example. `admits(owners, inputs)` says which edits are allowed as a whole:
        others are not asked about, cost nothing, and score -inf (but see `Ask.judged`). At most `rows` rows, and about
        `cells` tokens, go through the model at once; a GPU takes `WIDE` times as many. With `confidence`, an input has
        reached the goal if the model is that sure of its answer, besides."""
        self.confidence = confidence
        self.model, self.examples, self.goal, self.limit = model, examples, goal, queries
        self._moves, self._reads = isinstance(model, Moved), isinstance(model, Reads)
        self.admits = admits
        self._admitted: list[dict[Hashable, bool]] = [{} for _ in examples]
        wide = WIDE if model.device.type == "cuda" else 1
        self.rows, self.cells = rows * wide, cells * wide
        self.cost = {name: [0] * len(examples) for name in ("forward", "backward", "queries")}
        self.readers: list[Reader] = [reader_of(model, example) for example in examples]
        # (score, whether a search may take it for the goal, whether it is)
        self._known: list[dict[Hashable, tuple[float, bool, bool]]] = [{} for _ in examples]
        self._tie = 0.0

    def run(self, searches: Sequence[Search]) -> list[Found]:
        """Every search to its end."""
        found: dict[int, Found] = {}
        waiting: dict[int, Request] = {}

        def send(i: int, answer: Any) -> None:
            try:
                waiting[i] = searches[i].send(answer)
            except StopIteration as stop:
                found[i] = stop.value

        for i in range(len(searches)):
            send(i, None)
        while waiting:
            # Judged first, so that what is asked next is asked together.
            asked = {i: a for i, a in waiting.items() if isinstance(a, Stand)} or waiting
            waiting = {i: a for i, a in waiting.items() if i not in asked}
            answers: dict[int, Any] = {}
            answers |= self._stand({i: a for i, a in asked.items() if isinstance(a, Stand)})
            answers |= self._lean({i: a for i, a in asked.items() if isinstance(a, Lean)})
            answers |= self._heed([i for i, a in asked.items() if isinstance(a, Heed)])
            answers |= self._ask_admitted({i: a for i, a in asked.items() if isinstance(a, Ask | Try)})
            for i, answer in answers.items():
                send(i, answer)
        return [found[i] for i in range(len(searches))]

    def costs(self) -> Cost:
        return Cost(*(torch.tensor(self.cost[name]) for name in ("forward", "backward", "queries")))

    def fooled(self, i: int, chosen: Chosen) -> bool:
        """Whether an edit that was asked about reached the goal, however sure the model was."""
        known = self._known[i].get(self.readers[i].key(chosen))
        return known is not None and known[2]

    def _left(self, i: int) -> int | None:
        return None if self.limit is None else self.limit - self.cost["queries"][i]

    def _stand(self, asked: Mapping[int, Stand]) -> dict[int, list[bool]]:
        """Which edits are allowed as a whole. A token that no model knows is no edit: it only ranks."""
        if self.admits is None or not asked:
            return {i: [True] * len(stand.rows) for i, stand in asked.items()}
        rows = {i: [tuple(sorted(row.items())) for row in stand.rows] for i, stand in asked.items()}
        judged = [
            (i, row)
            for i, own in rows.items()
            for row in dict.fromkeys(own)
            if row and row not in self._admitted[i] and all(option >= 0 for _, option in row)
        ]
        inputs = [self.examples[i].edit(dict(row)) for i, row in judged]
        for (i, row), ok in zip(judged, self.admits([i for i, _ in judged], inputs) if judged else [], strict=True):
            self._admitted[i][row] = ok
        return {i: [self._admitted[i].get(row, True) for row in own] for i, own in rows.items()}

    def _ask_admitted(self, asked: dict[int, Ask | Try]) -> dict[int, Answer]:
        """Ask about the edits that are allowed as a whole, or about all where the search judges for itself."""
        first = {i: a for i, a in asked.items() if self.admits and (a.judged or self.limit is not None)}
        rows = {i: rows_of(ask) for i, ask in first.items()}
        verdicts = self._stand({i: Stand(own) for i, own in rows.items()})
        kept = {i: [n for n, ok in enumerate(own) if ok] for i, own in verdicts.items()}
        answers = self._ask({i: some_of(ask, kept[i]) if i in kept else ask for i, ask in asked.items()})
        for i in kept:
            answer = answers[i]
            if len(kept[i]) == len(rows[i]):
                continue
            places = kept[i][: len(answer.scores)]
            count = kept[i][len(places)] if len(places) < len(kept[i]) else len(rows[i])
            scores, reached = [-math.inf] * count, [False] * count
            for place, score, hit in zip(places, answer.scores, answer.reached, strict=True):
                scores[place], reached[place] = score, hit
            answers[i] = replace(answer, scores=scores, reached=reached)
        return answers

    def _ask(self, asked: Mapping[int, Ask | Try]) -> dict[int, Answer]:
        keys: dict[int, list[Hashable]] = {}
        whole: list[tuple[int, Hashable, Any]] = []  # with the change that `moves` gave
        near: dict[tuple[int, Hashable], list[tuple[Hashable, Any]]] = {}  # (example, row) -> rows worked out from it
        moves = self._moves and self.model.moves_rows  # type: ignore[attr-defined]
        for i, ask in asked.items():
            reader, known = self.readers[i], self._known[i]
            if isinstance(ask, Try):
                read = reader.moves(ask.at, ask.moves[: self._left(i)])
            else:
                read = [(reader.key(chosen), None) for chosen in ask.rows[: self._left(i)]]
            keys[i] = [key for key, _ in read]
            self.cost["queries"][i] += len(read)
            new = {key: change for key, change in read if key not in known}
            whole += [(i, key, change) for key, change in new.items() if change is None or not moves]
            for key, change in new.items() if moves else ():
                if change is not None:
                    near.setdefault((i, change[0]), []).append((key, change[1]))
        whole += self._work_out(near)
        self._score(whole)
        for i, _, _ in whole:
            self.cost["forward"][i] += 1
        return {i: self._answer(i, keys[i]) for i in asked}

    def _answer(self, i: int, keys: Sequence[Hashable]) -> Answer:
        known = [self._known[i][key] for key in keys]
        return Answer([k[0] for k in known], [k[1] for k in known], self._left(i) == 0, self._tie)

    def _score(self, rows: list[tuple[int, Any, Any]]) -> None:
        """Send rows through the model, of like size together, and remember their scores."""
        rows = sorted(rows, key=lambda row: -self.readers[row[0]].size(row[1]))
        start, answers = 0, []
        while start < len(rows):
            count = max(1, min(self.rows, self.cells // max(1, self.readers[rows[start][0]].size(rows[start][1]))))
            inputs = [self.readers[i].row(key, change) for i, key, change in rows[start : start + count]]
            start += count
            with torch.inference_mode():
                answers.append(self.model.read(inputs) if self._reads else self.model(inputs).logits)  # type: ignore[attr-defined]
        if answers:
            self._remember([(i, key) for i, key, _ in rows], torch.cat(answers))

    def _work_out(
        self, near: Mapping[tuple[int, Hashable], Sequence[tuple[Hashable, Any]]]
    ) -> list[tuple[int, Hashable, Any]]:
        """Answer rows by what changes between them and another. Those so near to the goal's boundary that rounding
        decides are handed back: they are asked whole."""
        unsure: list[tuple[int, Hashable, Any]] = []
        order = sorted(near, key=lambda base: -self.readers[base[0]].size(base[1]))
        while order:
            count = max(1, min(self.rows, 16 * self.cells // max(1, self.readers[order[0][0]].size(order[0][1]))))
            part, order = order[:count], order[count:]
            bases = [self.readers[i].row(key) for i, key in part]
            rows = [(base[0], key) for base in part for key, _ in near[base]]
            changes = [(place, change) for place, base in enumerate(part) for _, change in near[base]]
            with torch.inference_mode():
                logits = self.model.moved(bases, changes)  # type: ignore[attr-defined]
            self._remember(rows, logits)
            for i, key in rows:
                if abs(self._known[i][key][0]) <= self._tie:
                    unsure.append((i, key, None))
                else:
                    self.cost["forward"][i] += 1
        return unsure

    def _remember(self, rows: Sequence[tuple[int, Hashable]], logits: Tensor) -> None:
        goal = self.goal.take(torch.tensor([i for i, _ in rows]))
        self._tie = min(ULPS * torch.finfo(logits.dtype).eps, 1e-3)
        logits = logits.double().cpu()
        scores, reached = odds(logits, goal).tolist(), goal.achieved(logits)
        sure = reached if self.confidence is None else reached & (logits.softmax(1).amax(1) >= self.confidence)
        for (i, key), score, hit, held in zip(rows, scores, sure.tolist(), reached.tolist(), strict=True):
            self._known[i][key] = (score, hit, held)

    def _lean(self, asked: Mapping[int, Lean]) -> dict[int, Gains | Status | None]:
        """Gains; None if the query budget is used up; a status if the gradient is of no use."""
        answers: dict[int, Gains | Status | None] = {i: None for i in asked}
        able = [i for i in asked if self._left(i) != 0]
        if not able:
            return answers
        if not isinstance(self.model, Guides):
            raise CaromError(f"model {self.model.name} grants no gradient: choose an attack that needs scores only.")
        edits, mixtures = [(self.examples[i], asked[i].at) for i in able], [asked[i].mixture for i in able]
        gains = self.model.gains(edits, self.goal.take(torch.tensor(able)), mixtures)
        for i, mine in zip(able, gains, strict=True):
            for name in self.cost:
                self.cost[name][i] += 1
            flat = [gain for options in mine for gain in options]
            answers[i] = mine
            if not all(map(math.isfinite, flat)):
                answers[i] = Status.BAD_GRADIENT
            elif not any(flat):
                answers[i] = Status.NO_GRADIENT
        return answers

    def _heed(self, asked: Sequence[int]) -> dict[int, list[float] | None]:
        """Attention; None if the query budget is used up."""
        answers: dict[int, list[float] | None] = dict.fromkeys(asked)
        able = [i for i in asked if self._left(i) != 0]
        if able:
            if not isinstance(self.model, Attends):
                raise CaromError(f"model {self.model.name} shows no attention: rank by gradient or by scores instead.")
            answers |= zip(able, self.model.attention([self.examples[i] for i in able]), strict=True)
            for i in able:
                self.cost["forward"][i] += 1
                self.cost["queries"][i] += 1
        return answers


@dataclass(frozen=True)
class Plain:
    """The reader of a model that has none of its own: inputs are made, and told apart by what the model reads."""

    model: Model
    example: Editable

    def key(self, chosen: Chosen) -> Hashable:
        if isinstance(self.model, Reads):
            return self.model.codes([self.example.edit(chosen)])[0]
        return tuple(sorted(chosen.items()))

    def moves(self, at: Chosen, moves: Sequence[Move]) -> list[tuple[Hashable, None]]:
        rows = [{**at, site: option} for site, option in moves]
        if not isinstance(self.model, Reads):
            return [(self.key(row), None) for row in rows]
        found: list[tuple[Hashable, None]] = []
        # Inputs are made a few at a time: long ones need not all be in memory, only what is read of them.
        for start in range(0, len(rows), 128):
            inputs = [self.example.edit(row) for row in rows[start : start + 128]]
            found += [(code, None) for code in self.model.codes(inputs)]
        return found

    def row(self, key: Any, change: Any = None) -> Any:
        return key if isinstance(self.model, Reads) else self.example.edit(dict(key))

    def size(self, key: Any) -> int:
        return len(key) if isinstance(self.model, Reads) and hasattr(key, "__len__") else 1


def reader_of(model: Model, example: Editable) -> Reader:
    own = model.slots(example) if isinstance(model, Slotted) else None
    return own or Plain(model, example)


@dataclass(frozen=True)
class Substitution:
    """Solve problems whose threat edits inputs, by one strategy.

    Examples on which the goal is reached before anything is changed are skipped, unchanged. Where it is not reached,
    the best edit that was found is kept: an example that fails on its source may still transfer. With `confidence`, the
    searches' goal is an answer that the model gives at least that probability; success is the answer by itself.
    """

    strategy: Strategy
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.confidence is not None and not 0 < self.confidence < 1:
            raise CaromError(f"confidence={self.confidence} is no probability to go on to: give one between 0 and 1.")

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        threat: Any = problem.threat
        examples = [threat.editable(x) for x in batch.inputs]
        targets = problem.goal.targets
        goal = Goal(problem.goal.labels.cpu(), None if targets is None else targets.cpu())
        streams = replace(rng, keys=rng.keys.cpu())
        admits = None
        if threat.judges_texts:

            def admits(owners: Sequence[int], edited: Sequence[Any]) -> list[bool]:
                return threat.admits([(x, batch.inputs[i]) for i, x in zip(owners, edited, strict=True)])

        lockstep = Lockstep(
            problem.model, examples, goal, problem.budget.queries, admits=admits, confidence=self.confidence
        )
        searches = [self.strategy.search(e, streams[torch.tensor([i])]) for i, e in enumerate(examples)]
        with problem.model.frozen():
            found = lockstep.run(searches)
        return Result(
            [example.edit(f.chosen) for example, f in zip(examples, found, strict=True)],
            torch.tensor([f.reached or lockstep.fooled(i, f.chosen) for i, f in enumerate(found)], dtype=torch.bool),
            lockstep.costs(),
            torch.tensor([int(f.status) for f in found], dtype=torch.long),
        )
