"""A judgement's folder: its result as JSON and the page that a person looks at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from carom.common.base.files import write_atomically
from carom.common.report.judgement import write_judgement
from carom.common.robustness.examples import examples_of
from carom.common.robustness.judgement import Judgement
from carom.common.runs.run import circumstances, command_line
from carom.common.study.config import Study


def summary_of(found: Mapping[str, Judgement], study: Study, report: Path | None = None) -> dict[str, Any]:
    """What `carom defend --json` prints."""
    return {
        "version": version("carom"),
        "modalities": {name: judgement.summary() for name, judgement in found.items()},
        "report": None if report is None else str(report),
        "seconds": round(sum(judgement.seconds for judgement in found.values()), 1),
        "seed": study.seeds[0],
    }


def save(found: Mapping[str, Judgement], study: Study, folder: Path) -> dict[str, Any]:
    """Write result.json and report.html, and hand over the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    summary = summary_of(found, study, path)
    manifest = {
        **circumstances(study, command_line()),
        "study": study.model_dump(mode="json"),
        "digests": {e.robust.model.name: e.robust.model.digest for j in found.values() for e in j.entries},
    }
    told = {**summary, "manifest": manifest}
    write_atomically(folder / "result.json", json.dumps(told, indent=2, allow_nan=False).encode())
    examples = [example for judgement in found.values() for example in examples_of(judgement)]
    write_judgement(path, told, examples)
    return summary
