"""Markdown pages that run: their fenced blocks, and a reader's folder to run them in."""

from __future__ import annotations

import csv
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEFT_OUT = "# not run in the tests:"


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file it stands for, and its text."""

    language: str
    title: str | None
    text: str

    @property
    def runs(self) -> bool:
        return not self.text.startswith(LEFT_OUT)


def blocks(page: Path) -> Iterator[Block]:
    for language, options, text in FENCE.findall(page.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', options)
        yield Block(language, title and title[1], text)


def reader(folder: Path) -> Path:
    """A folder as the pages take it for granted: photos/cat and photos/dog, words/yes and words/no, reviews.csv."""
    rng = np.random.default_rng(0)
    for i in range(6):
        for label, colour in (("cat", 60), ("dog", 190)):
            place = folder / "photos" / label
            place.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(colour - 40, colour + 40, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
        for label, pitch in (("no", 300), ("yes", 900)):
            place = folder / "words" / label
            place.mkdir(parents=True, exist_ok=True)
            time = np.arange(4000) / 16000
            wave = 0.4 * np.sin(2 * np.pi * pitch * time) + 0.01 * rng.normal(size=4000)
            soundfile.write(place / f"{i}.wav", wave, 16000, subtype="PCM_16")
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [("text", "label")]
        for i in range(5):
            rows += [
                (f"a good and fine film number {i}", "positive"),
                (f"a bad and dull story of part {i}", "negative"),
            ]
        csv.writer(file).writerows(rows)
    return folder


def commands(folder: Path, tree: str) -> dict[str, str]:
    """An environment in which `carom`, `pip` and `$EDITOR` do what a reader's would, without a network.

    `tree` is where carom is imported from. Runs that name no limit take six examples. `pip install -e .` installs the
    package of the working folder beside the page, and the editor deletes the tables [audio] and [text].
    """
    place, packages = folder / "bin", folder / "packages"
    place.mkdir()
    python = sys.executable
    scripts = {
        "carom": f"""#!/bin/sh
case "$1 $*" in
  "run "*--limit*|"run "*.toml*) exec {python} -m carom "$@" ;;
  "run "*) exec {python} -m carom "$@" --limit 6 ;;
  *) exec {python} -m carom "$@" ;;
esac
""",
        "pip": f"""#!/bin/sh
[ "$*" = "install -e ." ] || {{ echo "pip $*: not what a page should ask for" >&2; exit 9; }}
exec {python} -m pip install --quiet --no-index --no-deps --no-build-isolation --target {packages} .
""",
        "editor": f"""#!{python}
import re, sys
path = sys.argv[1]
text = open(path, encoding="utf-8").read()
open(path, "w", encoding="utf-8").write(re.sub(r"(?ms)^\\[(audio|text)\\]$.*?(?=^\\[|\\Z)", "", text))
""",
    }
    for name, text in scripts.items():
        (place / name).write_text(text, encoding="utf-8")
        (place / name).chmod(stat.S_IRWXU)
    return os.environ | {
        "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([tree, str(packages)]),
        "EDITOR": str(place / "editor"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "https_proxy": "http://127.0.0.1:9",
        "COLUMNS": "160",
    }
