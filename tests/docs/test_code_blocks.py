"""Every code block of the README and of the site does what it says, in the order of its page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from pages import LEFT_OUT, Block, blocks, commands, reader

ROOT = Path(__file__).parents[2]
FOLDERS = ("vision", "audio", "text", "common", "benchmarks")
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
RUNNING = [name for name, path in PAGES.items() if any(b.language in ("python", "sh", "diff") for b in blocks(path))]
SLOW = {
    "README.md",
    "docs/guides/defences.md",
    "docs/guides/images.md",
    "docs/guides/text.md",
    "docs/guides/studies.md",
}
IN_A_CHECKOUT = {"docs/guides/add-attack.md", "docs/guides/add-defence.md", "docs/guides/add-model.md"}
EMPTY = {"docs/guides/add-modality.md"}


def run(command: list[str], folder: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"


def checkout(folder: Path) -> Path:
    """A copy of the package's folders that diffs may change; what is large and never changed is linked."""

    def place(source: str, target: str) -> str:
        if Path(source).stat().st_size > 200_000:
            os.symlink(source, target)
            return target
        return shutil.copy2(source, target)

    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, copy_function=place, ignore=shutil.ignore_patterns("__pycache__"))
    tree = folder / ".types" / "carom"
    tree.mkdir(parents=True)
    for name in FOLDERS:
        (tree / name).symlink_to(folder / name)
    for file in ("__init__.py", "__main__.py", "py.typed"):
        (tree / file).symlink_to(folder / "common" / "_root" / file)
    return folder


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in RUNNING])
def test_the_page_runs(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    tree = os.environ.get("PYTHONPATH", "")
    if name in IN_A_CHECKOUT:
        tree = str(checkout(folder) / ".types")
    elif name not in EMPTY:
        reader(folder)
    env = commands(tmp_path, tree)
    python: list[str] = []
    for block in [*blocks(PAGES[name]), Block("sh", None, "")]:
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python" and block.runs:
            python.append(block.text)
        elif block.language in ("sh", "diff") and block.runs:
            if python:  # what stands before a command has to be done before it
                (folder / "page.py").write_text("\n".join(python), encoding="utf-8")
                run([sys.executable, "page.py"], folder, env)
                python = []
            if block.language == "diff":
                (folder / "page.diff").write_text(block.text, encoding="utf-8")
                run(["git", "apply", "--unsafe-paths", "page.diff"], folder, env | {"GIT_DIR": "/nowhere"})
            elif block.text:
                run(["sh", "-e", "-c", block.text], folder, env)


def test_blocks_that_do_not_run_say_why() -> None:
    for name, path in PAGES.items():
        for block in blocks(path):
            assert block.language in ("python", "sh", "diff", "toml", "csv", "text"), f"{name}: {block}"
            if not block.runs:
                assert len(block.text.splitlines()[0]) > len(LEFT_OUT) + 10, f"{name}: {block}"


def test_tables_of_settings_are_toml() -> None:
    for path in PAGES.values():
        for block in blocks(path):
            if block.language == "toml":
                assert tomllib.loads(block.text)


def test_commands_stand_in_fences() -> None:
    for name, path in PAGES.items():
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not line.startswith(("    carom ", "    .venv/bin/", "    pip ", "    make ", "    $")), (
                f"{name}: {line}"
            )


def test_a_modality_changes_no_file_that_was_there() -> None:
    diffs = [b.text for b in blocks(PAGES["docs/guides/add-modality.md"]) if b.language == "diff"]
    assert diffs
    example = ROOT / "examples" / "table_modality"
    for diff in diffs:
        old, new, _, *lines = diff.splitlines()
        path = new.removeprefix("+++ b/")
        assert old == "--- /dev/null"
        if (example / path).exists():
            text = "\n".join(line.removeprefix("+") for line in lines)
            assert text == (example / path).read_text(encoding="utf-8").rstrip("\n"), path
