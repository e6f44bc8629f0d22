"""Facts that a user states about models and data, as keywords or as parameters of a spec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.received import json_of
from carom.common.base.specs import existing, number
from carom.common.core.batch import Family
from carom.common.core.class_names import LISTS, listed_classes
from carom.common.loading.estimators import family_of
from carom.common.models.answers import BELOW_ABOVE


@dataclass(frozen=True)
class Fact:
    """Something about a model that its weights do not tell, and how a user states it."""

    name: str  # the keyword: normalise
    what: str  # in a sentence: "normalisation"
    how: str  # what to write in Python: "normalise=(mean, std) or normalise=None"
    spec: str  # and in a spec, by an example: "normalise=none"


CLASSES = Fact("classes", "classes", 'classes=["first", "second", ...] in the order of its outputs', "classes=cat,dog")

ANSWERS = Fact("answers", "kind of scores", 'answers="logits" or answers="probabilities"', "answers=logits")


class MissingFacts(CaromError):
    """Facts about a model that only the user can state, asked for by name."""

    def __init__(self, who: str, missing: Sequence[Fact]) -> None:
        whats, hows = [f.what for f in missing], [f.how for f in missing]
        super().__init__(f"carom cannot know the {_and(whats)} of {who}: pass {'; '.join(hows)}.")
        self.missing = missing

    def of_spec(self, more: bool = False) -> CaromError:
        """The same, said to one who wrote a spec, which has parameters already where there are to be `more`."""
        return CaromError(
            f"{self} In its spec, for example: {'&' if more else '?'}{'&'.join(f.spec for f in self.missing)}"
        )


def need(facts: Mapping[str, Any], wanted: Iterable[Fact], who: str) -> None:
    """Raise an error that asks, by name, for every fact of `wanted` that is missing."""
    missing = [fact for fact in wanted if fact.name not in facts]
    if missing:
        raise MissingFacts(who, missing)


def threshold_fact(facts: Mapping[str, Any], who: str) -> float | None:
    """Where the second of two classes begins, of a model that answers one number; None where no threshold is stated."""
    if facts.get("threshold") is None:
        return None
    classes = class_names(facts.get("classes", BELOW_ABOVE))
    if len(classes) != 2:
        raise CaromError(f"{who} has a threshold with two sides, and {len(classes)} classes: name below and above.")
    return number(facts["threshold"])


def side_names(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The classes of a model that answers one number, unless they are stated otherwise."""
    return {} if facts.get("threshold") is None else {"classes": BELOW_ABOVE}


def known_facts(facts: Mapping[str, Any], known: Iterable[str], who: str) -> None:
    """Refuse facts that `who` has no use for, with the nearest it knows."""
    known = list(known)
    for name in facts:
        if name not in known:
            raise UnknownName(f"fact about {who}", name, known)


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def called(thing: Any, facts: Mapping[str, Any]) -> str:
    """What an object is called: as the user says, else by its own name or that of its class."""
    thing = thing.func if isinstance(thing, partial) else thing
    return str(facts.get("name") or getattr(thing, "__name__", type(thing).__name__))


def choice(facts: Mapping[str, Any], name: str, among: Sequence[str], default: str | None = None) -> str:
    """A fact that is one of a few words."""
    value = facts.get(name, default)
    if value not in among:
        raise UnknownName(name, str(value), among)
    return str(value)


def family_fact(facts: Mapping[str, Any], thing: Any) -> Family:
    """The family that the user states, else a guess."""
    return Family(choice(facts, "family", list(Family))) if "family" in facts else family_of(thing)


def numbers(value: Any) -> list[float]:
    """Numbers as keywords or specs give them: 0.5, (0.5, 0.4), "0.5,0.4". Raises ValueError for one that is not finite."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    found = [float(part) for part in parts]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{value!r} is not finite")
    return found


T = TypeVar("T")


def whole_fact(facts: Mapping[str, Any], name: str, default: T) -> int | T:
    """A fact that counts something: channels, samples, hertz."""
    value = facts.get(name)
    if value is None:
        return default
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1:
        raise CaromError(f"{name}={value!r}: write a whole number of 1 or more.")
    return count


def bounds_fact(facts: Mapping[str, Any], default: tuple[float, float]) -> tuple[float, float]:
    """The fact `bounds`: (low, high), or "0,255" in a spec."""
    value = facts.get("bounds", default)
    try:
        low, high = numbers(value)
    except (TypeError, ValueError):
        raise CaromError(f"bounds={value!r}: write two numbers, bounds=(low, high), or low,high in a spec.") from None
    if not low < high:
        raise CaromError(f"bounds={value!r}: the first must be below the second.")
    return low, high


MAX_CLASSES = 100_000
"""Classes that a number or a file may ask for: no list of names is made before this is known."""


def class_names(value: Any) -> tuple[str, ...]:
    """Classes as a user gives them: a list, "first,second", with semicolons where a name holds a comma, their number,
    a well-known list ("imagenet-1k"), or "@names.txt": a file with one name a line, or a JSON list of them.

    >>> class_names("cat,dog"), class_names("tench, Tinca tinca;goldfish"), class_names(3)
    (('cat', 'dog'), ('tench, Tinca tinca', 'goldfish'), ('0', '1', '2'))
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_CLASSES:
            raise CaromError(f"classes={value}: write their number, 1 to {MAX_CLASSES}, or their names.")
        return tuple(map(str, range(value)))
    if isinstance(value, str):
        if value.startswith("@"):
            return _names_in(existing(value[1:], "file of classes"))
        if value in LISTS:
            return listed_classes(value)
        parts = value.rstrip(";").split(";") if ";" in value else value.split(",")
        names = tuple(part.strip() for part in parts)
    elif isinstance(value, Iterable):
        names = tuple(str(name) for name in value)
    else:
        raise CaromError(f"classes={value!r}: write {CLASSES.how}, or {CLASSES.spec} in a spec.")
    if not all(names):
        raise CaromError(f"classes={value!r}: a name is empty. Write classes=cat,dog, or classes=@FILE.")
    return names


def _names_in(path: Path) -> tuple[str, ...]:
    """The names in a file: one a line, or a JSON list or object of number to name."""
    try:
        if path.stat().st_size > 200 * MAX_CLASSES:
            raise CaromError(f"{path}: too large for names of classes. Give a file with one name a line.")
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            found = json_of(text)
            if isinstance(found, dict):
                found = [found[key] for key in sorted(found, key=int)]
            names = [str(one[-1] if isinstance(one, list) else one).strip() for one in found]
        else:
            names = [line.strip() for line in text.rstrip().splitlines()]
    except OSError as error:
        raise CaromError(f"{path}: cannot be read ({error.strerror}). Give a file with one name a line.") from None
    except (ValueError, TypeError, IndexError) as error:
        raise CaromError(f"{path}: not names of classes ({error}). Write one a line, in UTF-8.") from None
    if not names or not all(names):
        at = names.index("") + 1 if names else 1
        raise CaromError(f"{path}, line {at}: no name. Write one a line, in the order of the outputs.")
    return tuple(names)


def stated_classes(facts: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The fact `classes`; None where the user leaves them to the data or the model."""
    return class_names(facts["classes"]) if "classes" in facts else None
