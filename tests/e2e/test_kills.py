"""A run that is killed at any moment, again and again, ends with the results of one that was left alone.

python -m pytest -m slow tests/e2e/test_kills.py
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from carom.common.runs.run import execute
from carom.common.study.config import make_study
from carom.common.work.store import ABANDONED

KILLS = 60
IN_A_ROW = 10  # on one store, before it may finish


def study(store: Path) -> Any:
    part = {"sources": ["zoo:image-tree", "zoo:image-mlp"], "targets": ["zoo:image-tree", "zoo:image-mlp"]}
    part |= {"attacks": ["leaf-path", "fgsm", "pgd?steps=5"], "limit": 24}
    return make_study({"modalities": {"image": part}, "controls": 2, "batch": 8, "store": str(store), "device": "cpu"})


def begun(folder: Path) -> int:
    """A process of its own that runs the study; everything it needs is imported already."""
    child = os.fork()
    if not child:
        try:
            execute(study(folder / "store"), folder=folder / "run")
            os._exit(0)
        finally:
            os._exit(1)
    return child


def finished(folder: Path) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(begun(folder), 0)[1]) == 0


def left(folder: Path) -> dict[str, bytes]:
    """The files of a store, but for what a clock put into them."""
    files = [path for path in (folder / "store").rglob("*") if path.is_file()]
    return {path.name: b"" if path.suffix == ".json" else path.read_bytes() for path in files}


def cells(folder: Path) -> Any:
    return pq.read_table(folder / "run" / "cells.parquet").drop_columns(["seconds"])


@pytest.mark.slow
def test_sixty_kills_change_nothing(tmp_path: Path) -> None:
    right, rng, kills, round_ = tmp_path / "right", random.Random(0), 0, 0
    began = time.monotonic()
    finished(right)
    whole = time.monotonic() - began
    while kills < KILLS:
        folder, round_, in_a_row = tmp_path / str(round_), round_ + 1, 0
        while in_a_row < IN_A_ROW:
            child = begun(folder)
            time.sleep(rng.uniform(0, 1.1 * whole / (1 + in_a_row)))
            os.kill(child, signal.SIGKILL)
            if os.WIFEXITED(os.waitpid(child, 0)[1]):  # it was faster
                break
            in_a_row += 1
        kills += in_a_row
        old = time.time() - ABANDONED - 60
        for path in folder.rglob("*.*"):
            os.utime(path, (old, old))
        finished(folder)
        assert cells(folder).equals(cells(right))
        assert left(folder) == left(right)
    print(f"{kills} kills on {round_} stores: the cells and files of an undisturbed run")
