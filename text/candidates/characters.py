"""Misspellings and Unicode tricks: a word that a person still reads, and a model does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from carom.common.base.errors import UnknownName
from carom.common.base.rng import Rng

_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))  # letters and where their row begins


def _neighbours() -> dict[str, str]:
    """Letter -> the letters beside it on a QWERTY keyboard."""
    places = {key: (row, start + x) for row, (keys, start) in enumerate(_ROWS) for x, key in enumerate(keys)}
    return {
        key: "".join(o for o, (r, c) in places.items() if o != key and abs(r - row) <= 1 and abs(c - column) <= 1)
        for key, (row, column) in places.items()
    }


NEIGHBOURS = _neighbours()

LOOK_ALIKES = dict(
    zip(
        "abcdeghijklmnopqrstuvwxyzABCEHIJKMNOPSTXYZ",
        "аЬсԁеɡһіјкӏмпорԛгѕтυѵԝхуᴢАВСЕНІЈКМΝОРЅТХҮΖ",
        strict=True,
    )
)
"""Latin letter -> a Cyrillic, Greek or Armenian one that looks like it."""

ZERO_WIDTH = "\u200b"
BACKSPACE, OVERRIDE, POP = "\u0008", "\u202e", "\u202c"
EMOJI = ("🙂", "😀", "🔥", "🎬", "⭐", "👀")

KINDS = ("swap", "delete", "insert", "keyboard")


@dataclass(frozen=True)
class Misspellings:
    """Every misspelling of the inside of a word: neighbours swapped, a letter dropped, one of the keyboard's neighbours
    added behind or put in its place. First and last letter stay, and words of fewer than four are left alone.

    Pruthi, Dhingra and Lipton 2019, Combating adversarial misspellings with robust word recognition.
    """

    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise UnknownName("kind of misspelling", kind, KINDS)

    def options(self, word: str) -> tuple[str, ...]:
        if len(word) < 4:
            return ()
        return tuple(dict.fromkeys(o for kind in self.kinds for o in _misspelled(word, kind) if o != word))


def _misspelled(word: str, kind: str) -> Iterator[str]:
    for i in range(1, len(word) - 1):
        head, letter, tail = word[:i], word[i], word[i + 1 :]
        near = NEIGHBOURS.get(letter.lower(), "")
        near = near.upper() if letter.isupper() else near
        if kind == "delete":
            yield head + tail
        elif kind == "swap" and len(tail) > 1:
            yield head + tail[0] + letter + tail[1:]
        elif kind == "insert":
            yield from (head + letter + other + tail for other in near)
        elif kind == "keyboard":
            yield from (head + other + tail for other in near)


@dataclass(frozen=True)
class LookAlikes:
    """One letter, or every one, exchanged for a letter of another alphabet that looks the same.

    Li et al. 2019, TextBugger (sub-c); Boucher et al. 2022, Bad characters (homoglyphs).
    """

    def options(self, word: str) -> tuple[str, ...]:
        single = [word[:i] + LOOK_ALIKES[c] + word[i + 1 :] for i, c in enumerate(word) if c in LOOK_ALIKES]
        return tuple(dict.fromkeys([*single, "".join(LOOK_ALIKES.get(c, c) for c in word)]))


TRICKS = ("invisible", "reorder", "delete", "look-alike")


@dataclass(frozen=True)
class BadCharacters:
    """Encodings of a word that are drawn as it is: a character of no width inside it, its letters in reverse between
    marks that reverse the order of writing, a letter that a backspace takes back, letters of other alphabets.

    Boucher, Shumailov, Anderson and Papernot 2022, Bad characters: imperceptible NLP attacks. One trick a word; where
    it falls inside the word follows from its length, not from a search.
    """

    kinds: tuple[str, ...] = TRICKS
    free = True

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in TRICKS:
                raise UnknownName("trick", kind, TRICKS)

    def options(self, word: str) -> tuple[str, ...]:
        half = len(word) // 2
        head, tail = word[:half], word[half:]
        made = {
            "invisible": head + ZERO_WIDTH + tail,
            "reorder": OVERRIDE + word[::-1] + POP,
            "delete": head + "x" + BACKSPACE + tail,
            "look-alike": "".join(LOOK_ALIKES.get(c, c) for c in word),
        }
        return tuple(made[kind] for kind in self.kinds if made[kind] != word)


@dataclass(frozen=True)
class Emoji:
    """An emoji inside the word, or behind it."""

    signs: tuple[str, ...] = EMOJI
    free = True

    def options(self, word: str) -> tuple[str, ...]:
        half = len(word) // 2
        inside = [word[:half] + sign + word[half:] for sign in self.signs] if half else []
        return (*inside, *(f"{word} {sign}" for sign in self.signs))


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


EDITS = ("swap", "substitute", "delete", "insert")


@dataclass(frozen=True)
class CharacterEdits:
    """One misspelling of each kind: two neighbours swapped, a letter substituted, one deleted, one inserted.

    Gao et al. 2018, Black-box generation of adversarial text sequences to evade deep learning classifiers
    (DeepWordBug). Where the edit falls and which letter it brings follow from the word and `seed` alone. Words of one
    character have no misspelling.
    """

    kinds: tuple[str, ...] = EDITS
    seed: int = 0

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in EDITS:
                raise UnknownName("kind of character edit", kind, EDITS)

    def options(self, word: str) -> tuple[str, ...]:
        if len(word) < 2:
            return ()
        rng = Rng.of(self.seed, [word])
        return tuple(edit for kind in self.kinds if (edit := _edit(word, kind, rng.fold(kind))) is not None)


def _edit(word: str, kind: str, rng: Rng) -> str | None:
    def draw(what: str, count: int) -> int:
        return int(rng.fold(what).integers(count)[0])

    if kind == "swap":
        places = [i for i in range(len(word) - 1) if word[i] != word[i + 1]]
        if not places:
            return None
        i = places[draw("place", len(places))]
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    i = draw("place", len(word))
    if kind == "delete":
        return word[:i] + word[i + 1 :]
    others = [c for c in _LETTERS if c != word[i].lower()]
    letter = others[draw("letter", len(others))]
    if word[i].isupper():
        letter = letter.upper()
    return word[:i] + letter + word[i if kind == "insert" else i + 1 :]
