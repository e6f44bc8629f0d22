"""Budgets as a user writes them, and whether they are told in the unit of their threat."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import number
from carom.common.core.data import Dataset
from carom.common.core.spaces import Box
from carom.common.core.threats import L1, L2, Ball, Linf, Threat
from carom.common.modality.contract import Modality

if TYPE_CHECKING:
    from carom.common.core.data import Dataset
    from carom.common.modality.contract import Modality


def threat_from(modality: Modality, kind: str, eps: float | str) -> Threat:
    """The threat of that kind and budget: 8/255, .03. A kind that counts something takes no fraction: 8/255 dB is a
    budget in the unit of pixels."""
    if kind not in modality.threats:
        raise UnknownName(f"threat for {modality.name}", kind, modality.threats)
    make = modality.threats[kind]
    if not getattr(make, "fractions", True) and not re.fullmatch(r"[-+\d.e]+", str(eps), re.IGNORECASE):
        raise CaromError(f"eps {eps} of {modality.name}: {kind} takes {getattr(make, 'asks', 'a number')}.")
    try:
        return make(number(eps))
    except CaromError as error:
        raise CaromError(f"eps of {modality.name}: {error}") from None


def check_reach(threat: Threat, data: Dataset) -> None:
    """Refuse a budget that is more than any two inputs can differ by: its unit is another one. An infinite budget means
    what it says."""
    space = data.space
    if not isinstance(threat, Ball) or not isinstance(space, Box) or not isinstance(data.stored, Tensor):
        return
    eps, most = threat.eps, threat.most(space, data.stored.shape[1:])
    if not most < eps < float("inf"):
        return
    kind, levels = type(threat).__name__.lower(), round(1 / space.unit) if space.unit else 0
    if not isinstance(threat, Linf | L2 | L1):
        raise CaromError(f"eps {eps:g}: {kind} takes {threat.asks}.")
    fits = isinstance(threat, Linf) and levels and eps / levels <= most
    meant = f"Did you mean {eps:g}/{levels}?" if fits else f"Give {most:.4g} or less."
    raise CaromError(
        f"eps {eps:g}: {kind} is in the space's units ({space.name}, from {space.low:g} to {space.high:.4g}), where no "
        f"change is larger than {most:.4g}. {meant}"
    )


@dataclass(frozen=True)
class ScalePoint:
    """One place on a scale."""

    label: str  # "linf 4/255"
    eps: float
    threat: Threat


def scale_of(modality: Modality, kind: str) -> tuple[ScalePoint, ...]:
    """The budgets of a kind of threat that a search may try, weakest first; the last is the cap."""
    if kind not in modality.scales:
        known = ", ".join(modality.scales) or "none"
        raise CaromError(f"budgets of the threat {kind} cannot be matched: {modality.name} has scales for {known}.")
    return tuple(
        ScalePoint(f"{kind} {eps}", number(eps), modality.threats[kind](number(eps))) for eps in modality.scales[kind]
    )
