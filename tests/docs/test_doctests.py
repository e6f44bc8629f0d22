"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import carom

ROOT = Path(__file__).parents[2]
FOLDERS = ("common", "text", "vision", "audio", "benchmarks")
PUBLIC = (
    "load_model",
    "load_data",
    "ensemble",
    "defend",
    "get_attack",
    "list_attacks",
    "list_defences",
    "export_module",
    "attack",
    "transfer",
    "replay",
)


def modules() -> list[str]:
    """Every module with an example in it; the facade is `carom` itself."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    found = [path for path in found if ">>> " in path.read_text(encoding="utf-8") and "scripts" not in path.parts]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]
    names = [name.removesuffix(".__init__") for name in names]
    return sorted("carom" if name == "common._root" else f"carom.{name}" for name in names)


def test_modules_with_examples_are_found() -> None:
    assert {"carom", "carom.common.api", "carom.common.base.specs"} <= set(modules())


@pytest.mark.parametrize("name", modules())
def test_examples_hold(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize("name", [*PUBLIC, "AdversarialSet"])
def test_public_functions_show_an_example(name: str) -> None:
    assert ">>> " in (getattr(carom, name).__doc__ or "")


def functions() -> list[str]:
    return [name for name in carom.__all__ if inspect.isfunction(getattr(carom, name))]


def test_there_are_public_functions() -> None:
    assert set(PUBLIC) <= set(functions())


@pytest.mark.parametrize("name", functions())
def test_public_functions_tell_every_parameter(name: str) -> None:
    """The site's reference is made from these lists."""
    told = inspect.getdoc(getattr(carom, name)) or ""
    listed = told.partition("\nArgs:\n")[2].partition("\n\n")[0]
    named = [line.split(":")[0].strip().lstrip("*") for line in listed.splitlines() if line[4:5].strip()]
    assert named == list(inspect.signature(getattr(carom, name)).parameters)
