"""The budget at which an attack fools its own source to a wanted share: what makes attacks and modalities comparable.

A modality says how its budgets run, weakest first (`Modality.scales`); a search (`comparisons.budget_search`) finds
the place on that scale. What is reported is measured afterwards, on all examples.
"""

from __future__ import annotations

from dataclasses import dataclass

from carom.common.attacks.info import AttackChoice
from carom.common.base.errors import CaromError
from carom.common.core.model import Model
from carom.common.modality.budgets import ScalePoint


@dataclass(frozen=True)
class Matching:
    """Compare at equal white-box success: at which levels, over which budgets, on how many examples and draws."""

    levels: tuple[float, ...]
    scale: tuple[ScalePoint, ...]  # weakest first
    limit: int | None = None  # examples; None: all of the study
    controls: int | None = None  # draws; None: as many as the study

    def __post_init__(self) -> None:
        for level in self.levels:
            if not 0 < level < 1:
                raise CaromError(f"white-box success of {level:g} cannot be matched: give shares such as 0.5 and 0.9.")
        if not self.scale:
            raise CaromError("to match white-box success, a scale of at least one budget is needed.")


@dataclass(frozen=True)
class Match:
    """The budget found for one attack on one source. Whether it reached its level is measured by the cells."""

    source: Model
    chosen: AttackChoice
    level: float
    budget: ScalePoint
    searched: int  # examples that the bisection looked at
    promised: float  # the share of them that fell within this budget or a smaller one
    end: str  # "weakest" or "strongest", where the budget is that end of the scale

    def why(self, white_box: float, high: float) -> str:
        """Why a measured success, whose interval ends at `high`, is not the level."""
        if self.promised > high:
            return f"{white_box:.2f} at {self.budget.label}: examples that smaller budgets fooled stand there again"
        if self.end == "strongest" and white_box < self.level:
            return f"out of reach: {white_box:.2f} at the cap of the search, {self.budget.label}"
        if self.end == "weakest" and white_box > self.level:
            return f"already {white_box:.2f} at the weakest budget, {self.budget.label}"
        near = f"{white_box:.2f} is the nearest found, at {self.budget.label}"
        return f"{near}: success does not pass {self.level:g} in small steps"
