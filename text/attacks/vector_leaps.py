"""A search that sees labels only and knows how near words are: it estimates, in the space of word vectors, which way
leads deeper into the wrong class, and leaps."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carom.common.attacks.edits.editable import Edit, Editable, spent
from carom.common.attacks.edits.labels_only import LabelsOnly
from carom.common.attacks.edits.population import Draws
from carom.common.attacks.edits.requests import (
    EditScores,
    EditSearch,
    EditStrategy,
    Found,
    Request,
    ScoreEdits,
    ScoreMoves,
    edits_of,
    some_of,
)
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Access
from carom.common.core.problem import Status
from carom.common.core.ties import Settled
from carom.text.attacks.base import WordAttack, attack, word_attacks
from carom.text.language.vectors import MINILM, vectors
from carom.text.sentence import Sentence

LEAPS = word_attacks(needs=Access.LABEL, cost="at most `queries`", random=True)

Array = NDArray[np.float32]
Row = tuple[tuple[int, int], ...]

CLOSE = 1e-5
"""Cosines this close are equal, and slopes as close as this share of the largest."""


@dataclass(frozen=True)
class Metered:
    """A search that is cut short after so many queries."""

    strategy: EditStrategy
    queries: int

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise CaromError("a search needs queries=1 or more.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        running, left = self.strategy.search(example, rng), self.queries
        answer = None
        while True:
            try:
                request: Request = running.send(answer)
            except StopIteration as stop:
                return stop.value
            if not isinstance(request, ScoreEdits | ScoreMoves):
                raise CaromError("only a search that asks for answers alone can be metered.")
            answer = yield some_of(request, range(min(left, len(edits_of(request)))))
            left -= len(answer.scores)
            answer = replace(answer, over=answer.over or left < 1)


@dataclass(frozen=True)
class Leaps:
    """Hard-label search by estimated directions, after Ye et al. 2022, LeapAttack.

    It begins as `LabelsOnly` does: a random edit that is adversarial, from which one change after another is taken back.
    Then, turn by turn: `draws` neighbours of the edit, in which changed words stand for other options, the nearer the
    likelier, are asked about (their Monte Carlo estimate); the rows asked so far and their answers give the direction,
    in the space of word vectors, that leads into the wrong class. Along it the edit leaps to fewer changes, the deepest
    first; where none of them holds, words are exchanged for ones nearer to the original. An edit is better with fewer
    changes, or with as many and nearer words. After `patience` turns without gain it starts anew, `starts` times at
    most, and ends when nothing is left that was not asked, or with the queries.

    Departures: the direction is fitted by least squares to all rows, where the paper averages the offsets of the last
    ones by the sign of their answers; options are the threat's, with the vectors
    that are given (MiniLM's pieces; a word that is none has a vector of zeros), where the paper takes counter-fitted
    neighbours; nearness is the cosine of words, not of sentences, and costs no encoder.
    """

    samples: int = 40
    draws: int = 8
    patience: int = 2
    starts: int = 8
    source: str = MINILM

    def __post_init__(self) -> None:
        if min(self.samples, self.draws, self.patience, self.starts) < 1:
            raise CaromError("a search by leaps needs samples, draws, patience and starts of 1 or more.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        assert isinstance(example, Sentence), "leaps are made between words"
        log: dict[Row, bool] = {}
        found = yield from _noted(LabelsOnly(self.samples).search(example, rng), log)
        if not found.reached or found.status != Status.DONE or not found.edit:
            return found
        field, best = _Field(example, self.source), dict(found.edit)
        for start in range(self.starts):
            asked = len(log)
            if start:
                found = yield from _noted(LabelsOnly(self.samples).search(example, rng.fold("start", start)), log)
                if not found.reached or not found.edit:
                    break
            hunt = _Hunt(example, field, log, dict(found.edit))
            yield from self._leap(hunt, Draws(rng.fold("leaps", start)))
            best = min(best, hunt.now, key=hunt.worth)
            if hunt.over or len(log) == asked:
                break
        return Found(best, True)

    def _leap(self, hunt: _Hunt, draws: Draws) -> Generator[ScoreEdits, EditScores, None]:
        """From one edit to better ones, as long as that goes."""
        idle = 0
        while idle < self.patience and not hunt.over:
            before, asked = hunt.worth(hunt.now), len(hunt.log)
            yield from hunt.ask([hunt.field.near(hunt.example, hunt.now, draws) for _ in range(self.draws)])
            slopes = hunt.slopes()
            if not (yield from hunt.ask(hunt.fewer(slopes, self.draws))):
                yield from hunt.ask(hunt.nearer(slopes, self.draws))
            idle = idle + 1 if hunt.worth(hunt.now) >= before else 0
            if len(hunt.log) == asked:
                break


def _noted(running: EditSearch, log: dict[Row, bool]) -> EditSearch:
    """A search, with what it asked and was answered written down."""
    answer = None
    while True:
        try:
            request = running.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = yield request
        if isinstance(request, ScoreEdits | ScoreMoves):
            log.update(zip(map(_row, edits_of(request)), answer.reached, strict=False))


def settled(tables: Sequence[Sequence[float]], near: float) -> list[list[float]]:
    """[site][option]: numbers within `near` of one before are that one."""
    settle = Settled()
    return [[settle(number, near) for number in own] for own in tables]


def _row(edit: Edit) -> Row:
    return tuple(sorted(edit.items()))


class _Field:
    """The vectors of a sentence's words and options, relative to the words."""

    def __init__(self, sentence: Sentence, source: str) -> None:
        known = vectors(source)
        unknown = np.zeros(known.matrix.shape[1], np.float32)

        def of(word: str) -> Array:
            row = known.row(word)
            return unknown if row is None else known.matrix[row]

        own = [of(sentence.word(site).text) for site in range(len(sentence.sites))]
        self.offsets: list[Array] = [
            np.stack([of(option) - here for option in options]) if options else np.zeros((0, len(unknown)), np.float32)
            for here, options in zip(own, sentence.options, strict=True)
        ]
        # Products of options at one site, the word itself first.
        self.products = [np.pad(offsets @ offsets.T, ((1, 0), (1, 0))) for offsets in self.offsets]
        # Of words without a vector, 0: as far as can be.
        cosines = [known.cosines(sentence.word(site).text, options) for site, options in enumerate(sentence.options)]
        self.cosines = settled(cosines, CLOSE)

    def offset(self, site: int, edit: Edit) -> Array:
        return self.offsets[site][edit[site]] if site in edit else np.zeros_like(self.offsets[site][0])

    def near(self, example: Editable, edit: Edit, draws: Draws) -> dict[int, int]:
        """The edit with some of its words, each with a chance of a half, at other options, the nearer the likelier."""
        row = dict(edit)
        for site in sorted(edit):
            if example.sizes[site] > 1 and (draws.number() < 0.5 or len(edit) == 1):
                apart = np.linalg.norm(self.offsets[site] - self.offset(site, edit), axis=1)
                weights = np.exp(-2 * apart)
                weights[edit[site]] = 0
                row[site] = draws.weighted(weights.tolist())
        return row


class _Hunt:
    """The best edit so far, and what was asked on the way."""

    MEMORY = 200  # rows that a direction is estimated from

    def __init__(self, example: Sentence, field: _Field, log: dict[Row, bool], now: dict[int, int]) -> None:
        self.example, self.field, self.log, self.now, self.over = example, field, log, now, False

    def worth(self, edit: Edit) -> tuple[int, float]:
        """Less is better: how many changes, and how far the new words are."""
        far = math.fsum(1 - self.field.cosines[site][option] for site, option in sorted(edit.items()))
        return spent(self.example, edit), far

    def ask(self, rows: Sequence[dict[int, int]]) -> Generator[ScoreEdits, EditScores, bool]:
        """Ask about edits that were not asked about yet; whether one of them is better, and now the best."""
        new = {_row(row): row for row in rows if row and spent(self.example, row) <= self.example.limit}
        new = {row: edit for row, edit in new.items() if row not in self.log}
        if self.over or not new:
            return False
        answer = yield ScoreEdits(list(new.values()))
        self.over = answer.over
        before = self.worth(self.now)
        for row, reached in zip(new, answer.reached, strict=False):
            self.log[row] = reached
            if reached and self.worth(new[row]) < self.worth(self.now):
                self.now = new[row]
        return self.worth(self.now) < before

    def slopes(self) -> list[list[float]]:
        """[site][option]: how far each option leads into the wrong class, along the direction that tells best, by least
        squares, the rows that reached the goal from those that did not."""
        rows = list(self.log)[-self.MEMORY :]
        sign = np.array([1.0 if self.log[row] else -1.0 for row in rows])
        at = np.zeros((len(rows), len(self.example.sites)), np.int64)
        for n, row in enumerate(rows):
            for site, option in row:
                at[n, site] = option + 1
        gram = np.zeros((len(rows), len(rows)))
        for site in np.flatnonzero(at.any(0)).tolist():
            gram += self.field.products[site][at[:, site]][:, at[:, site]]
        ridge = 0.1 * (np.trace(gram) / len(rows) or 1.0)
        weights = np.linalg.solve(gram + 1.0 + ridge * np.eye(len(rows)), sign)  # 1: of a constant
        slopes = [(table[1:][:, at[:, site]] @ weights).tolist() for site, table in enumerate(self.field.products)]
        return settled(slopes, CLOSE * max((abs(slope) for own in slopes for slope in own), default=0.0))

    def fewer(self, slopes: list[list[float]], most: int) -> list[dict[int, int]]:
        """Edits that have leaped, with fewer changes: those that lie the deepest."""
        best = {site: own.index(max(own)) for site, own in enumerate(slopes) if own}
        depth = {site: slopes[site][option] for site, option in best.items()}
        order = sorted(best, key=lambda site: (-depth[site], site))
        count = self.worth(self.now)[0] - 1
        rows = []
        if count > 0:
            for last in order[count - 1 :]:
                rows.append({site: best[site] for site in (*order[: count - 1], last)})
            kept = sorted(self.now, key=lambda site: (-slopes[site][self.now[site]], site))
            rows.insert(1, {site: self.now[site] for site in kept[:count]})
        rows = [row for row in rows if row and self.worth(row)[0] <= count and _row(row) not in self.log]
        return rows[:most]

    def nearer(self, slopes: list[list[float]], most: int) -> list[dict[int, int]]:
        """Edits with words nearer to the original: all that the direction does not speak against, then one by one."""
        moves: list[tuple[float, int, int]] = []
        every, widest = dict(self.now), max(abs(slope) for own in slopes for slope in own) or 1.0
        for site, now in sorted(self.now.items()):
            cosines, own = self.field.cosines[site], slopes[site]
            closer = [o for o in range(len(own)) if cosines[o] > cosines[now]]
            if deep := [o for o in closer if own[o] >= own[now]]:
                every[site] = max(deep, key=lambda o: (cosines[o], -o))
            moves += [(cosines[o] - cosines[now] + 0.5 * (own[o] - own[now]) / widest, site, o) for o in closer]
        singles = [{**self.now, site: option} for _, site, option in sorted(moves, key=lambda m: (-m[0], m[1], m[2]))]
        return [row for row in (every, *singles) if _row(row) not in self.log][:most]


@LEAPS.attack(
    "leap",
    "labels only: directions estimated in the space of word vectors, towards fewer and nearer words",
    paper="Ye et al. 2022, LeapAttack: hard-label adversarial attack on text via gradient-based optimization",
    departures="the direction is fitted by least squares to all rows; the threat's options with MiniLM's vectors (or "
    "a file's) for counter-fitted neighbours; nearness is that of words, not of sentences",
)
def leap(queries: int = 200, samples: int = 40, draws: int = 8, vectors: str = MINILM) -> WordAttack:
    """Labels only: as `hqa`, and on from there along directions that are estimated in the space of word vectors."""
    return attack(Metered(Leaps(samples, draws, source=vectors), queries))
