"""Lists are remembered under a digest of what they follow from: told without torch, and never when something changed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carom.common.base import requirements
from carom.common.base.errors import UnknownName
from carom.common.base.requirements import Requirement, Requires
from carom.common.cli import listing, remembered, rows
from carom.common.cli.remembered import Memory

ROWS = [{"name": "fgsm", "modality": "image", "parameters": {"steps": 1.5, "layer": None}}]
HEAVY = ("torch", "numpy", "transformers", "sklearn", "scipy", "pyarrow", "pydantic")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one file, which is all that is installed; the cache folder is beside it."""
    monkeypatch.setenv("CAROM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "attacks.py").write_text("STEPS = 1\n")
    monkeypatch.setattr(remembered, "entry_points", lambda group: [])
    spec = SimpleNamespace(submodule_search_locations=[str(folder)], has_location=True, origin=None)
    monkeypatch.setattr(remembered, "find_spec", lambda name: spec)
    return folder


def kept(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache" / "lists").iterdir()
    return path


def test_the_second_call_imports_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAROM_CACHE", str(tmp_path))
    program = (
        "import sys; from carom.common.cli.main import cli; cli.main(sys.argv[1:], standalone_mode=False); "
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )

    def told(what: str, *flags: str) -> tuple[Any, str]:
        command = [sys.executable, "-c", program, "list", what, "--json", *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout), done.stderr.strip()

    first, imported = told("attacks")
    assert "torch" in imported
    assert {row["modality"] for row in first} >= {"image", "audio", "text"}
    assert told("attacks") == (first, "[]")
    assert told("attacks", "-m", "audio") == ([row for row in first if row["modality"] == "audio"], "[]")
    for what in ("transforms", "models", "data", "metrics"):
        here = json.loads(json.dumps(getattr(listing, what)()))  # in this process, which has torch already
        assert told(what) == (here, "[]")


def test_rows_are_kept_until_a_source_changes(package: Path) -> None:
    assert Memory().read("attacks") is None
    Memory().keep("attacks", ROWS)
    assert Memory().read("attacks") == ROWS
    assert Memory().read("transforms") is None
    (package / "attacks.py").write_text("STEPS = 2\n")  # as long as before
    assert Memory().read("attacks") is None
    Memory().keep("attacks", ROWS)
    (package / "more.py").write_text("")
    assert Memory().read("attacks") is None


def test_where_the_sources_lie_does_not_matter(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Memory().keep("attacks", ROWS)
    moved = package.rename(package.with_name("elsewhere"))
    spec = SimpleNamespace(submodule_search_locations=[str(moved)], has_location=True, origin=None)
    monkeypatch.setattr(remembered, "find_spec", lambda name: spec)
    assert Memory().read("attacks") == ROWS


def test_another_version_of_a_package_that_adds_attacks_is_another_list(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Point(EntryPoint):
        version = "1.0"

        @property
        def dist(self) -> Any:
            return SimpleNamespace(name="more-attacks", version=self.version)

    point = Point("image.more", "more_attacks:MORE", "carom.attacks")
    monkeypatch.setattr(remembered, "entry_points", lambda group: [point] if group == "carom.attacks" else [])
    Memory().keep("attacks", ROWS)
    assert Memory().read("attacks") == ROWS
    monkeypatch.setattr(Point, "version", "1.1")
    assert Memory().read("attacks") is None


@pytest.mark.parametrize("place", [0, 70, -3])
def test_a_damaged_file_is_not_believed(package: Path, tmp_path: Path, place: int) -> None:
    Memory().keep("attacks", ROWS)
    path = kept(tmp_path)
    held = bytearray(path.read_bytes())
    held[place] ^= 1
    path.write_bytes(bytes(held))
    assert Memory().read("attacks") is None
    path.write_bytes(path.read_bytes()[:50])
    assert Memory().read("attacks") is None
    Memory().keep("attacks", ROWS)
    assert Memory().read("attacks") == ROWS


def test_a_file_of_another_list_is_not_believed(package: Path, tmp_path: Path) -> None:
    Memory().keep("attacks", ROWS)
    path = kept(tmp_path)
    path.rename(path.with_name("transforms.json"))
    assert Memory().read("transforms") is None


def test_without_a_folder_to_keep_them_in_rows_are_computed(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "attacks", lambda modality: ROWS)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CAROM_CACHE", str(tmp_path / "file" / "cache"))
    assert listing.attacks() == ROWS
    monkeypatch.delenv("CAROM_CACHE")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert listing.attacks() == ROWS


def test_cards_that_the_digest_does_not_cover_are_read_anew(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(folder: Path) -> list[dict[str, Any]]:
        return [{"name": "zoo:net", "modality": "image", "card": str(folder / "net.json")}]

    monkeypatch.setattr(rows, "models", lambda modality: found(tmp_path))
    assert listing.models() == [{"name": "zoo:net", "modality": "image"}]
    assert Memory().read("models") is None
    monkeypatch.setattr(rows, "models", lambda modality: found(package / "weights"))
    listing.models()
    assert Memory().read("models") == found(package / "weights")


def test_what_metrics_lack_is_looked_up_on_every_call(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str | None] = []
    needs = Requirement("program", ("java",), "needs Java")

    def found(modality: str | None) -> list[dict[str, Any]]:
        calls.append(modality)
        metric = Requires((needs,), lambda: "does not start")
        told = [needs.kind, needs.names, needs.how]
        return [{"name": "grammar", "modality": "text", "missing": metric(), "needs": [told], "try_out": True}]

    monkeypatch.setattr(rows, "metrics", found)
    monkeypatch.setattr(requirements.shutil, "which", lambda name: None)
    lacking = [{"name": "grammar", "modality": "text", "missing": "needs Java"}]
    assert listing.metrics() == lacking == listing.metrics()
    assert len(calls) == 1
    monkeypatch.setattr(requirements.shutil, "which", lambda name: "/usr/bin/java")
    assert listing.metrics()[0]["missing"] == "does not start"  # which only a try can tell
    assert len(calls) == 2
    monkeypatch.setattr(requirements.shutil, "which", lambda name: None)
    assert listing.metrics() == lacking
    assert len(calls) == 2


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(UnknownName, match="no modality is called 'imgae'"):
        listing.attacks("imgae")
