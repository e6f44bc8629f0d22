"""From a study to plans: models, data and attacks loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from carom.common.base.errors import CaromError
from carom.common.base.specs import OWN_CODE, parse, undefended_spec
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.precision import pick_precision
from carom.common.modality.budgets import threat_from
from carom.common.modality.contract import Modality
from carom.common.modality.installed import get_modality
from carom.common.modality.load import load_data_of, load_model_of
from carom.common.modality.registry import choose_attack
from carom.common.models.class_matching import classes_for
from carom.common.runs.devices import pick_device
from carom.common.study.config import ModalityStudy, Named, Study
from carom.common.study.plan import Plan
from carom.common.study.planning import make_plan
from carom.common.study.replay import known_source, load_set, log_modality, replay_plan
from carom.common.study.target_classes import stated_aim


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
    facts = {"on_error": part.on_error, **part.data.facts}
    spec = part.data.spec

    def load(split: str, limit: int | None) -> Dataset:
        return load_data_of(modality, spec, split, limit, facts)

    data = load(part.split, part.limit)
    models = _Models(modality, pick_device(study.device))
    return make_plan(
        modality,
        data=data,
        attacks=chosen,
        threat=threat,
        threat_label=f"{part.threat} {part.eps}",
        kind=part.threat,
        models=lambda: (models.load(part.sources, data), models.load(part.targets, data)),
        load=load,
        split=part.split,
        match=study.match,
        match_limit=study.match_limit,
        match_controls=study.match_controls,
        curve=study.curve,
        curve_limit=study.curve_limit,
        seeds=study.seeds,
        controls=study.controls,
        precision=pick_precision(study.precision, pick_device(study.device)),
        targeted=part.targeted or part.target_class is not None,
        aim=stated_aim(part.target_class, data),
        denominators=study.denominators,
    )


def _plan_of_log(study: Study, modality: Modality, part: ModalityStudy) -> Plan:
    """The plan that measures what was crafted before."""
    assert part.log is not None
    models, path = _Models(modality, pick_device(study.device)), Path(part.log.spec)
    data = None
    if part.data is not None:
        data = load_data_of(modality, part.data.spec, part.split, None, {"on_error": part.on_error, **part.data.facts})
    facts: dict[str, Any] = dict(part.log.facts)
    if log_modality(path, modality.name) is not None:
        # The classes that labels are counted in: as stated, or as the data or the models have them.
        told = [named for named in [*part.targets, *part.sources] if _tells(named)]
        if "classes" not in facts and data is None and told:
            facts["classes"] = models.load(told[:1])[0].classes
        facts |= {"data": data, "on_error": part.on_error}
    found = load_set(path, modality.name, **facts)
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
        models.load(part.targets, clean),
        next(iter(models.load(sources, clean)), None),
        data,
        threat,
        part.limit,
        study.controls,
        study.seeds,
        study.denominators,
    )


def load_named(modality: Modality, named: Named, data: Dataset | None) -> Model:
    """A model of a study. Classes that the user's own code cannot tell, and the user does not state, are the data's, in
    their order. Where that order is a guess, it is asked for."""
    facts = {name: None if value == "none" else value for name, value in named.facts.items()}
    if not _tells(named) and data is not None:
        facts["classes"] = classes_for(named.spec, data)
    return load_model_of(modality, named.spec, facts)


def _tells(named: Named) -> bool:
    """Whether a model knows its classes by itself, or by what is stated of it."""
    spec = parse(undefended_spec(named.spec))
    stated = {"classes"} & {*named.facts, *spec.parameters}
    return bool(stated) or spec.kind not in (*OWN_CODE, "ensemble")


@dataclass
class _Models:
    """The models of a study, each loaded once."""

    modality: Modality
    device: torch.device
    held: dict[str, Model] = field(default_factory=dict)

    def load(self, wanted: Sequence[Named], data: Dataset | None = None) -> tuple[Model, ...]:
        found = []
        for named in wanted:
            key = json.dumps([named.spec, named.facts], sort_keys=True, default=str)
            if key not in self.held:
                self.held[key] = load_named(self.modality, named, data).to(self.device)
            found.append(self.held[key])
        return tuple(dict.fromkeys(found))
