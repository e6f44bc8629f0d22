"""A search that sees labels only and knows how near words are: it estimates, in the space of word vectors, which way
leads deeper into the wrong class, and leaps."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from carom.common.errors import CaromError
from carom.common.populations import Draws, LabelsOnly
from carom.common.problem import Status
from carom.common.rng import Rng
from carom.common.substitution import (
    Answer,
    Ask,
    Chosen,
    Editable,
    Found,
    Lean,
    Request,
    Search,
    Strategy,
    rows_of,
    some_of,
    spent,
)
from carom.text.space import Sentence
from carom.text.vectors import MINILM, vectors

Array = NDArray[np.float32]
Row = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Metered:
    """A search that is cut short after so many queries."""

    strategy: Strategy
    queries: int

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise CaromError("a search needs queries=1 or more.")

    def search(self, example: Editable, rng: Rng) -> Search:
        running, left = self.strategy.search(example, rng), self.queries
        answer = None
        while True:
            try:
                request: Request = running.send(answer)
            except StopIteration as stop:
                return stop.value
            if isinstance(request, Lean):
                raise CaromError("a search by labels asks for no gradient.")
            answer = yield some_of(request, range(min(left, len(rows_of(request)))))
            left -= len(answer.scores)
            answer = replace(answer, over=answer.over or left < 1)


@dataclass(frozen=True)
class Leaps:
    """Hard-label search by estimated directions, after Ye, Miao, Xiong and Ma 2022, LeapAttack.

    It begins as `LabelsOnly` does: a random edit that is adversarial, from which one change after another is taken back.
    Then, turn by turn: `draws` neighbours of the edit, in which changed words stand for other options, the nearer the
    likelier, are asked about; of all rows asked so far, the mean of their offset in the space of word vectors, with the
    sign of the answer, is the direction that leads deeper into the wrong class (their eq. 5, as in HopSkipJump). The
    edit leaps along it, each word to the option that lies farthest that way, and there one change more is taken back,
    those first that the direction says the least needs; where none can be, words are exchanged for ones nearer to the
    original. An edit counts as better with fewer changes, or with as many and nearer words. It ends when nothing is
    left that was not asked, after `patience` turns without gain, or with the queries.

    Departures: options are the threat's, with the vectors that are given (MiniLM's pieces; a word without one has the
    mean of all); nearness is the cosine of words, not of sentences, so that it costs no encoder; the estimate keeps
    what earlier turns have asked.
    """

    samples: int = 40
    draws: int = 8
    patience: int = 3
    source: str = MINILM

    def __post_init__(self) -> None:
        if min(self.samples, self.draws, self.patience) < 1:
            raise CaromError("a search by leaps needs samples, draws and patience of 1 or more.")

    def search(self, example: Editable, rng: Rng) -> Search:
        assert isinstance(example, Sentence), "leaps are made between words"
        log: dict[Row, bool] = {}
        found = yield from _noted(LabelsOnly(self.samples).search(example, rng), log)
        if not found.reached or found.status != Status.DONE or not found.chosen:
            return found
        hunt = _Hunt(example, _Field(example, self.source), log, dict(found.chosen))
        draws, idle = Draws(rng.fold("leaps")), 0
        while idle < self.patience and not hunt.over:
            before, asked = hunt.worth(hunt.now), len(log)
            yield from hunt.ask([hunt.field.near(example, hunt.now, draws) for _ in range(self.draws)])
            way = hunt.way()
            if not (yield from hunt.ask(hunt.fewer(way, self.draws))):
                yield from hunt.ask(hunt.nearer(way, self.draws))
            idle = idle + 1 if hunt.worth(hunt.now) >= before else 0
            if len(log) == asked:
                break
        return Found(hunt.now, True)


def _noted(running: Search, log: dict[Row, bool]) -> Search:
    """A search, with what it asked and was answered written down."""
    answer = None
    while True:
        try:
            request = running.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = yield request
        if not isinstance(request, Lean):
            log.update(zip(map(_row, rows_of(request)), answer.reached, strict=False))


def _row(chosen: Chosen) -> Row:
    return tuple(sorted(chosen.items()))


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
        # Of words without a vector, 0: as far as can be.
        self.cosines = [
            known.cosines(sentence.word(site).text, options) for site, options in enumerate(sentence.options)
        ]

    def offset(self, site: int, chosen: Chosen) -> Array:
        return self.offsets[site][chosen[site]] if site in chosen else np.zeros_like(self.offsets[site][0])

    def near(self, example: Editable, chosen: Chosen, draws: Draws) -> dict[int, int]:
        """The edit with some of its words, each with a chance of a half, at other options, the nearer the likelier."""
        row = dict(chosen)
        for site in sorted(chosen):
            if example.sizes[site] > 1 and (draws.number() < 0.5 or len(chosen) == 1):
                apart = np.linalg.norm(self.offsets[site] - self.offset(site, chosen), axis=1)
                weights = np.exp(-2 * apart)
                weights[chosen[site]] = 0
                row[site] = draws.weighted(weights.tolist())
        return row


class _Hunt:
    """The best edit so far, and what was asked on the way."""

    def __init__(self, example: Sentence, field: _Field, log: dict[Row, bool], now: dict[int, int]) -> None:
        self.example, self.field, self.log, self.now, self.over = example, field, log, now, False

    def worth(self, chosen: Chosen) -> tuple[int, float]:
        """Less is better: how many changes, and how far the new words are."""
        far = math.fsum(1 - self.field.cosines[site][option] for site, option in sorted(chosen.items()))
        return spent(self.example, chosen), round(far, 5)

    def ask(self, rows: Sequence[dict[int, int]]) -> Generator[Ask, Answer, bool]:
        """Ask about edits that were not asked about yet; whether one of them is better, and now the best."""
        new = {_row(row): row for row in rows if row and spent(self.example, row) <= self.example.limit}
        new = {row: chosen for row, chosen in new.items() if row not in self.log}
        if self.over or not new:
            return False
        answer = yield Ask(list(new.values()))
        self.over = answer.over
        before = self.worth(self.now)
        for row, reached in zip(new, answer.reached, strict=False):
            self.log[row] = reached
            if reached and self.worth(new[row]) < self.worth(self.now):
                self.now = new[row]
        return self.worth(self.now) < before

    def way(self) -> dict[int, Array]:
        """Of every site that was ever changed, the direction that leads deeper into the wrong class."""
        sign = np.array([1.0 if reached else -1.0 for reached in self.log.values()])
        sign -= sign.mean()
        found: dict[int, Array] = {}
        for row, weight in zip(self.log, sign, strict=True):
            chosen = dict(row)
            moved = {
                site: self.field.offset(site, chosen) - self.field.offset(site, self.now)
                for site in sorted({*chosen, *self.now})
                if chosen.get(site) != self.now.get(site)
            }
            length = math.sqrt(math.fsum(float((part**2).sum()) for part in moved.values()))
            for site, part in moved.items():
                found[site] = found.get(site, 0) + np.float32(weight / (length or 1)) * part
        return found

    def fewer(self, way: dict[int, Array], most: int) -> list[dict[int, int]]:
        """Edits that have leaped, each without one of its words: those first without which they lie the deepest."""
        gains = {site: self.field.offsets[site] @ way[site] for site in way if self.example.sizes[site]}
        leaped = {site: int(gains[site].argmax()) if site in gains else option for site, option in self.now.items()}
        depth = {site: float(gains[site][option]) if site in gains else 0.0 for site, option in leaped.items()}
        order = sorted(leaped, key=lambda site: (depth[site], site))
        rows = [{s: o for s, o in leaped.items() if s != gone} for gone in order]
        # Two words for one that says more.
        others = sorted((s for s in gains if s not in leaped), key=lambda s: (-float(gains[s].max()), s))
        for site in others[:2]:
            rows += [{**{s: o for s, o in leaped.items() if s not in order[:2]}, site: int(gains[site].argmax())}]
        return [row for row in rows if row and self.worth(row)[0] < self.worth(self.now)[0]][:most]

    def nearer(self, way: dict[int, Array], most: int) -> list[dict[int, int]]:
        """Edits with words nearer to the original: all that the direction does not speak against, then one by one."""
        zero = np.zeros(1, np.float32)
        moves: list[tuple[float, int, int]] = []
        every = dict(self.now)
        for site, now in sorted(self.now.items()):
            cosines, slope = self.field.cosines[site], way.get(site, zero)
            own = self.field.offsets[site]
            gains = (own - own[now]) @ slope if len(slope) > 1 else np.zeros(len(own), np.float32)
            nearest = [(cosines[o], o) for o in range(len(own)) if cosines[o] > cosines[now] and gains[o] >= 0]
            if nearest:
                every[site] = max(nearest)[1]
            scale = float(np.abs(gains).max()) or 1.0
            moves += [
                (cosines[o] - cosines[now] + 0.5 * float(gains[o]) / scale, site, o)
                for o in range(len(own))
                if cosines[o] > cosines[now]
            ]
        singles = [{**self.now, site: option} for _, site, option in sorted(moves, key=lambda m: (-m[0], m[1], m[2]))]
        return [row for row in (every, *singles) if _row(row) not in self.log][:most]
