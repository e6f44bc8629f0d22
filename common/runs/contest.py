"""From a study to the judgement of its models and defences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.specs import DEFENDED, defended_by, parse, split_defended, undefended_spec
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.threats import Threat
from carom.common.loading.zoo import read_card
from carom.common.modality.budgets import threat_from
from carom.common.modality.contract import Modality
from carom.common.modality.installed import get_modality
from carom.common.modality.jury import first_of
from carom.common.modality.load import load_data_of
from carom.common.modality.registry import choose_attack
from carom.common.robustness.bench import Attacker, Bench
from carom.common.robustness.cases import case_of, choosing, jury_of
from carom.common.robustness.judge import Case, judge
from carom.common.robustness.judgement import Entry, Judgement
from carom.common.runs.devices import pick_device
from carom.common.runs.load import load_named
from carom.common.runs.resolve import behind, budget_of, check_defences, data_of, with_transform
from carom.common.study.config import ModalityStudy, Named, Study
from carom.common.study.doubts import Warn, by_warnings
from carom.common.work.executor import Progress
from carom.common.work.store import Store

UNUSED = ("match", "curve")
"""What a study of transfer may ask for, and a judgement does not answer."""

CARD = ("seconds", "train_seconds", "epochs", "examples", "clean_accuracy", "defence")
"""What is told of the training of a model of the zoo, where its card says it."""


@dataclass(frozen=True)
class Entrant:
    """A model to be judged: what stands behind, and the defence around it, "" for none."""

    named: Named
    base: Named
    defence: str
    model: Model


@dataclass
class Contest:
    """Everything that one modality of a study asks to be judged, loaded and checked."""

    cases: list[tuple[Entrant, Case]]
    threat: Threat


def contest_of(study: Study, name: str, *, full: bool = True) -> Contest:
    """Load what one modality of a study names: `targets` are judged, each of them behind each of its `defences` too;
    `sources` are where transferred examples come from, by default the targets without the defences. Without `full`
    there are neither transferred examples nor queries besides what the adaptive attacks ask."""
    modality, part = get_modality(name), study.modalities[name]
    _check(study, part)
    check_defences(modality, part.defences)
    kind, eps = budget_of(part, modality.defaults)
    threat, label = threat_from(modality, kind, eps), f"{kind} {eps}"
    attacks = [
        choose_attack(modality, with_transform(spec, part.transform), kind) for spec in dict.fromkeys(part.attacks)
    ]
    data = _data(modality, part)
    hold = _Held(modality, data, study.device)
    entrants = [
        Entrant(named, base, defence, hold(named))
        for base in part.targets
        for defence, named in _behind(base, part.defences)
    ]
    sources = part.sources or part.targets
    cases = []
    for entrant in entrants:

        def transferred(model: Model, entrant: Entrant = entrant) -> Sequence[Attacker]:
            return _transferred(modality, kind, sources, entrant, model, hold) if full else ()

        case = case_of(
            modality,
            entrant.model,
            data,
            threat,
            label,
            kind,
            attacks,
            [str(one) for one in study.budgets],
            query=full,
            transferred=transferred,
        )
        cases.append((entrant, replace(case, training=_training(modality, entrant.base))))
    return Contest(cases, threat)


def judgement_of(
    study: Study,
    name: str,
    progress: Progress | None = None,
    warn: Warn = by_warnings,
    store: Store | None = None,
    *,
    full: bool = True,
) -> Judgement:
    """Judge what one modality of a study names. What its store holds is not computed again."""
    started = time.perf_counter()
    contest = contest_of(study, name, full=full)
    store = store or Store(study.store)
    entries = []
    for entrant, case in contest.cases:
        bench = Bench(store, contest.threat, study.seeds[0], study.batch, progress=progress)
        entries.append(Entry(_name(entrant.base), entrant.defence, judge(case, bench, warn)))
    return Judgement(entries, store, time.perf_counter() - started)


def _check(study: Study, part: ModalityStudy) -> None:
    if not part.targets:
        raise CaromError("which model is to be judged? Name it: --target SPEC, or targets = [...] in the study.")
    if part.log is not None:
        raise CaromError("a log holds no model that could be attacked: leave log out, and name the model as a target.")
    if part.targeted or part.target_class is not None:
        raise CaromError("robust accuracy is of untargeted attacks: leave targeted and target_class out.")
    if asked := [name for name in UNUSED if getattr(study, name)]:
        raise CaromError(
            f"{' and '.join(asked)} belong to `carom run`: leave them out, or give budgets = [...] for a curve."
        )
    if len(study.seeds) > 1:
        raise CaromError("a judgement takes one seed: the worst case over several attacks is their restarts.")


def _data(modality: Modality, part: ModalityStudy) -> Dataset:
    named, limit = data_of(part, modality.defaults)
    return load_data_of(modality, named.spec, part.split, limit, {"on_error": part.on_error, **named.facts})


@dataclass
class _Held:
    """Models by spec, each loaded once."""

    modality: Modality
    data: Dataset
    device: str

    def __post_init__(self) -> None:
        self.held: dict[str, Model] = {}

    def __call__(self, named: Named) -> Model:
        key = named.model_dump_json()
        if key not in self.held:
            self.held[key] = load_named(self.modality, named, self.data).to(pick_device(self.device))
        return self.held[key]


def _name(named: Named) -> str:
    return str(named.facts.get("name", named.spec.removeprefix("zoo:")))


def _behind(base: Named, defences: Sequence[str]) -> list[tuple[str, Named]]:
    """(defence, model) of a model alone and behind each of the defences."""
    return [("", base), *((defence, behind(base, defence)) for defence in dict.fromkeys(defences))]


def _transferred(
    modality: Modality,
    kind: str,
    sources: Sequence[Named],
    entrant: Entrant,
    model: Model,
    hold: Callable[[Named], Model],
) -> list[Attacker]:
    """Attackers who craft elsewhere: on models without the defence, and on others behind the same one."""
    group, choose = jury_of(modality).transfer, choosing(modality, kind)
    around = entrant.defence or "+".join(
        split_defended(parse(entrant.named.spec).rest)[1] if _defended(entrant.named) else []
    )
    found = []
    for source in sources:
        asked: list[tuple[str, Named]] = [("transfer", source)]
        if around and source.spec != entrant.base.spec and not _defended(source):
            asked.append(("same defence", Named(spec=defended_by(source.spec, around))))
        for what, named in asked:
            held = hold(named)
            chosen = None if held.digest == model.digest else first_of(group, choose, held)
            if chosen is not None:
                found.append(Attacker(what, held, chosen))
    return found


def _defended(named: Named) -> bool:
    return named.spec.startswith(f"{DEFENDED}:")


def _training(modality: Modality, base: Named) -> dict[str, Any]:
    """What the card of a model of the zoo says of its training."""
    spec = undefended_spec(base.spec)
    if not spec.startswith("zoo:") or parse(spec).rest not in modality.recipes:
        return {}
    recipe = modality.recipes[parse(spec).rest]
    card = read_card(recipe) if recipe.card.exists() else {}
    return {name: card[name] for name in CARD if name in card}
