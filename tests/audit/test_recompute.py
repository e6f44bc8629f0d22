"""Every figure of a run is what an independent computation makes of its files, to the digit."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from carom.common.measure.denominators import DENOMINATORS
from carom.common.runs.run import execute
from carom.common.study.config import make_study

SCRIPT = Path(__file__).with_name("recompute.py")
compare = runpy.run_path(str(SCRIPT))["compare"]

STUDY = {
    "image": {
        "sources": ["zoo:image-resnet", "zoo:image-forest"],
        "targets": ["zoo:image-resnet", "zoo:image-tree"],
        "attacks": ["mi-fgsm?steps=3", "leaf-path"],
        "eps": "28/255",
        "limit": 40,
    },
    "audio": {
        "sources": ["zoo:audio-gru"],
        "targets": ["zoo:audio-gru", "zoo:audio-m5"],
        "attacks": ["mi-fgsm?steps=2"],
        "limit": 24,
    },
    "text": {
        "sources": ["zoo:text-cnn"],
        "targets": ["zoo:text-cnn", "zoo:text-linear"],
        "attacks": ["pwws"],
        "limit": 30,
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder; its store lies in it."""
    folder = tmp_path_factory.mktemp("run")
    how = {"seeds": [0, 1], "device": "cpu", "examples": 0, "denominators": list(DENOMINATORS)}
    study = make_study({"modalities": STUDY, "store": str(folder / "store"), **how})
    execute(study, folder=folder, warn=lambda line: None)
    return folder


def recomputed(run, *more):
    """As a reader would ask: in a process that has no Carom."""
    bare = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run([sys.executable, str(SCRIPT), str(run), *more], capture_output=True, text=True, env=bare)


def test_every_figure_of_three_modalities_is_computed_again_to_the_digit(run):
    done = recomputed(run)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = [c for part in json.loads((run / "result.json").read_text())["modalities"].values() for c in part["cells"]]
    assert len(cells) == 2 * (2 * 2 + 2 + 2)  # the image network with one attack, the forest with the other
    assert int(done.stdout.split()[-6]) > 30 * len(cells)
    for column in ("transfer", "control", "excess", "relative"):  # none of it is compared as nothing with nothing
        assert sum(c[column] is not None and c[f"{column}_high"] is not None for c in cells) > len(cells) / 2


def test_figures_that_are_off_are_named(run, tmp_path):
    """By as little as 1e-9, of one cell."""
    columns = ["transfer", "control_low", "excess_high", "relative_low", "swapped", "blind", "n"]
    for name in ("units", "study", "result"):
        content = json.loads((run / f"{name}.json").read_text())
        if name == "units":
            content = {"image": content["image"]}
        if name == "result":
            row = next(c for c in content["modalities"]["image"]["cells"] if c["relative"] not in (None, 1.0))
            row |= {column: row[column] + (1 if column == "n" else 1e-9) for column in columns}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    _, wrong = compare(tmp_path)
    assert [line.split(": ")[1].split()[0] for line in wrong] == [
        *("n", "transfer", "control_low", "excess_high", "relative_low", "swapped", "blind")
    ]


def test_an_edited_file_of_the_store_is_not_believed(run, tmp_path):
    ledger = json.loads((run / "units.json").read_text())
    key = ledger["image"]["cells"]["crafts"][0]["craft"][0]
    copy = tmp_path / "store"
    for path in (run / "store").glob("*/*"):
        where = copy / path.parent.name / path.name
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(path.read_bytes() + (b" " if path.name == f"{key}.parquet" else b""))
    with pytest.raises(SystemExit, match=f"{key}.parquet is not what was stored"):
        compare(run, copy)


def test_it_imports_nothing_of_carom():
    assert "carom" not in {line.split()[1].split(".")[0] for line in imports(SCRIPT.read_text())}


def imports(source):
    return [line.strip() for line in source.splitlines() if line.strip().startswith(("import ", "from "))]
