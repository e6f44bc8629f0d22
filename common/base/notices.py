"""What is said beside results: one line each, in plain words."""

from __future__ import annotations

import warnings
from typing import Any


class Notice(UserWarning):
    """Something that a user should know and need not act on: the results are right all the same."""


def notice(text: str) -> None:
    """Say it once. From Python it is a warning of the class `Notice`; the command line prints it as one line."""
    warnings.warn(text, Notice, stacklevel=3)


def print_notices(say: Any) -> None:
    """From now on `say` is given the text of each notice. Warnings of other libraries go their usual way."""
    before = getattr(warnings.showwarning, "before", warnings.showwarning)

    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, Notice):
            say(f"carom: note: {message}")
        else:
            before(message, category, *rest, **more)

    show.before = before  # type: ignore[attr-defined]
    warnings.showwarning = show
    warnings.filterwarnings("always", category=Notice)
