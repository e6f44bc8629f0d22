"""What stands in a file that was received: names to be shown, and followed only to what ships with Carom.

A card in a file of weights, the metadata of a saved set and the study of a run folder are written by whoever sends them.
A spec in them may name code (py:), a file or a folder of this machine, or something to fetch. None of it is looked at
because a file says so; the user can say so, by naming it in their own command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.specs import DEFENDED, parse, split_defended, split_members, split_parameters

SHIPPED = ("zoo", "builtin")
"""Kinds of spec that name what ships with Carom."""

LARGEST = 64 << 20
"""Bytes of a JSON file that is read."""


def ships(spec: str) -> bool:
    """Whether a spec names nothing but what ships with Carom: zoo:NAME, builtin:NAME, an ensemble of these.

    >>> ships("zoo:image-vgg"), ships("py:subprocess:getoutput"), ships("ensemble:zoo:image-vgg+(py:m:f)")
    (True, False, False)
    """
    try:
        parsed = parse(spec)
        if parsed.kind == DEFENDED:
            split_defended(parsed.rest)
    except CaromError:
        return False
    if parsed.kind == "ensemble":
        return all(not member.startswith("ensemble:") and ships(member) for member in split_members(parsed.rest))
    if parsed.kind == DEFENDED:
        model, defences = split_defended(parsed.rest)
        return not model.startswith(f"{DEFENDED}:") and ships(model) and all(map(ships_defence, defences))
    plain = re.fullmatch(r"[A-Za-z0-9._-]+", parsed.rest) is not None
    return parsed.kind in SHIPPED and plain and not list(words_of(parsed.parameters.values()))


def ships_attack(spec: str) -> bool:
    """Whether an attack is one that is registered, its parameters are numbers, and its transforms registered names.

    A parameter that is a word may name a model or a file: lm=bert-base-uncased.
    """
    try:
        name, parameters = split_parameters(spec)
    except CaromError:
        return False
    parameters.pop("transform", None)
    return re.fullmatch(r"(textattack:)?[A-Za-z0-9._-]+", name) is not None and not list(words_of(parameters.values()))


def ships_defence(spec: str) -> bool:
    """Whether a defence is a registered name, its parameters are numbers, or name data that ship.

    >>> ships_defence("jpeg?quality=50"), ships_defence("spell-check?file=words.txt")
    (True, False)
    """
    try:
        name, parameters = split_parameters(spec)
    except CaromError:
        return False
    plain = re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None
    data = parameters.pop("data", None)
    words = [re.fullmatch(r"[a-z-]+", word) is not None for word in words_of(parameters.values())]
    return plain and all(words) and (data is None or ships(str(data)))


def words_of(values: Iterable[Any]) -> Iterator[str]:
    """The words among values, at any depth."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from words_of(value.values())
        elif isinstance(value, list | tuple):
            yield from words_of(value)


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises OSError where it cannot be read, and ValueError where it is no JSON."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MB")
    return json_of(path.read_bytes())


def json_of(text: bytes | str) -> Any:
    """The value of a JSON text. Raises ValueError for what is none, and for one nested deeper than Python can follow."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
