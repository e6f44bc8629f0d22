"""Old names work for two minor versions, and say what to use instead."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

import carom
from carom.common.base.moved import Moved, deprecated, moved

ROOT = Path(__file__).parents[3]


def old_module() -> types.ModuleType:
    module = types.ModuleType("old")
    names = {"Rng": Moved("carom.common.base.rng:Rng", since="0.2", until="0.4")}
    module.__getattr__ = moved("old", names)  # type: ignore[method-assign]
    return module


def test_a_moved_name_is_the_object_itself_and_warns() -> None:
    with pytest.warns(
        FutureWarning, match=r"old\.Rng is carom\.common\.base\.rng\.Rng since 0\.2.*goes in 0\.4"
    ) as seen:
        assert old_module().Rng is carom.Rng
    assert seen[0].filename == __file__, "the warning points at the line that uses the name"


def test_other_names_are_missing_as_ever() -> None:
    with pytest.raises(AttributeError, match="module 'old' has no attribute 'Plan'"):
        _ = old_module().Plan


def test_a_deprecated_function_works_and_names_its_successor() -> None:
    @deprecated(since="0.2", until="0.4", instead="carom.transfer")
    def compare(x: int) -> int:
        """Doubles."""
        return 2 * x

    with pytest.warns(
        FutureWarning, match=r"compare is deprecated since 0\.2 and goes in 0\.4: use carom\.transfer"
    ) as seen:
        assert compare(2) == 4
    assert seen[0].filename == __file__
    assert compare.__doc__ == "Doubles."


@pytest.mark.parametrize(("since", "until"), [("0.2", "0.3"), ("0.2", "0.2"), ("1.4", "0.9"), ("1.4.1", "1.5.0")])
def test_two_minor_versions_are_the_least(since: str, until: str) -> None:
    with pytest.raises(ValueError, match="2 minor versions"):
        Moved("carom:Rng", since, until)
    with pytest.raises(ValueError, match="2 minor versions"):
        deprecated(since, until, "carom.Rng")


def test_a_major_version_ends_all() -> None:
    assert Moved("carom:Rng", since="1.8", until="2.0")


def due(text: str, version: str) -> list[str]:
    """The versions that names of a source file say they go in, and that have come."""
    now = tuple(map(int, version.split(".")[:2]))
    named = re.findall(r"(?:Moved|deprecated)\([^)]*until=\"([\d.]+)\"", text)
    return [until for until in named if tuple(map(int, until.split(".")[:2])) <= now]


def test_no_name_is_kept_longer_than_it_says() -> None:
    for folder in ("common", "text", "vision", "audio", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "moved.py":
                assert not due(path.read_text(encoding="utf-8"), carom.__version__), path


def test_names_that_are_due_are_found() -> None:
    text = '{"Plan": Moved("a.b:Plan", since="0.2", until="0.4")}'
    assert due(text, "0.3.9") == []
    assert due(text, "0.4.0") == ["0.4"]
