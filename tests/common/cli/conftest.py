"""The command line, called in this process."""

from __future__ import annotations

import signal
import sys

import pytest

from carom.common.cli import main


@pytest.fixture
def carom(monkeypatch, capsys, tmp_path):
    """carom(*arguments) -> (exit code, stdout, stderr), run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["carom", *arguments])
        with pytest.raises(SystemExit) as stop:
            main.main()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    yield run
    signal.signal(signal.SIGTERM, before)
