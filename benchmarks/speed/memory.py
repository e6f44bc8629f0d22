"""Peak memory of a whole transfer study against the number of examples: IMDB documents, each size in its own process.

    python -m carom.benchmarks.speed.memory --json

Rows {examples, peak_bytes, seconds}: the documents are written to a JSONL file, and one process each reads its file,
attacks every document on the word CNN (`fast`, half of the words at most), judges clean, adversarial, control and
swapped texts on it, writes store, cells and report, and says how much memory it had at most (`ru_maxrss`).
`text_bytes` is what the texts themselves take on disk: they are held, once. Everything else that an example needs is
dropped when its shard of 256 is in the store.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from carom.common.base.memory import keep_few_kernels, keep_freed_memory
from carom.text.language import reviews

SIZES = (2_500, 25_000)
SOURCE, ATTACK = "zoo:text-cnn", "fast"


def write_documents(path: Path, count: int) -> int:
    """The first IMDB documents of the package, one JSON object a line; how many bytes that is."""
    rows = reviews.documents("imdb")[:: max(1, 25_000 // count)][:count]  # of both classes: the package sorts by them
    lines = (json.dumps({"text": text, "label": reviews.CLASSES[label]}) + "\n" for text, label in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path.stat().st_size


def measure(data: Path, folder: Path) -> dict[str, Any]:
    """One study in this process."""
    from carom.common.runs.run import execute
    from carom.common.study.config import make_study

    keep_freed_memory()  # as the command line does
    keep_few_kernels()
    part = {
        "data": f"folder:{data}",
        "sources": [SOURCE],
        "attacks": [ATTACK],
        "threat": "words",
        "eps": 0.5,
    }
    values = {"modalities": {"text": part}, "controls": 1, "device": "cpu", "store": str(folder / "store")}
    started = time.perf_counter()
    run = execute(make_study(values), folder=folder / "run")
    cell = run.summary()["modalities"]["text"]["cells"][0]
    return {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts kilobytes
        "seconds": round(time.perf_counter() - started, 1),
        "white_box": cell["white_box"],
    }


@click.command()
@click.option("--size", "sizes", type=click.IntRange(1, 25_000), multiple=True, help="Documents.  [2 500, 25 000]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the JSON to this file.")
@click.option("--measure", "given", type=click.Path(path_type=Path), hidden=True, help="One study of this file.")
def main(sizes: tuple[int, ...], as_json: bool, out: Path | None, given: Path | None) -> None:
    """Measure the peak memory of a study of so many documents."""
    if given is not None:
        click.echo(json.dumps(measure(given, given.parent)))
        return
    rows = []
    for count in sizes or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "imdb.jsonl"
            size = write_documents(data, count)
            command = [sys.executable, "-m", "carom.benchmarks.speed.memory", "--measure", str(data)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows.append({"examples": count, "text_bytes": size, **json.loads(answer)})
        if not as_json:
            row = rows[-1]
            click.echo(f"{count:7} documents: {row['peak_bytes'] / 1e6:7.0f} MB, {row['seconds']:.0f} s")
    found = json.dumps({"source": SOURCE, "attack": ATTACK, "rows": rows}, indent=2)
    if as_json:
        click.echo(found)
    if out is not None:
        out.write_text(found + "\n")


if __name__ == "__main__":
    main()
