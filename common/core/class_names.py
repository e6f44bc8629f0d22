"""Names of classes: where those of data stand among those of a model. By name, never by place.

What is certain is found by `places`: the same name, or another name of the same class in a well-known list. What only
looks the same (another case, another spacing, the number of an output) is found by `likely`, for proposals and for
classes that a user has stated.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from carom.common.base.errors import CaromError

Entries = tuple[tuple[str, ...], ...]
"""The classes of a well-known list in their order, each with all its names, its identifier first."""

LISTS: dict[str, Callable[[], Entries]] = {}
"""Well-known lists of classes by the name that `classes=` takes. Modalities add theirs."""

SHOWN = 10  # names in one message


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """The key that puts "class 10" behind "class 9", and numbers before words."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts)


def in_order(names: Iterable[str]) -> tuple[tuple[str, ...], bool]:
    """(names as classes that only their names put in order: numbers as numbers, others as `sorted` has them; whether
    numbers in them sort otherwise than their letters do, so that another program may have another order)"""
    plain = sorted(set(names))
    counted = sorted(plain, key=natural)
    return tuple(counted if all(is_number(name) for name in plain) else plain), plain != counted


def lookalikes(names: Iterable[str]) -> tuple[str, ...]:
    """A remark on classes that differ in nothing but case, spaces or the form of their letters; none where all are
    different to the eye."""
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        first = seen.setdefault(folded(name), name)
        if first != name:
            return (f"{first!r} and {name!r} are taken for two classes: write them alike if they are one",)
    return ()


def is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def places(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """int[len(names)]: which of `among` each name is; None if one of them is none, or two are the same one.

    Raises CaromError where a name is wanted that several of `among` have.
    """
    if tuple(names) == tuple(among):
        return list(range(len(among)))
    exact: dict[str, int] = {}
    for place, name in enumerate(among):
        exact.setdefault(name, place)
    counts = Counter(among)
    listed = _by_lists(tuple(names), tuple(among)) if any(n not in exact or counts[n] > 1 for n in names) else {}
    found: list[int | None] = []
    for name in names:
        at: int | None = exact[name] if counts[name] == 1 else listed.get(name)
        if at is None and counts[name] > 1:
            both = [place for place, other in enumerate(among) if other == name]
            raise CaromError(
                f"class {name!r} is the name of outputs {_listed(map(str, both))}: give each a name of its own "
                f"(classes=@FILE, one name a line), or call it by an identifier{_identifiers(tuple(among), both)}."
            )
        found.append(at)
    return _distinct(found)


def likely(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """As `places`, for names that only look like those of `among`: but for case, spaces, underscores and leading zeros,
    or one of several names with commas between; else, where all are numbers and `among` are none, by number."""
    known: dict[str, set[int]] = {}
    for at, name in enumerate(among):
        for spelling in {folded(name), *map(folded, name.split(","))}:
            known.setdefault(spelling, set()).add(at)
    found = [known.get(folded(name), set()) for name in names]
    if all(len(one) == 1 for one in found):
        return _distinct([next(iter(one)) for one in found])
    if all(map(is_number, names)) and not any(map(is_number, among)):
        return _distinct([int(name) if int(name) < len(among) else None for name in names])
    return None


def folded(name: str) -> str:
    """A name without what two spellings of it differ in."""
    words = re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", words)


def stated_places(names: Sequence[str], stated: Sequence[str], where: str) -> list[int]:
    """As `places`, where a user has stated that the classes are these: what looks the same is.

    Raises CaromError that names what is none of them.
    """
    try:
        found = places(names, stated)
    except CaromError as error:
        raise CaromError(f"{where}: {error}") from None
    found = likely(names, stated) if found is None else found
    if found is None:
        known = set(stated)
        strange = [name for name in names if name not in known and likely([name], stated) is None] or list(names)
        raise CaromError(
            f"{where}: {_listed(map(repr, strange))} {'is none' if len(strange) == 1 else 'are none'} of the stated "
            f"classes {_listed(stated)}. Correct classes=, or leave it out to take the names that the data have."
        )
    return found


def listed_classes(name: str) -> tuple[str, ...]:
    """The names of a well-known list's classes, each once: those of two classes have their identifier behind."""
    entries = LISTS[name]()
    names = [", ".join(entry[1:]) for entry in entries]
    counts = Counter(names)
    return tuple(n if counts[n] == 1 else f"{n} ({e[0]})" for n, e in zip(names, entries, strict=True))


def list_of(names: Sequence[str]) -> str | None:
    """The well-known list that these names are, in its order."""
    return next((name for name in LISTS if _follows(tuple(names), name)), None)


def stated_as(names: Sequence[str]) -> str:
    """What to write behind `classes=` for these names: themselves, if they are few; else a list, or a file of them."""
    if len(names) <= SHOWN and not any(set(name) & set("&;?\n") for name in names):
        if any("," in name for name in names):
            return ";".join(names) if len(names) > 1 else f"{names[0]};"
        return ",".join(names)
    return list_of(names) or "@FILE (a file with one name a line, in the order of the outputs)"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names)})" if len(names) > SHOWN else "")


def _distinct(found: Sequence[int | None]) -> list[int] | None:
    known = [at for at in found if at is not None]
    return known if len(known) == len(found) == len(set(known)) else None


def _by_lists(names: tuple[str, ...], among: tuple[str, ...]) -> dict[str, int]:
    """The names that a well-known list has for a class of `among` under another one."""
    found: dict[str, int] = {}
    for name in LISTS:
        theirs = {entry: at for at, entry in enumerate(_entries(among, name)) if entry is not None}
        for own, entry in zip(names, _entries(names, name), strict=True):
            if entry in theirs:
                found.setdefault(own, theirs[entry])
    return found


def _identifiers(among: tuple[str, ...], at: Sequence[int]) -> str:
    known = [LISTS[name]()[place][0] for name in LISTS if _follows(among, name) for place in at]
    return f": {' or '.join(known)}" if known else ""


@lru_cache(maxsize=64)
def _entries(names: tuple[str, ...], name: str) -> list[int | None]:
    """Which entry of a list each name is. Names of several entries are told apart where all follow the list."""
    if _follows(names, name):
        return list(range(len(names)))
    known: dict[str, set[int]] = {}
    for at, entry in enumerate(LISTS[name]()):
        for spelling in _spellings(entry):
            known.setdefault(spelling, set()).add(at)
    found = [known.get(folded(one), set()) for one in names]
    return [next(iter(one)) if len(one) == 1 else None for one in found]


@lru_cache(maxsize=64)
def _follows(names: tuple[str, ...], name: str) -> bool:
    entries = LISTS[name]()
    return len(names) == len(entries) and all(folded(n) in _spellings(e) for n, e in zip(names, entries, strict=True))


@lru_cache(maxsize=4096)
def _spellings(entry: tuple[str, ...]) -> frozenset[str]:
    """Each name alone, the identifier, all names with commas or without, and with the identifier behind."""
    words = ", ".join(entry[1:])
    return frozenset(map(folded, (*entry, words, " ".join(entry[1:]), f"{words} ({entry[0]})", f"{entry[0]} {words}")))
