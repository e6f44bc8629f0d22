"""The scheduler of substitution searches: it merges what the searches of all examples ask into full batches, asks the
model once, and hands each search its own answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from carom.common.attacks.edits.editable import (
    Attends,
    Edit,
    Editable,
    Gains,
    Guides,
    Move,
    Moved,
    Reader,
    Reads,
    Slotted,
)
from carom.common.attacks.edits.requests import (
    AttentionAt,
    CheckAllowed,
    EditScores,
    EditSearch,
    Found,
    GradientAt,
    Request,
    ScoreEdits,
    ScoreMoves,
    edits_of,
    odds,
    some_of,
)
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal, decided
from carom.common.core.model import Model
from carom.common.core.problem import Cost, Status
from carom.common.core.ties import ULPS, Settled

CELLS = 2048
"""Tokens that go through a model at once: what small networks make of them stays near the processor."""

WIDE = 128  # a GPU takes so many times as many


class Lockstep:
    """Runs the searches of N examples side by side on one model.

    A row's score is remembered for its example by what the model reads of it: rows that read the same are sent once.
    Rows are never shared between examples, so that costs do not depend on who else is in the batch. A row that the
    model works out from another (`Moved`) counts as a row. Of a random model nothing is remembered from one request to
    the next: it answers each anew, by the example's stream and how often that was asked. Rows of one request that read the
    same are one question.
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
        streams: Rng | None = None,
    ) -> None:
        """`queries` is the budget of each example. `admits(owners, inputs)` says which edits are allowed as a whole:
        others are not asked about, cost nothing, and score -inf (but see `ScoreEdits.judged`). At most `rows` rows, and about
        `cells` tokens, go through the model at once; a GPU takes `WIDE` times as many. With `confidence`, an input has
        reached the goal if the model is that sure of its answer, besides. `streams`, one for each example, are what a
        random model draws from."""
        self.confidence, self.streams = confidence, streams
        self.model, self.examples, self.goal, self.limit = model, examples, goal, queries
        self._moves, self._reads = isinstance(model, Moved), isinstance(model, Reads)
        self.admits = admits
        self._admitted: list[dict[Hashable, bool]] = [{} for _ in examples]
        wide = WIDE if model.device.type == "cuda" else 1
        self.rows, self.cells = rows * wide, cells * wide
        self.cost = {name: [0] * len(examples) for name in ("forward", "backward", "queries")}
        self.readers: list[Reader] = [row_reader(model, example) for example in examples]
        # (score, whether a search may take it for the goal, whether it is, how near another score is the same)
        self._known: list[dict[Hashable, tuple[float, bool, bool, float]]] = [{} for _ in examples]
        # In the order in which each search asked, which is that of no batch.
        self._settled = [Settled() for _ in examples]
        self._scores: list[dict[Hashable, float]] = [{} for _ in examples]

    def run(self, searches: Sequence[EditSearch]) -> list[Found]:
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
            asked = {i: a for i, a in waiting.items() if isinstance(a, CheckAllowed)} or waiting
            waiting = {i: a for i, a in waiting.items() if i not in asked}
            answers: dict[int, Any] = {}
            answers |= self._allowed({i: a for i, a in asked.items() if isinstance(a, CheckAllowed)})
            answers |= self._gains({i: a for i, a in asked.items() if isinstance(a, GradientAt)})
            answers |= self._attention([i for i, a in asked.items() if isinstance(a, AttentionAt)])
            answers |= self._scores_of_allowed(
                {i: a for i, a in asked.items() if isinstance(a, ScoreEdits | ScoreMoves)}
            )
            for i, answer in answers.items():
                send(i, answer)
        return [found[i] for i in range(len(searches))]

    def costs(self) -> Cost:
        return Cost(*(torch.tensor(self.cost[name]) for name in ("forward", "backward", "queries")))

    def fooled(self, i: int, edit: Edit) -> bool:
        """Whether an edit that was asked about reached the goal, however sure the model was."""
        known = self._known[i].get(self.readers[i].key(edit))
        return known is not None and known[2]

    def _left(self, i: int) -> int | None:
        return None if self.limit is None else self.limit - self.cost["queries"][i]

    def _allowed(self, asked: Mapping[int, CheckAllowed]) -> dict[int, list[bool]]:
        """Which edits are allowed as a whole. A token that no model knows is no edit: it only ranks."""
        if self.admits is None or not asked:
            return {i: [True] * len(ask.edits) for i, ask in asked.items()}
        rows = {i: [tuple(sorted(row.items())) for row in ask.edits] for i, ask in asked.items()}
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

    def _scores_of_allowed(self, asked: dict[int, ScoreEdits | ScoreMoves]) -> dict[int, EditScores]:
        """Ask about the edits that are allowed as a whole, or about all where the search judges for itself."""
        first = {i: a for i, a in asked.items() if self.admits and (a.judged or self.limit is not None)}
        rows = {i: edits_of(ask) for i, ask in first.items()}
        verdicts = self._allowed({i: CheckAllowed(own) for i, own in rows.items()})
        kept = {i: [n for n, ok in enumerate(own) if ok] for i, own in verdicts.items()}
        answers = self._scores_of({i: some_of(ask, kept[i]) if i in kept else ask for i, ask in asked.items()})
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

    def _scores_of(self, asked: Mapping[int, ScoreEdits | ScoreMoves]) -> dict[int, EditScores]:
        keys: dict[int, list[Hashable]] = {}
        whole: list[tuple[int, Hashable, Any]] = []  # with the change that `moves` gave
        near: dict[tuple[int, Hashable], list[tuple[Hashable, Any]]] = {}  # (example, row) -> rows worked out from it
        moves = self._moves and self.model.moves_rows  # type: ignore[attr-defined]
        for i, ask in asked.items():
            reader, known = self.readers[i], self._known[i]
            if isinstance(ask, ScoreMoves):
                read = reader.moves(ask.at, ask.moves[: self._left(i)])
            else:
                read = [(reader.key(edit), None) for edit in ask.edits[: self._left(i)]]
            keys[i] = [key for key, _ in read]
            if self.model.random:
                for key in keys[i]:
                    known.pop(key, None)
                    self._scores[i].pop(key, None)
            self.cost["queries"][i] += len(read)
            new = {key: change for key, change in read if key not in known}
            whole += [(i, key, change) for key, change in new.items() if change is None or not moves]
            for key, change in new.items() if moves else ():
                if change is not None:
                    near.setdefault((i, change[0]), []).append((key, change[1]))
        whole += self._work_out(near)
        self._send(whole)
        for i, _, _ in whole:
            self.cost["forward"][i] += 1
        return {i: self._edit_scores(i, keys[i]) for i in asked}

    def _edit_scores(self, i: int, keys: Sequence[Hashable]) -> EditScores:
        known, scores, settled = self._known[i], self._scores[i], self._settled[i]
        for key in keys:
            if key not in scores:
                scores[key] = settled(known[key][0], known[key][3])
        return EditScores([scores[key] for key in keys], [known[key][1] for key in keys], self._left(i) == 0)

    def _send(self, rows: list[tuple[int, Any, Any]]) -> None:
        """Send rows through the model, of like size together, and remember their scores."""
        places = sorted(range(len(rows)), key=lambda place: -self.readers[rows[place][0]].size(rows[place][1]))
        streams, rows = self._streams([i for i, _, _ in rows]), [rows[place] for place in places]
        start, answers = 0, []
        while start < len(rows):
            count = max(1, min(self.rows, self.cells // max(1, self.readers[rows[start][0]].size(rows[start][1]))))
            part = rows[start : start + count]
            inputs = [self.readers[i].row(key, change) for i, key, change in part]
            labels = self.goal.labels[[i for i, _, _ in part]]
            keys = None if streams is None else streams[torch.tensor(places[start : start + count])]
            start += count
            with torch.inference_mode():
                answers.append(self._answers(inputs, labels, keys))
        if answers:
            self._remember([(i, key) for i, key, _ in rows], torch.cat(answers))

    def _answers(self, inputs: list[Any], labels: Tensor, streams: Rng | None) -> Tensor:
        """Logits of the decisions that are taken about some rows."""
        if self._reads:
            return self.model.read(inputs)  # type: ignore[attr-defined]
        output = (self.model if streams is None else self.model.keyed(streams))(inputs)
        return decided(output, labels.to(output.logits.device))

    def _streams(self, owners: Sequence[int]) -> Rng | None:
        """A stream for each row, by its example and how often that was asked before; None of a model that draws nothing."""
        if not self.model.random:
            return None
        assert self.streams is not None, "a random model is asked with streams"
        asked, numbers = list(self.cost["forward"]), []
        for i in owners:
            numbers.append(asked[i])
            asked[i] += 1
        rows, asked_before = torch.tensor([list(owners), numbers], dtype=torch.long)
        return self.streams[rows].numbered(asked_before)

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
                score, _, _, near_zero = self._known[i][key]
                if abs(score) <= near_zero:
                    unsure.append((i, key, None))
                else:
                    self.cost["forward"][i] += 1
        return unsure

    def _remember(self, rows: Sequence[tuple[int, Hashable]], logits: Tensor) -> None:
        goal = self.goal.take(torch.tensor([i for i, _ in rows]))
        near = min(ULPS * torch.finfo(logits.dtype).eps, 1e-3)  # as a share of the logits
        logits = logits.double().cpu()
        scores, reached = odds(logits, goal), goal.achieved(logits)
        sure = reached
        if self.confidence is not None:
            sure = reached & (logits.softmax(1).amax(1) >= self.confidence - near)
        nears = near * logits.abs().amax(1).clamp_min(1.0)
        facts = zip(scores.tolist(), sure.tolist(), reached.tolist(), nears.tolist(), strict=True)
        for (i, key), known in zip(rows, facts, strict=True):
            self._known[i][key] = known

    def _gains(self, asked: Mapping[int, GradientAt]) -> dict[int, Gains | Status | None]:
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

    def _attention(self, asked: Sequence[int]) -> dict[int, list[float] | None]:
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
class WholeInputs:
    """The reader of a model that has none of its own: inputs are made, and told apart by what the model reads."""

    model: Model
    example: Editable

    def key(self, edit: Edit) -> Hashable:
        if isinstance(self.model, Reads):
            return self.model.codes([self.example.edit(edit)])[0]
        return tuple(sorted(edit.items()))

    def moves(self, at: Edit, moves: Sequence[Move]) -> list[tuple[Hashable, None]]:
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


def row_reader(model: Model, example: Editable) -> Reader:
    own = model.slots(example) if isinstance(model, Slotted) else None
    return own or WholeInputs(model, example)
