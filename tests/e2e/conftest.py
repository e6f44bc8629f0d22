"""The command line as a function: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from carom.common.cli.main import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout: anything else beside it fails here."""
        return json.loads(self.out)


Carom = Callable[..., Answer]


@pytest.fixture
def carom(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Carom:
    """Runs the command line in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*args: str | Path) -> Answer:
        before = signal.getsignal(signal.SIGTERM)
        monkeypatch.setattr(sys, "argv", ["carom", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        signal.signal(signal.SIGTERM, before)
        shown = capsys.readouterr()
        return Answer(int(stop.value.code or 0), shown.out, shown.err)

    return run


Stable = Callable[[dict[str, Any]], list[dict[str, Any]]]
Artefacts = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def stable() -> Stable:
    """All cells of a summary without what a clock put into them."""

    def cells(summary: dict[str, Any]) -> list[dict[str, Any]]:
        parts = summary["modalities"].values()
        return [{k: v for k, v in cell.items() if k != "seconds"} for part in parts for cell in part["cells"]]

    return cells


@pytest.fixture
def artefacts() -> Artefacts:
    """The adversarial inputs and rows in a store, by name."""
    return lambda store: {p.name: p.read_bytes() for p in store.glob("*/*") if p.suffix in (".safetensors", ".parquet")}
