"""No two parts share a name: a part goes by it alone in the store, wherever its file is."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import carom.audio
import carom.common
import carom.text
import carom.vision
from carom.common.base.identity import describe, name_of

FOLDERS = (carom.common, carom.vision, carom.audio, carom.text)
NOT_IMPORTED = ("scripts", "_root", "workers")  # programs; what they hold is no part of an attack


def definitions() -> Iterator[Any]:
    """Every class and function at the top level of Carom's modules."""
    for folder in FOLDERS:
        for found in pkgutil.walk_packages(folder.__path__, folder.__name__ + "."):
            if not any(name in found.name.split(".") for name in NOT_IMPORTED):
                module = import_module(found.name)
                for thing in vars(module).values():
                    if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ == module.__name__:
                        yield thing


def names_in(described: Any) -> Iterator[str]:
    """The names of parts in what `describe` says of an attack."""
    if isinstance(described, dict):
        yield from [described["is"]] if "is" in described else []
        for value in described.values():
            yield from names_in(value)
    elif isinstance(described, list):
        for value in described:
            yield from names_in(value)


def test_no_two_parts_share_a_name(all_cases):
    called: dict[str, set[str]] = defaultdict(set)
    for thing in definitions():
        if dataclasses.is_dataclass(thing) or inspect.isfunction(thing):
            called[name_of(thing)].add(thing.__module__)
    used = {name for case in all_cases for name in names_in(describe([case.attack(), case.threat()]))}
    classes = {name_of(thing) for thing in definitions() if dataclasses.is_dataclass(thing)}
    shared = {name: sorted(called[name]) for name in (used & set(called)) | classes if len(called[name]) > 1}
    assert not shared


def test_a_revision_is_another_part():
    @dataclasses.dataclass(frozen=True)
    class Mended:
        size: float = 1.0

    before = describe(Mended())
    Mended.revision = 2
    assert describe(Mended()) != before
    assert "@2" in describe(Mended())["is"]


def test_a_file_can_move(monkeypatch):
    from carom.common.attacks.gradient.ascent import Ascent

    before = describe(Ascent())
    monkeypatch.setattr(Ascent, "__module__", "carom.somewhere.else")
    assert describe(Ascent()) == before
    monkeypatch.setattr(Ascent, "__module__", "somebody.elses")
    assert describe(Ascent()) != before
