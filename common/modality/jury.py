"""Which attacks of a modality judge whether a model is robust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carom.common.attacks.info import AttackChoice
from carom.common.core.batch import Access
from carom.common.core.model import Model

Group = tuple[str, ...]
"""Specs of attacks that do the same work, the strongest first: the first that model and threat admit runs for all."""


@dataclass(frozen=True)
class Jury:
    """The attackers of a judgement, in groups, and what their strength is tested with."""

    adaptive: tuple[Group, ...]
    """By one who has the model, and differentiates or searches through all that stands before it."""
    random: tuple[Group, ...] = ()
    """Besides, against models that draw anew for each answer: attacks that go on once the mean of several is wrong, as
    one answer may still be right."""
    query: tuple[Group, ...] = ()
    """By one who only asks it."""
    transfer: Group = ()
    """On other models, for what they are worth on this one."""
    counts: Access = Access.GRADIENT | Access.LEAVES
    """An attack that needs any of this of a model counts as adaptive, whoever chose it."""
    # What alarms are tried with; none where a modality has no such attack.
    one_step: Group = ()
    many_steps: Group = ()
    longer: Group = ()  # with more steps than the adaptive ones
    black_box: Group = ()


Choose = Callable[[str], AttackChoice | None]
"""The attack of a spec, None where the threat does not admit it."""


def first_of(group: Sequence[str], choose: Choose, model: Model) -> AttackChoice | None:
    """The first attack of a group that a model and a threat admit."""
    for spec in group:
        chosen = choose(spec)
        if chosen is not None and chosen.runs_on(model):
            return chosen
    return None


def all_of(groups: Sequence[Group], choose: Choose, model: Model) -> list[AttackChoice]:
    """One attack of each group, of those that admit one."""
    found = [first_of(group, choose, model) for group in groups]
    return [chosen for chosen in found if chosen is not None]
