"""A run from a study to its folder: load, compute what is missing, write cells, manifest and report."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.files import write_atomically, write_table
from carom.common.base.received import read_json, ships, ships_attack, words_of
from carom.common.runs.devices import pick_device
from carom.common.runs.load import plan_of
from carom.common.runs.resolve import resolve
from carom.common.study.config import Study, make_study
from carom.common.study.doubts import Warn, by_warnings
from carom.common.study.evaluate import evaluate
from carom.common.study.outcome import Transfer
from carom.common.study.outputs.ledger import ledger_of
from carom.common.study.outputs.summary import summary_of, write_run_report
from carom.common.study.outputs.tables import table_of
from carom.common.work.executor import Progress
from carom.common.work.processes import helped
from carom.common.work.store import Store

PACKAGES = ("carom", "torch", "torchvision", "torchaudio", "transformers", "numpy", "scikit-learn", "pyarrow")


@dataclass
class Run:
    """A finished run: its folder and the outcome per modality."""

    study: Study
    outcomes: list[Transfer]
    seconds: float
    folder: Path | None = None

    @property
    def failures(self) -> list[Any]:
        return [f for outcome in self.outcomes for f in outcome.failures]

    def summary(self) -> dict[str, Any]:
        """The one object that `--json` prints; the run's folder and the tables on stdout are made of it too."""
        return self._summary

    @cached_property
    def _summary(self) -> dict[str, Any]:
        report = None if self.folder is None else str(self.folder / "report.html")
        return summary_of(self.outcomes, self.seconds, self.study.seeds, report)

    def save(self, command: Sequence[str] = ()) -> None:
        """Write the run's folder: study, manifest, cells as Parquet and JSON, which units of the store they are of,
        report."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        summary = self.summary()
        study = self.study.model_dump(mode="json")
        manifest = {
            **circumstances(self.study, command),
            "study_sha256": hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest(),
            "models": {m.name: m.digest for o in self.outcomes for m in o.plan.models},
            "data": {o.plan.data.name: o.plan.data.digest for o in self.outcomes},
        }
        ledger = {outcome.plan.modality: ledger_of(outcome) for outcome in self.outcomes}
        for name, value in (("study", study), ("manifest", manifest), ("result", summary), ("units", ledger)):
            write_atomically(self.folder / f"{name}.json", json.dumps(value, indent=2, allow_nan=False).encode())
        parts = [
            (name, [c for of in (part, part["matched"], part["curve"]) if of is not None for c in of["cells"]])
            for name, part in summary["modalities"].items()
        ]
        if cells := [{"modality": name, **row} for name, rows in parts for row in rows]:
            write_table(self.folder / "cells.parquet", table_of(cells))
        write_run_report(self.outcomes, self.folder / "report.html", {**summary, "manifest": manifest}, self.study)


def circumstances(study: Study, command: Sequence[str]) -> dict[str, Any]:
    """What a manifest says of the command, the machine and the versions."""
    return {
        "command": list(command),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {name: version_of(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(pick_device(study.device)),
    }


def version_of(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def execute(
    study: Study,
    progress: Progress | None = None,
    folder: Path | None = None,
    command: Sequence[str] = (),
    store: Store | None = None,
    warn: Warn = by_warnings,
) -> Run:
    """Run a study. What its store already holds is not computed again. `store` in place of the one that it names; `warn`
    as in `evaluate`."""
    started = time.perf_counter()
    study = resolve(study)
    plans = [plan_of(study, name) for name in study.modalities]
    store = store or Store(study.store)
    with helped(study.model_dump_json(), study.workers):
        outcomes = [
            evaluate(plan, store, study.batch, progress=_prefixed(progress, plan.modality), warn=warn) for plan in plans
        ]
    run = Run(study, outcomes, time.perf_counter() - started, folder)
    if folder is not None:
        run.save(command)
    return run


def _prefixed(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"{name}: {what}")


def load_run(folder: Path) -> tuple[Study, dict[str, Any]]:
    """(resolved study, manifest) of a finished run, as its folder says."""
    try:
        study, manifest = (read_json(folder / f"{name}.json") for name in ("study", "manifest"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("finished"), str):
            raise ValueError("its manifest.json does not say when it was finished")
    except (OSError, ValueError) as error:
        raise CaromError(f"{folder}: not the folder of a finished run ({error}). See `carom list runs`.") from None
    return make_study(study, str(folder / "study.json")), manifest


def names_besides(study: Study) -> list[str]:
    """What a study names that does not ship with Carom: code, files, data to fetch. To compute it again follows them."""
    found = []
    for part in study.modalities.values():
        named = [*part.sources, *part.targets, *(one for one in (part.data, part.log) if one is not None)]
        found += [one.spec for one in named if not ships(one.spec) or list(words_of(one.facts.values()))]
        found += [attack for attack in part.attacks if not ships_attack(attack)]
        found += [aim for aim in [part.target_class] if isinstance(aim, str) and aim.startswith("@")]
    return list(dict.fromkeys(found))


def command_line() -> list[str]:
    return ["carom", *sys.argv[1:]]
