"""Universal Binary JSON, as XGBoost writes it: read within bounds that its length sets."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
CONSTANTS = {b"T": True, b"F": False, b"Z": None}
DEEPEST = 64


def ubjson_of(data: bytes) -> Any:
    """The value that the bytes hold; typed arrays as numpy's. Raises ValueError for what is none."""
    try:
        value, end = _Reader(data).value(0, 0)
    except (struct.error, IndexError, UnicodeDecodeError, KeyError) as error:
        raise ValueError(f"no Universal Binary JSON ({error})") from None
    if end != len(data):
        raise ValueError("no Universal Binary JSON (something follows it)")
    return value


class _Reader:
    """Each method takes the place to read at and returns what stands there and the place behind it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        return self.of(self.data[at : at + 1], at + 1, depth)

    def of(self, mark: bytes, at: int, depth: int) -> tuple[Any, int]:
        """What stands behind its mark."""
        if depth > DEEPEST:
            raise ValueError("no Universal Binary JSON (nested too deeply)")
        if mark in CONSTANTS:
            return CONSTANTS[mark], at
        if mark in NUMBERS:
            end = at + np.dtype(NUMBERS[mark]).itemsize
            return np.frombuffer(self.within(at, end), NUMBERS[mark])[0].item(), end
        if mark == b"C":
            return self.within(at, at + 1).decode(), at + 1
        if mark == b"S":
            return self.text(at)
        if mark == b"[":
            return self.array(at, depth)
        if mark == b"{":
            return self.mapping(at, depth)
        raise ValueError(f"no Universal Binary JSON (the mark {mark!r})")

    def within(self, at: int, end: int) -> bytes:
        if end > len(self.data):
            raise ValueError("no Universal Binary JSON (it ends too early)")
        return self.data[at:end]

    def count(self, at: int) -> tuple[int, int]:
        found, at = self.value(at, 0)
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= len(self.data):
            raise ValueError("no Universal Binary JSON (a length that it cannot have)")
        return found, at

    def text(self, at: int) -> tuple[str, int]:
        length, at = self.count(at)
        return self.within(at, at + length).decode(), at + length

    def kind(self, at: int) -> tuple[bytes | None, int | None, int]:
        """(mark of all members, how many, the place behind) where a container says so."""
        mark = None
        if self.data[at : at + 1] == b"$":
            mark, at = self.within(at + 1, at + 2), at + 2
        if self.data[at : at + 1] == b"#":
            count, at = self.count(at + 1)
            return mark, count, at
        if mark is not None:
            raise ValueError("no Universal Binary JSON (a kind without a count)")
        return None, None, at

    def array(self, at: int, depth: int) -> tuple[Any, int]:
        mark, count, at = self.kind(at)
        if mark in NUMBERS:
            assert mark is not None
            assert count is not None
            kind = np.dtype(NUMBERS[mark])
            end = at + count * kind.itemsize
            return np.frombuffer(self.within(at, end), kind).astype(kind.newbyteorder("=")), end
        found: list[Any] = []
        while count is None or len(found) < count:
            if count is None and self.data[at : at + 1] == b"]":
                return found, at + 1
            one, at = self.of(mark, at, depth + 1) if mark else self.value(at, depth + 1)
            found.append(one)
        return found, at

    def mapping(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        mark, count, at = self.kind(at)
        found: dict[str, Any] = {}
        seen = 0
        while count is None or seen < count:
            if count is None and self.data[at : at + 1] == b"}":
                return found, at + 1
            key, at = self.text(at)
            found[key], at = self.of(mark, at, depth + 1) if mark else self.value(at, depth + 1)
            seen += 1
        return found, at
