"""Every script of examples/ runs, offline and in a folder of its own, and prints what its docstring promises."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_LINES = 40
RATE = r"-?\d\.\d\d"

PROMISES = {
    "own_image_model.py": [
        r"white-box: AdversarialSet\(image: pgd on mine",
        rf"T {RATE}, noise N {RATE}, excess E {RATE}",
    ],
    "own_audio_model.py": [rf"mine -> mine: E {RATE} \[{RATE}, {RATE}\]", rf"mine -> audio-gru: E {RATE}"],
    "own_text_model.py": [r"^- .+\n\+ .+$", rf"mine -> text-cnn: T {RATE}, random words N {RATE}, n \d+"],
    "new_attack.py": [rf"majority of signs: E {RATE} \[", rf"mi-fgsm: E {RATE} \["],
    "replay_log.py": [r"6 examples, success on 3\)", rf"text-linear: T {RATE}, random words N {RATE}, n 6"],
    "ensemble.py": [rf"svre on both: E {RATE} \[.*\], \d+ gradients", rf"mi-fgsm on image-vgg: E {RATE}"],
    "ci_gate.py": [r"excess=0\.9: exit code 0$", r"excess=0\.3: exit code 4\ngate not met: image-resnet -> image-vgg"],
    "table_modality/run.py": [r"leaf-path on forest", rf"boosted -> logistic: T {RATE}", r"builtin:tumours +table"],
}


def scripts() -> list[str]:
    """What a reader runs: every file but the modules of the example's package."""
    found = (path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*.py"))
    return sorted(str(path) for path in found if "carom_tables" not in path.parts)


def test_there_is_a_promise_for_every_script() -> None:
    assert scripts() == sorted(PROMISES)


@pytest.mark.parametrize("name", sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")))
def test_it_is_short_and_says_what_it_shows(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_it_runs(name: str, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "https_proxy": "http://127.0.0.1:9", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=tmp_path,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for promise in PROMISES[name]:
        assert re.search(promise, done.stdout, re.MULTILINE), done.stdout
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind"
