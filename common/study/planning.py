"""From what a user asks for to the plan of a study: scales of budgets, cost curve and the attacker's own examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carom.common.attacks.info import AttackChoice
from carom.common.base.errors import CaromError
from carom.common.base.specs import number
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.threats import Threat
from carom.common.modality.budgets import scale_of
from carom.common.modality.contract import Modality
from carom.common.study.attacker_data import others_for
from carom.common.study.comparisons.cost_curve import parse_curve
from carom.common.study.comparisons.matching import Matching
from carom.common.study.plan import Plan
from carom.common.work.units import Aim


def make_plan(
    modality: Modality,
    *,
    data: Dataset,
    attacks: tuple[AttackChoice, ...],
    threat: Threat,
    threat_label: str,
    kind: str | None,
    models: Callable[[], tuple[tuple[Model, ...], tuple[Model, ...]]],
    load: Callable[[str, int | None], Dataset] | None = None,
    split: str = "test",
    others: Dataset | None = None,
    match: Sequence[float] = (),
    match_limit: int | None = None,
    match_controls: int | None = None,
    curve: str | None = None,
    curve_limit: int | None = None,
    seeds: Sequence[int] = (0,),
    controls: int = 5,
    targeted: bool = False,
    aim: Aim = None,
    denominators: Sequence[str] = (),
    precision: str = "fp32",
) -> Plan:
    """The plan of a study as a user asks for it.

    `threat_label` is the kind of threat and its budget, `kind` that kind; None for a threat that was given as an
    object. `models` loads (sources, targets), last of all. `load(split, limit)` reads the data's other examples, for
    attacks that need some of their own (`others`). `match`: levels of white-box success; `curve`: see `parse_curve`.
    """
    if match and kind is None:
        raise CaromError("match searches a scale of budgets: name the kind of threat, for example threat='linf'.")
    matching = Matching(tuple(match), scale_of(modality, kind), match_limit, match_controls) if match and kind else None
    cost_curve = None if curve is None else parse_curve(curve, curve_limit)
    if others is None and load is not None and any(c.needs_others for c in attacks):
        others = others_for(data, load, split)
    sources, targets = models()
    return Plan(
        modality=modality.name,
        sources=sources,
        targets=targets,
        attacks=attacks,
        data=data,
        threat=threat,
        threat_label=threat_label,
        seeds=tuple(seeds),
        controls=controls,
        targeted=targeted,
        aim=aim,
        precision=precision,
        eps=None if kind is None else number(threat_label.split()[1]),
        matching=matching,
        curve=cost_curve,
        metrics=tuple(modality.metrics),
        others=others,
        denominators=tuple(dict.fromkeys(denominators)),
    )
