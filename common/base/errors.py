"""Errors that a user can act on. The command line prints them as one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaromError(Exception):
    """Something the user gave cannot be used. The message says what (naming the file, if any) and what to do."""


class UnknownName(CaromError):
    """A name that nothing is registered under, with the nearest names that exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"no {kind} is called {name!r}. {hint}")


class BadInput(CaromError):
    """One example that cannot be used: an unreadable file, a wrong shape, samples that are not finite."""

    def __init__(self, where: str, what: str, remedy: str) -> None:
        self.where = where
        super().__init__(f"{where}: {what}. {remedy}")
