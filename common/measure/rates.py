"""The rates of a cell: what is measured of one source, attack and seed on one target, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from carom.common.measure.stats import Array, Bootstrap, excess, interval, wilson

LEAST_SELF_EXCESS = 0.05  # below this relative transfer divides by nothing


@dataclass(frozen=True)
class Answers:
    """What one model said about one artefact, over all shards."""

    answer: np.ndarray  # int64[n]
    margin: np.ndarray  # float64[n]: the label's logit minus the best other


@dataclass(frozen=True)
class Measure:
    """The measures of one source, attack and seed; `cell` applies them to a target."""

    labels: np.ndarray
    goals: np.ndarray | None  # target classes, when targeted
    bootstrap: Bootstrap
    # Of a source that is only known by its log: None where it is silent, and without controls.
    source_clean: Answers | None
    source_judged: tuple[Answers, list[Answers], Answers] | None

    def _null(self, controls: list[Answers]) -> Array:
        """float64[n]: the share of control draws that flip each example; NaN without controls."""
        unknown = np.full(len(self.labels), np.nan)
        return np.mean([c.answer != self.labels for c in controls], axis=0) if controls else unknown

    def cell(
        self, target_clean: Answers, judged: tuple[Answers, list[Answers], Answers]
    ) -> tuple[dict[str, Any], Array]:
        """Rates over J, the examples that source and target both get right when clean; and E in every resample."""
        attacked, controls, swapped = judged
        on_source, source_controls, _ = self.source_judged or (None, [], None)
        unknown = np.full(len(self.labels), np.nan)
        right = np.ones(len(self.labels))
        if self.source_clean is not None:
            right = (self.source_clean.answer == self.labels).astype(np.float64)
        among = right * (target_clean.answer == self.labels)
        n = int(among.sum())
        fooled = (attacked.answer != self.labels).astype(np.float64)
        null = self._null(controls)
        source_fooled = unknown if on_source is None else (on_source.answer != self.labels).astype(np.float64)
        same = unknown if on_source is None else (attacked.answer == on_source.answer).astype(np.float64)
        source_null = self._null(source_controls)

        def share(values: Array, given: Array) -> float | None:
            value = float((values * given).sum() / given.sum()) if given.sum() else np.nan
            return None if np.isnan(value) else value

        transfer, control = share(fooled, among), share(null, among)
        low, high = wilson(float((fooled * among).sum()), n)
        draws_t, draws_n = self.bootstrap.shares(fooled, among), self.bootstrap.shares(null, among)
        draws_e = np.asarray(excess(draws_t, draws_n))
        gain = _gain(transfer, control)
        own_gain = _gain(share(source_fooled, among), share(source_null, among))
        relative, relative_draws = None, np.full(1, np.nan)
        if gain is not None and own_gain is not None and own_gain >= LEAST_SELF_EXCESS:
            relative = gain / own_gain
            own_draws = excess(self.bootstrap.shares(source_fooled, among), self.bootstrap.shares(source_null, among))
            with np.errstate(invalid="ignore", divide="ignore"):
                relative_draws = draws_e / np.asarray(own_draws)
        both = among * fooled
        row: dict[str, Any] = {
            "n": n,
            "transfer": transfer,
            "transfer_low": low if n else None,
            "transfer_high": high if n else None,
            "control": control,
            **_bounds("control", interval(draws_n)),
            "excess": gain,
            **_bounds("excess", interval(draws_e)),
            "relative": relative,
            **_bounds("relative", interval(relative_draws)),
            "conditional": share(fooled, among * source_fooled),
            "conditional_n": 0 if on_source is None else int((among * source_fooled).sum()),
            "same_mistake": share(same, both),
            "swapped": share((swapped.answer != self.labels).astype(np.float64), among),
            "margin_drop": share(target_clean.margin - attacked.margin, among),
            "white_box": share(source_fooled, right),
            **_bounds(
                "white_box",
                wilson(float((source_fooled * right).sum()), int(right.sum()))
                if right.any() and on_source is not None
                else None,
            ),
            "white_box_n": 0 if on_source is None else int(right.sum()),
            "white_box_control": share(source_null, right),
            "targeted": None,
            "targeted_control": None,
        }
        if self.goals is not None:
            hit = (attacked.answer == self.goals).astype(np.float64)
            row["targeted"] = share(hit, among)
            row["targeted_control"] = share(np.mean([c.answer == self.goals for c in controls], axis=0), among)
        return row, draws_e


def _gain(transfer: float | None, control: float | None) -> float | None:
    """Excess transfer; None where it is not defined."""
    if transfer is None or control is None:
        return None
    value = float(excess(transfer, control))
    return value if np.isfinite(value) else None


def _bounds(name: str, found: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = found or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


LEAST_EXAMPLES = 100  # below this a cell is marked: its interval is wider than most differences


LEAST_WHITE_BOX = 0.9  # below this the attack, not the target, may be what fails


MOST_CONTROL = 0.1  # above this the budget alone breaks the source


MEASURES = (
    *("transfer", "control", "excess", "relative", "conditional", "same_mistake", "swapped", "white_box"),
    *("white_box_control", "targeted", "targeted_control"),
)
"""The rates of a cell."""
