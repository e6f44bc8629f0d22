"""A study with every default written out."""

from __future__ import annotations

from collections.abc import Sequence

from carom.common.base.errors import CaromError
from carom.common.base.specs import defended_by, split_parameters, split_plus
from carom.common.modality.contract import Defaults, Modality
from carom.common.modality.defences import choose_defence
from carom.common.modality.installed import get_modality
from carom.common.modality.load import load_model_of
from carom.common.modality.registry import choose_attack
from carom.common.study.config import ModalityStudy, Named, Study


def resolve(study: Study) -> Study:
    """The study with every default written out: what is saved, and what runs again in the same way."""
    parts: dict[str, ModalityStudy] = {}
    for name, part in study.modalities.items():
        defaults = get_modality(name).defaults
        if part.log is not None:
            targets = part.targets or [Named(spec=s) for s in defaults.targets]
            targets = with_defences(get_modality(name), targets, part.defences)
            parts[name] = part.model_copy(update={"targets": targets, "defences": []})
            continue
        sources = part.sources or [Named(spec=s) for s in _default_sources(name, part)]
        targets = part.targets or ([] if part.sources else [Named(spec=s) for s in defaults.targets])
        threat, eps = budget_of(part, defaults)
        data, limit = data_of(part, defaults)
        parts[name] = part.model_copy(
            update={
                "data": data,
                "sources": sources,
                "targets": with_defences(get_modality(name), targets or sources, part.defences),
                "defences": [],
                "attacks": [with_transform(spec, part.transform) for spec in part.attacks or defaults.attacks],
                "transform": None,
                "threat": threat,
                "eps": eps,
                "limit": limit,
            }
        )
    return study.model_copy(update={"modalities": parts})


def budget_of(part: ModalityStudy, defaults: Defaults) -> tuple[str, float | str]:
    """(kind of threat, budget) of a modality's part of a study; the modality's own where it names none."""
    kind = part.threat or defaults.threat
    if part.eps is None and kind != defaults.threat:
        raise CaromError(f"threat {kind} needs a budget: pass --eps (the default is for {defaults.threat}).")
    return kind, defaults.eps if part.eps is None else part.eps


def data_of(part: ModalityStudy, defaults: Defaults) -> tuple[Named, int | None]:
    """(data, how many examples of them) of a modality's part of a study; the modality's own where it names none."""
    limit = part.limit if part.limit is not None or part.data else defaults.limit
    return part.data or Named(spec=defaults.data), limit


def _default_sources(name: str, part: ModalityStudy) -> Sequence[str]:
    """The modality's own sources, without those that no attack of the study can run on; all, where that leaves none."""
    modality = get_modality(name)
    if not part.attacks:
        return modality.defaults.sources
    chosen = [choose_attack(modality, with_transform(spec, part.transform)) for spec in part.attacks]
    loaded = {spec: load_model_of(modality, spec, {}) for spec in modality.defaults.sources}
    fit = [spec for spec, model in loaded.items() if any(attack.runs_on(model) for attack in chosen)]
    return fit or modality.defaults.sources


def with_defences(modality: Modality, targets: Sequence[Named], defences: Sequence[str]) -> list[Named]:
    """The targets, and each of them behind each of the defences."""
    check_defences(modality, defences)
    found = {_key(target): target for target in targets}
    for spec in defences:
        for target in targets:
            placed = behind(target, spec)
            found.setdefault(_key(placed), placed)
    return list(found.values())


def check_defences(modality: Modality, defences: Sequence[str]) -> None:
    """Refuse what cannot be had, before anything is loaded."""
    for spec in defences:
        for one in split_plus(spec):
            choose_defence(modality, one)


def behind(named: Named, defence: str) -> Named:
    """A model behind a defence; a name that it was given says so."""
    facts = dict(named.facts)
    if "name" in facts:
        facts["name"] = f"{facts['name']}+{defence}"
    return Named(spec=defended_by(named.spec, defence), **facts)


def _key(named: Named) -> str:
    return named.model_dump_json()


def with_transform(spec: str, transform: str | None) -> str:
    """The spec of an attack, with the study's transform unless it names its own."""
    if transform is None or "transform" in split_parameters(spec)[1]:
        return spec
    return f"{spec}{'&' if '?' in spec else '?'}transform={transform}"
