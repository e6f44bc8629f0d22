"""From a model and a threat to the attackers that judge it, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from carom.common.attacks.info import AttackChoice
from carom.common.attacks.worst_case import Worst
from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.spaces import Box
from carom.common.core.threats import Ball, Threat
from carom.common.modality.budgets import threat_from
from carom.common.modality.contract import Modality
from carom.common.modality.jury import Choose, Group, Jury, all_of, first_of
from carom.common.modality.registry import attacks_of, choose_attack
from carom.common.robustness.alarms import Probes
from carom.common.robustness.bench import Attacker
from carom.common.robustness.judge import Case
from carom.common.study.plan import Plan

EVERYTHING = "linf"
"""The threat that, with the width of the space, lets every input become every other."""


def jury_of(modality: Modality) -> Jury:
    """The modality's jury, or one of the attacks of its default study."""
    return modality.jury or Jury(adaptive=tuple((spec,) for spec in modality.defaults.attacks))


def choosing(modality: Modality, kind: str | None) -> Choose:
    """Attacks by spec, of those that work within a kind of threat; None stands for a threat given as an object."""
    known = attacks_of(modality)

    def choose(spec: str) -> AttackChoice | None:
        name = spec.partition("?")[0]
        if name not in known or (kind is not None and kind not in known[name].threats):
            return None
        return choose_attack(modality, spec, kind)

    return choose


def case_of(
    modality: Modality,
    model: Model,
    data: Dataset,
    threat: Threat,
    label: str,
    kind: str | None,
    attacks: Sequence[AttackChoice] = (),
    curve: Sequence[str] = (),
    *,
    query: bool = False,
    transferred: Callable[[Model], Sequence[Attacker]] = lambda model: (),
) -> Case:
    """The case of a model. `attacks` replace the modality's own adaptive ones, and those that count as no adaptive ones
    its queries; `curve` are budgets of the same kind; `query` asks for query attacks even where the adaptive ones
    include one. Raises CaromError for what cannot be judged."""
    jury, choose = jury_of(modality), choosing(modality, kind)
    model = _checked(modality, model, data, threat, label, attacks)
    if attacks:
        adaptive = [one for one in attacks if one.info.needs & jury.counts]
        asked = [one for one in attacks if not one.info.needs & jury.counts]
    else:
        adaptive, asked = all_of((*jury.adaptive, *(jury.random if model.random else ())), choose, model), []
        adaptive = [one for one in adaptive if one.info.needs & jury.counts]
    if query or not any(isinstance(one.attack, Worst) for one in adaptive):
        known = {one.info.name for one in (*adaptive, *asked)}
        asked += [one for one in all_of(jury.query, choose, model) if one.info.name not in known]
    if not adaptive and not asked:
        raise CaromError(
            f"{model.name}: no attack of the jury works within {label.split()[0]} on what it grants: name one with "
            f"--attack (see `carom list attacks --modality {modality.name}`)."
        )
    case = Case(
        model=model,
        data=data,
        threat=threat,
        label=label,
        adaptive=tuple(adaptive),
        query=tuple(asked),
        transferred=tuple(transferred(model)),
        curve=_budgets(modality, kind, curve),
    )
    return replace(case, tests=tests_of(modality, jury, choose, case))


def _checked(
    modality: Modality, model: Model, data: Dataset, threat: Threat, label: str, attacks: Sequence[AttackChoice]
) -> Model:
    """The model as it answers in the classes of the data, once a study of it would be allowed."""
    if model.recorded:
        raise CaromError(
            f"{model.name} only repeats what it once answered: robustness needs a model that can be asked."
        )
    for one in attacks:
        if not one.runs_on(model):
            raise CaromError(
                f"attack {one.info.name} needs {' and '.join(one.info.needs.words())}, and {model.name} grants "
                f"{' and '.join(model.access.words())}: leave --attack out for attacks that it admits, or see `carom list "
                f"attacks --modality {modality.name}`."
            )
        if one.needs_others:
            raise CaromError(
                f"attack {one.info.name} needs examples besides those attacked: robustness is judged without."
            )
    plan = Plan(
        modality=modality.name,
        sources=(model,) if attacks else (),
        targets=(model,),
        attacks=tuple(attacks),
        data=data,
        threat=threat,
        threat_label=label,
    )
    if plan.data.classes != data.classes:
        raise CaromError(
            f"{data.name} names its classes otherwise than {model.name}: state the order of its outputs with classes= in "
            "its spec."
        )
    return plan.targets[0]


def _budgets(modality: Modality, kind: str | None, curve: Sequence[str]) -> tuple[tuple[str, Threat], ...]:
    if curve and kind is None:
        raise CaromError("a curve needs the name of a kind of threat: threat='linf'.")
    return tuple((f"{kind} {eps}", threat_from(modality, str(kind), eps)) for eps in dict.fromkeys(curve))


def tests_of(modality: Modality, jury: Jury, choose: Choose, case: Case) -> Probes:
    """What alarms try on the model of a case."""
    model = case.model

    def first(group: Group) -> AttackChoice | None:
        found = first_of(group, choose, model)
        return found if found is not None and found.label not in {c.label for c in case.adaptive} else None

    space, unbounded = model.space, None
    if isinstance(space, Box) and isinstance(case.threat, Ball) and EVERYTHING in modality.threats:
        within = [one for one in case.adaptive if EVERYTHING in one.info.threats]
        if within:
            unbounded = within[-1 if model.random else 0], modality.threats[EVERYTHING](space.high - space.low)
    return Probes(
        one_step=first_of(jury.one_step, choose, model),
        many_steps=first_of(jury.many_steps, choose, model),
        longer=first(jury.longer),
        # What attacks in turn notes by itself what fell to scores alone.
        black_box=None if any(isinstance(one.attack, Worst) for one in case.adaptive) else first(jury.black_box),
        unbounded=unbounded,
    )
