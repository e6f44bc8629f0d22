"""Edits of one text as token ids, without making the text: only the pieces between spaces that change are read again.

No token of the encoders here reaches over a space, so a text's ids are those of its pieces, one after another. What is
read of an edit is written as its differences from the clean text (a `Key`): short, equal for edits that read the same.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import chain, count, islice
from typing import Any, Protocol

from carom.common.attacks.edits.editable import BLANK, Edit, Move
from carom.text.candidates.base import Merged
from carom.text.sentence import UNKNOWN, Sentence

Ids = tuple[int, ...]
PieceEdits = tuple[tuple[int, Ids], ...]
Key = PieceEdits | Ids
"""(piece, its ids) of every piece that reads otherwise than in the clean text, in order. Where the pieces do not tell,
the ids of the whole text."""

Splice = tuple[int, int, Ids]
"""(start, stop, new): the ids from start up to stop are exchanged for the new ones."""

REMEMBERED = 1 << 18  # pieces of text whose ids are kept


class PieceEncoder(Protocol):
    """An encoder of whole texts that can also be asked about the pieces between spaces."""

    limit: int
    piece: re.Pattern[str]
    frame: tuple[Ids, Ids]  # ids before and after those of the text
    empty: Ids  # ids of a text without any token, between those of the frame

    def pieces(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each piece, without the frame, however long."""


class Slots:
    """One sentence for one encoder. Sites are those of the sentence."""

    def __init__(self, sentence: Sentence, encoder: PieceEncoder, known: dict[str, Ids]) -> None:
        """`known` remembers the ids of pieces from one sentence to the next."""
        self.sentence, self.encoder, self.known = sentence, encoder, known
        found = list(encoder.piece.finditer(sentence.text))
        self.starts = [match.start() for match in found]
        self.pieces = [match.group() for match in found]
        self._learn(self.pieces)
        self.ids = [known[piece] for piece in self.pieces]
        before, after = encoder.frame
        self.frame = len(before)
        self.offsets = [self.frame]
        for ids in self.ids:
            self.offsets.append(self.offsets[-1] + len(ids))
        self.room = encoder.limit - len(after)  # tokens are read up to here
        self.where = [
            bisect_right(self.starts, word.start) - 1 for word in map(sentence.word, range(len(sentence.sites)))
        ]
        self.alone = [True] * len(self.where)
        for site in range(1, len(self.where)):
            if self.where[site] == self.where[site - 1]:
                self.alone[site] = self.alone[site - 1] = False
        self._options: list[dict[int, Ids | None]] = [{} for _ in self.where]
        self._clean = self.row(())
        self._near: tuple[Key, Ids] = (), self._clean  # a row that others are one splice away from

    def _learn(self, pieces: Sequence[str]) -> None:
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self.known]
        if new:
            self.known.update(zip(new, self.encoder.pieces(new), strict=True))

    def row(self, key: Key, change: tuple[Key, Splice] | None = None) -> Ids:
        """The ids that the model reads; `change` is the row that it is one splice away from, and the splice."""
        if change is not None:
            near, (start, stop, new) = change
            if self._near[0] != near:
                self._near = near, self.row(near)
            ids = self._near[1]
            return (*ids[:start], *new, *ids[stop:])
        if not key:
            if hasattr(self, "_clean"):
                return self._clean
        elif isinstance(key[0], int):
            return key  # type: ignore[return-value]
        edited: dict[int, Ids] = dict(key)  # type: ignore[arg-type]
        numbers = chain.from_iterable(map(edited.get, count(), self.ids))
        return self._framed(tuple(islice(numbers, self.room)))  # what lies behind is not read, however long the text

    def size(self, key: Key) -> int:
        return len(key) if key and isinstance(key[0], int) else len(self._clean)

    def _framed(self, ids: Sequence[int]) -> Ids:
        before, after = self.encoder.frame
        return (*before, *(ids[: self.room - len(before)] or self.encoder.empty), *after)

    def learn(self, moves: Sequence[Move]) -> None:
        """Read these options at once: encoders are slow to be asked for one piece at a time."""
        texts: list[str | None] = []
        unread: list[Move] = []
        last = -1
        for move in moves:
            site, option = move
            if self.alone[site] and option not in self._options[site]:
                if site != last:
                    last, (before, after) = site, self._around(site)
                new = UNKNOWN if option == BLANK else self.sentence.options[site][option] if option >= 0 else ""
                stands = new and not isinstance(new, Merged)  # exactly where the word stood
                texts.append(before + new + after if stands else self._edited(self.where[site], (move,)))
                unread.append(move)
        self._learn([text for text in texts if text is not None])
        for (site, option), text in zip(unread, texts, strict=True):
            self._options[site][option] = None if text is None else self.known[text]

    def _around(self, site: int) -> tuple[str, str]:
        """What stands before and behind a site's word in its piece."""
        word, piece = self.sentence.word(site), self.where[site]
        text, shift = self.pieces[piece], self.starts[piece]
        return text[: word.start - shift], text[word.stop - shift :]

    def key(self, edit: Edit) -> Key:
        """What is read of an edit."""
        by_piece: dict[int, list[Move]] = {}
        for site, option in sorted(edit.items()):
            by_piece.setdefault(self.where[site], []).append((site, option))
        key = []
        for piece, moves in by_piece.items():
            ids = self._read(piece, tuple(moves))
            if ids is None:
                return self._whole(edit)
            if ids != self.ids[piece]:
                key.append((piece, ids))
        return self._cut(tuple(key))

    def moves(self, at: Edit, moves: Sequence[Move]) -> list[tuple[Key, tuple[Key, Splice] | None]]:
        """What is read of the edit `at` with one more change each, and the row that it is one splice away from; None
        where there is no such row. That row is `at` itself or, where texts are cut off, as much of it as is left."""
        base = self.key(at)
        self.learn(moves)
        if base and isinstance(base[0], int):
            return [(self.key({**at, site: option}), None) for site, option in moves]
        edits: PieceEdits = base  # type: ignore[assignment]
        held = dict(edits)
        grown = {piece: more for piece, ids in held.items() if (more := len(ids) - len(self.ids[piece]))}
        total = self.offsets[-1] + sum(grown.values())
        rows: dict[int, Key] = {0: base}  # by how much longer the edited row gets, where that cuts it elsewhere
        found: list[tuple[Key, tuple[Key, Splice] | None]] = []
        last = -1
        for site, option in moves:
            piece = self.where[site]
            if piece != last:
                last, now, clean = piece, held.get(piece, self.ids[piece]), self.ids[piece]
                start = self.offsets[piece] + sum(more for other, more in grown.items() if other < piece)
                head, tail = _around_piece(edits, piece)
            if self.alone[site]:
                ids = self._options[site][option]
            else:
                beside = {s: o for s, o in at.items() if self.where[s] == piece}
                ids = self._read(piece, tuple(sorted({**beside, site: option}.items())))
            if ids is None:
                found.append((self.key({**at, site: option}), None))
                continue
            if ids == now or start >= self.room:
                found.append((base, None))
                continue
            more = len(ids) - len(now)
            key = (*head, *tail) if ids == clean else (*head, (piece, ids), *tail)
            row: Key = base
            if total > self.room or total + more > self.room:
                if total + more > self.room:
                    key = self._cut(key)
                if start + len(ids) > self.room:
                    found.append((key, None))
                    continue
                if more not in rows:
                    rows[more] = self._up_to(self.room - more, held)
                row = rows[more]
            if total + len(ids) <= len(now) + self.frame:
                found.append((key, None))
                continue
            found.append((key, (row, _splice(start, now, ids))))
        return found

    def _up_to(self, stop: int, held: Mapping[int, Ids]) -> Ids:
        """The ids of an edit up to there, wherever texts are cut off, in the frame."""
        before, after = self.encoder.frame
        ids = [number for piece, own in enumerate(self.ids) for number in held.get(piece, own)]
        return (*before, *ids[: stop - len(before)], *after)

    def _read(self, piece: int, moves: tuple[Move, ...]) -> Ids | None:
        """The ids of an edited piece; None if only the whole text can tell."""
        if len(moves) == 1 and self.alone[moves[0][0]]:
            site, option = moves[0]
            table = self._options[site]
            if option not in table:
                table[option] = self._ids(self._edited(piece, moves))
            return table[option]
        return self._ids(self._edited(piece, moves))

    def _ids(self, text: str | None) -> Ids | None:
        if text is None:
            return None
        if text not in self.known:
            self._learn([text])
        return self.known[text]

    def _edited(self, piece: int, moves: tuple[Move, ...]) -> str | None:
        text, shift = self.pieces[piece], self.starts[piece]
        for site, option in reversed(moves):
            if option >= 0 and isinstance(self.sentence.options[site][option], Merged):
                return None
            word = self.sentence.word(site)
            start, stop = word.start - shift, word.stop - shift
            # The space goes with a word that is left out: what is left of its piece would join the one before.
            gone = not self.sentence.plain(site, option)
            if gone and start == 0 and stop < len(self.pieces[piece]) and piece:
                return None
            text = text[:start] + self.sentence.change(site, option)[1] + text[stop:]
        return text

    def _whole(self, edit: Edit) -> Key:
        text = self.sentence.edit(edit)
        self._learn(pieces := self.encoder.piece.findall(text))
        return self._framed([number for piece in pieces for number in self.known[piece]])

    def _cut(self, key: PieceEdits) -> PieceEdits:
        """Without pieces that lie behind what is read."""
        grown = 0
        for place, (piece, ids) in enumerate(key):
            if self.offsets[piece] + grown >= self.room:
                return key[:place]
            grown += len(ids) - len(self.ids[piece])
        return key


def _splice(start: int, now: Ids, new: Ids) -> Splice:
    """The shortest change that leads from ids to others."""
    if len(now) == 1 and now[0] not in new:
        return start, start + 1, new
    most = min(len(now), len(new))
    head = next((n for n in range(most) if now[n] != new[n]), most)
    tail = next((n for n in range(most - head) if now[-1 - n] != new[-1 - n]), most - head)
    return start + head, start + len(now) - tail, new[head : len(new) - tail]


def _around_piece(key: PieceEdits, piece: int) -> tuple[PieceEdits, PieceEdits]:
    """What a key says of the pieces before one, and of those behind it."""
    if not key or key[-1][0] < piece:
        return key, ()
    at = next(n for n, (other, _) in enumerate(key) if other >= piece)
    return key[:at], key[at + (key[at][0] == piece) :]


def slots_of(sentence: Any, encoder: Any, known: dict[str, Ids]) -> Slots | None:
    """Slots, where the encoder reads texts piece by piece."""
    if not isinstance(sentence, Sentence) or not hasattr(encoder, "pieces"):
        return None
    if sentence.words and sentence.words[0].text == sentence.text and " " in sentence.text:  # one site: the whole text
        return None
    if len(known) > REMEMBERED:
        known.clear()
    return Slots(sentence, encoder, known)
