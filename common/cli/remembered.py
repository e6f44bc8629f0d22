"""Rows that are remembered from one call to the next, so that a list needs no torch.

What is registered follows from sources: Carom's, and those of the packages that add modalities and attacks. Rows are
kept in the cache folder under a digest of all of these. Where it differs, or a file is damaged or cannot be had, the
rows are computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from carom.common.base.environment import cache_folder
from carom.common.base.files import write_atomically

GROUPS = ("carom.modalities", "carom.attacks", "carom.defences")
KINDS = (".py", ".json")
"""Sources, and the cards of models beside them."""

OWN = __name__.partition(".")[0]
Rows = list[dict[str, Any]]


class Memory:
    """The rows remembered for what is installed now."""

    def __init__(self) -> None:
        self.points = sorted(point for group in GROUPS for point in entry_points(group=group))

    @cached_property
    def places(self) -> Mapping[str, tuple[Path, ...]] | None:
        """Module -> the folders or the file that it is made of, for all that lists follow from; None if one of them has
        no files."""
        found = {}
        for module in {f"{OWN}.common", *(point.module for point in self.points)}:
            head = module.split(".")
            # Carom's own folders may lie apart; of others the whole package counts.
            name = ".".join(head[:2] if head[0] == OWN else head[:1])
            spec = find_spec(name)
            if spec is None or not (spec.submodule_search_locations or spec.has_location):
                return None
            found[name] = tuple(map(Path, spec.submodule_search_locations or [str(spec.origin)]))
        return found

    @cached_property
    def digest(self) -> bytes | None:
        """Of what the lists follow from; None where that cannot be told."""
        if self.places is None:
            return None
        told = hashlib.blake2b(digest_size=32)
        try:
            for point in self.points:
                told.update(repr(_identity(point)).encode())
            for name, places in sorted(self.places.items()):
                for inner, path in _files(places):
                    held = path.read_bytes()
                    told.update(f"{name} {inner} {len(held)}\n".encode())
                    told.update(held)
        except OSError:
            return None
        return told.digest()

    def covers(self, paths: Iterable[str]) -> bool:
        """Whether the digest changes with these files, or when they come to be."""
        places = [place for several in (self.places or {}).values() for place in several]
        return all(path.suffix in KINDS and any(place in path.parents for place in places) for path in map(Path, paths))

    def read(self, name: str) -> Rows | None:
        """The rows kept under a name; None where there are none that can be believed."""
        if self.digest is None:
            return None
        try:
            seal, _, body = _path(name).read_bytes().partition(b"\n")
            return json.loads(body) if seal == _seal(self.digest, name, body) else None
        except (OSError, ValueError, RuntimeError):  # the last of a user without a home
            return None

    def keep(self, name: str, rows: Rows) -> None:
        """Keep rows under a name, if they can be written."""
        if self.digest is None:
            return
        # What is no JSON is not remembered, and a folder may be read-only or have no place at all.
        with contextlib.suppress(OSError, TypeError, ValueError, RuntimeError):
            body = json.dumps(rows).encode()
            write_atomically(_path(name), _seal(self.digest, name, body) + b"\n" + body)


def _identity(point: EntryPoint) -> tuple[str, ...]:
    dist = point.dist
    return (point.group, point.name, point.value, *(() if dist is None else (dist.name, dist.version)))


def _files(places: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """(path within its place, path) of every file that counts, in one order."""
    for place in places:
        if place.is_file():
            yield place.name, place
        for folder, inner, names in os.walk(place):
            inner[:] = sorted(name for name in inner if name != "__pycache__")
            for name in sorted(names):
                if name.endswith(KINDS):
                    path = Path(folder, name)
                    yield path.relative_to(place).as_posix(), path


def _path(name: str) -> Path:
    return cache_folder() / "lists" / f"{quote(name, safe='')}.json"


def _seal(digest: bytes, name: str, body: bytes) -> bytes:
    """What a file begins with if it is whole and of these sources."""
    return hashlib.blake2b(digest + name.encode() + b"\n" + body, digest_size=32).hexdigest().encode()
