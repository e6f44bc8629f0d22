"""A run from a study to its folder: load, compute what is missing, write cells, manifest and report."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from carom.common.budgets import threat_from
from carom.common.curves import parse_curve
from carom.common.data import Dataset
from carom.common.errors import CaromError
from carom.common.executor import Progress
from carom.common.loading import OWN_CODE
from carom.common.matching import Matching, scale_of
from carom.common.modality import Modality, get_modality, load_data_of, load_model_of
from carom.common.models import Model
from carom.common.others import others_for
from carom.common.plan import Plan
from carom.common.recorded import AdversarialSet, known_source, reader_of, replay_plan
from carom.common.registry import choose_attack
from carom.common.specs import number, parse, split_parameters
from carom.common.store import Store, write_atomically, write_table
from carom.common.study import ModalityStudy, Named, Study, make_study
from carom.common.transfer import Transfer, evaluate, table_of
from carom.common.workers import helped

PACKAGES = ("carom", "torch", "torchvision", "torchaudio", "transformers", "numpy", "scikit-learn", "pyarrow")


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU when there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CaromError(f"--device {name}: write auto, cpu, cuda or cuda:1.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CaromError(f"--device {name}: torch sees no CUDA device here. Use --device cpu, or see `carom doctor`.")
    return device


def resolve(study: Study) -> Study:
    """The study with every default written out: what is saved, and what runs again in the same way."""
    parts: dict[str, ModalityStudy] = {}
    for name, part in study.modalities.items():
        defaults = get_modality(name).defaults
        if part.log is not None:
            targets = part.targets or [Named(spec=s) for s in defaults.targets]
            parts[name] = part.model_copy(update={"targets": targets})
            continue
        sources = part.sources or [Named(spec=s) for s in _default_sources(name, part)]
        targets = part.targets or ([] if part.sources else [Named(spec=s) for s in defaults.targets])
        threat = part.threat or defaults.threat
        if part.eps is None and threat != defaults.threat:
            raise CaromError(f"threat {threat} needs a budget: pass --eps (the default is for {defaults.threat}).")
        parts[name] = part.model_copy(
            update={
                "data": part.data or Named(spec=defaults.data),
                "sources": sources,
                "targets": targets or sources,
                "attacks": [with_transform(spec, part.transform) for spec in part.attacks or defaults.attacks],
                "transform": None,
                "threat": threat,
                "eps": part.eps if part.eps is not None else defaults.eps,
                "limit": part.limit if part.limit is not None or part.data else defaults.limit,
            }
        )
    return study.model_copy(update={"modalities": parts})


def _default_sources(name: str, part: ModalityStudy) -> Sequence[str]:
    """The modality's own sources, without those that no attack of the study can run on; all, where that leaves none."""
    modality = get_modality(name)
    if not part.attacks:
        return modality.defaults.sources
    chosen = [choose_attack(modality, with_transform(spec, part.transform)) for spec in part.attacks]
    loaded = {spec: load_model_of(modality, spec, {}) for spec in modality.defaults.sources}
    fit = [spec for spec, model in loaded.items() if any(attack.runs_on(model) for attack in chosen)]
    return fit or modality.defaults.sources


def with_transform(spec: str, transform: str | None) -> str:
    """The spec of an attack, with the study's transform unless it names its own."""
    if transform is None or "transform" in split_parameters(spec)[1]:
        return spec
    return f"{spec}{'&' if '?' in spec else '?'}transform={transform}"


def plan_of(study: Study, name: str) -> Plan:
    """Load what one modality of a resolved study names."""
    modality, part = get_modality(name), study.modalities[name]
    if part.log is not None:
        return _plan_of_log(study, modality, part)
    assert part.data is not None
    assert part.threat is not None
    assert part.eps is not None
    threat = threat_from(modality, part.threat, part.eps)
    chosen = tuple(choose_attack(modality, spec, part.threat) for spec in dict.fromkeys(part.attacks))
    matching = None
    if study.match:
        scale = scale_of(modality, part.threat)
        matching = Matching(tuple(study.match), scale, study.match_limit, study.match_controls)
    curve = parse_curve(study.curve, study.curve_limit) if study.curve is not None else None
    facts = {"on_error": part.on_error, **part.data.facts}
    spec = part.data.spec

    def load(split: str, limit: int | None) -> Dataset:
        return load_data_of(modality, spec, split, limit, facts)

    data = load(part.split, part.limit)
    others = others_for(data, load, part.split) if any(c.needs_others for c in chosen) else None
    models = _Models(modality, pick_device(study.device))
    return Plan(
        modality=name,
        sources=models.load(part.sources, data.classes),
        targets=models.load(part.targets, data.classes),
        attacks=chosen,
        data=data,
        threat=threat,
        threat_label=f"{part.threat} {part.eps}",
        seeds=tuple(study.seeds),
        controls=study.controls,
        targeted=part.targeted,
        eps=number(part.eps),
        matching=matching,
        curve=curve,
        metrics=tuple(modality.metrics),
        others=others,
    )


def _plan_of_log(study: Study, modality: Modality, part: ModalityStudy) -> Plan:
    """The plan that measures what was crafted before."""
    assert part.log is not None
    models, path = _Models(modality, pick_device(study.device)), Path(part.log.spec)
    data = None
    if part.data is not None:
        data = load_data_of(modality, part.data.spec, part.split, None, {"on_error": part.on_error, **part.data.facts})
    facts: dict[str, Any] = dict(part.log.facts)
    if reader_of(path, modality.name) is not None:
        # The classes that labels are counted in: as stated, or as the data or the models have them.
        told = [named for named in [*part.targets, *part.sources] if _tells(named)]
        if "classes" not in facts and data is None and told:
            facts["classes"] = models.load(told[:1], ())[0].classes
        facts |= {"data": data, "on_error": part.on_error}
    found = AdversarialSet.load(path, modality.name, **facts)
    if data is None and found.clean is None:
        split = part.split
        data = load_data_of(modality, modality.defaults.data, split, None, {"on_error": part.on_error})
    clean = found.clean_in(data)
    known = known_source(found)
    sources = part.sources or ([] if known is None else [Named(spec=known)])
    if len(sources) > 1:
        raise CaromError("a log was crafted on one model: name one --source, or none.")
    threat = None
    if part.eps is not None:
        kind = part.threat or modality.defaults.threat
        threat = threat_from(modality, kind, part.eps), f"{kind} {part.eps}"
    return replay_plan(
        found,
        models.load(part.targets, clean.classes),
        next(iter(models.load(sources, clean.classes)), None),
        data,
        threat,
        part.limit,
        study.controls,
        study.seeds,
    )


def load_named(modality: Modality, named: Named, classes: Sequence[str]) -> Model:
    """A model of a study. Classes that the user's own code cannot tell are the data's, in their order."""
    facts = {name: None if value == "none" else value for name, value in named.facts.items()}
    if not _tells(named):
        facts.setdefault("classes", list(classes))
    return load_model_of(modality, named.spec, facts)


def _tells(named: Named) -> bool:
    """Whether a model knows its classes by itself."""
    return parse(named.spec).kind not in (*OWN_CODE, "ensemble")


@dataclass
class _Models:
    """The models of a study, each loaded once."""

    modality: Modality
    device: torch.device
    held: dict[str, Model] = field(default_factory=dict)

    def load(self, wanted: Sequence[Named], classes: Sequence[str]) -> tuple[Model, ...]:
        found = []
        for named in wanted:
            key = json.dumps([named.spec, named.facts], sort_keys=True, default=str)
            if key not in self.held:
                self.held[key] = load_named(self.modality, named, classes).to(self.device)
            found.append(self.held[key])
        return tuple(dict.fromkeys(found))


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
        return {
            "version": version("carom"),
            "modalities": {o.plan.modality: o.summary() for o in self.outcomes},
            "report": None if self.folder is None else str(self.folder / "report.html"),
            "seconds": round(self.seconds, 1),
            "seed": self.study.seeds[0],
            "seeds": list(self.study.seeds),
        }

    def save(self, command: Sequence[str] = ()) -> None:
        """Write the run's folder: study, manifest, cells as Parquet and JSON, report."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        summary = self.summary()
        study = self.study.model_dump(mode="json")
        manifest = {
            "command": list(command),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "versions": {name: version_of(name) for name in PACKAGES},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": str(pick_device(self.study.device)),
            "study_sha256": hashlib.sha256(json.dumps(study, sort_keys=True).encode()).hexdigest(),
            "models": {m.name: m.digest for o in self.outcomes for m in o.plan.models},
            "data": {o.plan.data.name: o.plan.data.digest for o in self.outcomes},
        }
        for name, value in (("study", study), ("manifest", manifest), ("result", summary)):
            write_atomically(self.folder / f"{name}.json", json.dumps(value, indent=2, allow_nan=False).encode())
        parts = [
            (name, [c for of in (part, part["matched"], part["curve"]) if of is not None for c in of["cells"]])
            for name, part in summary["modalities"].items()
        ]
        if cells := [{"modality": name, **row} for name, rows in parts for row in rows]:
            write_table(self.folder / "cells.parquet", table_of(cells))
        write_run_report(self.outcomes, self.folder / "report.html", {**summary, "manifest": manifest}, self.study)


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
) -> Run:
    """Run a study. What its store already holds is not computed again."""
    started = time.perf_counter()
    study = resolve(study)
    plans = [plan_of(study, name) for name in study.modalities]
    store = Store(study.store)
    with helped(study):
        outcomes = [evaluate(plan, store, study.batch, progress=_prefixed(progress, plan.modality)) for plan in plans]
    run = Run(study, outcomes, time.perf_counter() - started, folder)
    if folder is not None:
        run.save(command)
    return run


def _prefixed(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"{name}: {what}")


def load_run(folder: Path) -> tuple[Study, dict[str, Any]]:
    """(resolved study, manifest) of a finished run."""
    try:
        study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaromError(f"{folder}: not the folder of a finished run ({error}). See `carom list runs`.") from None
    return make_study(study, str(folder / "study.json")), manifest


def write_run_report(
    outcomes: Sequence[Transfer], path: Path, summary: Mapping[str, Any] | None = None, study: Study | None = None
) -> None:
    """One HTML file over all outcomes, with examples of each."""
    from carom.common.examples import choose_examples
    from carom.common.report import write_report

    per_cell = study.examples if study is not None else 2
    examples = [example for outcome in outcomes for example in choose_examples(outcome, per_cell)]
    if summary is None:
        parts = {o.plan.modality: ModalityStudy() for o in outcomes}
        summary = Run(Study(modalities=parts), list(outcomes), sum(o.seconds for o in outcomes)).summary()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_report(path, summary, examples, per_cell=per_cell)


def command_line() -> list[str]:
    return ["carom", *sys.argv[1:]]
