"""Names that have moved or will go: they work for two minor versions more, and say what to use instead.

A name that moved to another module stays importable from where it was, by a module-level `__getattr__`:

    __getattr__ = moved(__name__, {"Plan": Moved("carom.common.study.plan:Plan", since="0.2", until="0.4")})

A function or class that goes for good says so itself:

    @deprecated(since="0.2", until="0.4", instead="carom.transfer")
    def compare(...): ...
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

MINOR_VERSIONS = 2
"""How many minor versions a name works for after its successor is there."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Moved:
    """Where a name is now (module:name), since which version, and in which version the old one goes."""

    to: str
    since: str
    until: str

    def __post_init__(self) -> None:
        _two_minor_versions(self.since, self.until)


def moved(module: str, names: Mapping[str, Moved]) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose `names` are elsewhere now. Each use warns (FutureWarning) and answers the object.

    Raises AttributeError for any other name, as a module does.
    """

    def getattr_of_module(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = names[name]
        where, _, attribute = found.to.partition(":")
        warnings.warn(
            f"{module}.{name} is {where}.{attribute} since {found.since}: import it from there. The old name goes in "
            f"{found.until}.",
            FutureWarning,
            stacklevel=2,
        )
        return getattr(import_module(where), attribute)

    return getattr_of_module


def deprecated(since: str, until: str, instead: str) -> Callable[[F], F]:
    """A function that goes in version `until`. Each call warns (FutureWarning) and names what to use `instead`."""
    _two_minor_versions(since, until)

    def wrap(function: F) -> F:
        @functools.wraps(function)
        def warned(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(
                f"{function.__qualname__} is deprecated since {since} and goes in {until}: use {instead}.",
                FutureWarning,
                stacklevel=2,
            )
            return function(*args, **kwargs)

        return warned  # type: ignore[return-value]

    return wrap


def _two_minor_versions(since: str, until: str) -> None:
    """Refuse a name that would go too soon. A new major version ends all."""
    (major, minor), (last_major, last_minor) = (map(int, version.split(".")[:2]) for version in (since, until))
    if (last_major == major and last_minor - minor < MINOR_VERSIONS) or last_major < major:
        raise ValueError(f"since {since}, until {until}: an old name works for {MINOR_VERSIONS} minor versions more.")
