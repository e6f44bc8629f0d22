"""The rates of a cell: what is measured of one source, attack and seed on one target, each with its interval.

Only numbers are known here: which answers were right, which fooled and which alike. What makes an answer right is the
task's (`carom.common.core.tasks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carom.common.measure.stats import Array, Bootstrap, excess, interval, wilson

LEAST_SELF_EXCESS = 0.05  # below this relative transfer divides by nothing


LEAST_EXAMPLES = 100  # below this a cell is marked: its interval is wider than most differences


LEAST_WHITE_BOX = 0.9  # below this the attack, not the target, may be what fails


MOST_CONTROL = 0.1  # above this the budget alone breaks the source


MEASURES = (
    *("transfer", "control", "excess", "relative", "conditional", "same_mistake", "swapped", "blind", "white_box"),
    *("white_box_control", "targeted", "targeted_control"),
)
"""The rates of a cell."""


Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """What a task makes of one model's answers to n inputs."""

    right: Bools  # bool[n]: right, and not rejected
    fooled: Bools  # bool[n]: wrong, and not rejected
    kind: NDArray[Any]  # [n]: wrong answers of one kind are the same mistake
    gap: Array  # float64[n]: how far each answer is on the right side; below 0 on the wrong one
    hit: Bools | None = None  # bool[n]: what the attacker aimed at, and not rejected; None when untargeted


@dataclass(frozen=True)
class Judged:
    """What one model made of what was crafted, of its controls and of the swapped perturbations."""

    attacked: Verdict
    controls: Sequence[Verdict]
    swapped: Verdict
    blind: Sequence[Verdict] = ()  # of changes that know neither model nor input


@dataclass(frozen=True)
class Rate:
    """A share, or what is made of shares, over n examples, with its 95 % interval. None is what is not defined, or not
    known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Rates:
    """What is measured of one source, attack and seed on one target. J are the examples that both get right when clean;
    `white_box` is over all that the source gets right."""

    n: int  # examples in J
    transfer: Rate  # T: share of J that the target gets wrong
    control: Rate  # N: the same after random perturbations of the same budget
    excess: Rate  # E = (T - N) / (1 - N)
    relative: Rate  # R: E on the target over E on the source
    conditional: Rate  # T among those of J that fool the source
    same_mistake: Rate  # share of the fooled on which source and target make the same mistake
    swapped: Rate  # share of J fooled by the perturbation of another example
    blind: Rate  # share of J fooled by the best of a few changes that know neither model nor input
    margin_drop: float | None  # mean loss of gap over J
    white_box: Rate
    white_box_control: Rate
    targeted: Rate  # share of J given what the attacker aimed at
    targeted_control: Rate


@dataclass(frozen=True)
class Measure:
    """The measures of one source, attack and seed; `rates` applies them to a target."""

    bootstrap: Bootstrap
    # Of a source that is only known by its log: None where it is silent, and without controls.
    source_clean: Verdict | None
    source_judged: Judged | None

    def rates(self, target_clean: Verdict, judged: Judged) -> tuple[Rates, Array]:
        """The rates over J, and E in every resample of the examples, float64[B]."""
        attacked, source = judged.attacked, self.source_judged
        unknown = np.full(len(target_clean.right), np.nan)
        right = np.ones(len(unknown)) if self.source_clean is None else self.source_clean.right.astype(np.float64)
        among = right * target_clean.right
        fooled, null = attacked.fooled.astype(np.float64), _null(judged.controls, unknown)
        source_fooled, source_null, same = unknown, unknown, unknown
        if source is not None:
            source_fooled = source.attacked.fooled.astype(np.float64)
            source_null = _null(source.controls, unknown)
            same = source_fooled * (attacked.kind == source.attacked.kind)

        draws_t, draws_n = self.bootstrap.shares(fooled, among), self.bootstrap.shares(null, among)
        draws_e = np.asarray(excess(draws_t, draws_n))
        transfer, control = _share(fooled, among), _share(null, among)
        gain = _gain(transfer.value, control.value)
        own_gain = _gain(_share(source_fooled, among).value, _share(source_null, among).value)
        relative, relative_draws = None, np.full(1, np.nan)
        if gain is not None and own_gain is not None and own_gain >= LEAST_SELF_EXCESS:
            relative = gain / own_gain
            own_draws = excess(self.bootstrap.shares(source_fooled, among), self.bootstrap.shares(source_null, among))
            with np.errstate(invalid="ignore", divide="ignore"):
                relative_draws = draws_e / np.asarray(own_draws)
        targeted = targeted_control = Rate(None)
        if attacked.hit is not None:
            targeted = _wilson(attacked.hit.astype(np.float64), among)
            hits = [control.hit for control in judged.controls if control.hit is not None]
            shares = np.mean(hits, axis=0) if hits else unknown
            targeted_control = _joined(_wilson(shares, among), self.bootstrap.shares(shares, among))
        transfer = _wilson(fooled, among)
        shifted = _shifted(transfer, control.value, gain)
        rates = Rates(
            n=int(among.sum()),
            transfer=transfer,
            control=_joined(_wilson(null, among), draws_n),
            excess=_joined(shifted, draws_e),
            # On the source itself R is 1 in every resample: there is nothing to be uncertain of.
            relative=_joined(
                Rate(relative, n=transfer.n) if judged is source else _divided(shifted, own_gain, relative),
                relative_draws,
            ),
            conditional=_wilson(fooled, among * source_fooled) if source is not None else Rate(None, n=0),
            same_mistake=_wilson(same, among * fooled) if source is not None else Rate(None, n=0),
            swapped=_wilson(judged.swapped.fooled.astype(np.float64), among),
            blind=_best([_wilson(one.fooled.astype(np.float64), among) for one in judged.blind]),
            margin_drop=_share(target_clean.gap - attacked.gap, among).value,
            white_box=_wilson(source_fooled, right) if source is not None else Rate(None, n=0),
            white_box_control=_joined(_wilson(source_null, right), self.bootstrap.shares(source_null, right)),
            targeted=targeted,
            targeted_control=targeted_control,
        )
        return rates, draws_e

    def over(self, target_clean: Verdict, judged: Judged, all_right: Bools) -> dict[str, Rate]:
        """Transfer by the field's other denominators; `all_right` bool[n]: which every model gets right when clean."""
        fooled, source = judged.attacked.fooled.astype(np.float64), self.source_judged
        among = target_clean.right if self.source_clean is None else self.source_clean.right & target_clean.right
        fooling = among if source is None else among & source.attacked.fooled
        return {
            "all-right": _wilson(fooled, all_right.astype(np.float64)),
            "source-fooled": Rate(None, n=0) if source is None else _wilson(fooled, fooling.astype(np.float64)),
            "everything": _wilson(fooled, np.ones(len(fooled))),
        }


def _null(controls: Sequence[Verdict], unknown: Array) -> Array:
    """float64[n]: the share of control draws that fool on each example; NaN without controls."""
    return np.mean([control.fooled for control in controls], axis=0) if controls else unknown


def _share(values: Array, given: Array) -> Rate:
    """The mean of the values over the examples given."""
    count = float(given.sum())
    value = float((values * given).sum() / count) if count else np.nan
    return Rate(None if np.isnan(value) else value, n=int(count))


def _wilson(hits: Array, given: Array) -> Rate:
    """The share of the examples given that are hit, with Wilson's interval; none where there are no examples, or where
    the share is not known. Examples may be hit in part, as by some of several draws."""
    share = _share(hits, given)
    if share.value is None or share.n is None:
        return share
    low, high = wilson(share.value * share.n, share.n)
    return Rate(share.value, low, high, share.n)


def _best(rates: Sequence[Rate]) -> Rate:
    """The largest of some rates; of none, one that is not known."""
    return max(rates, key=lambda rate: rate.value or 0.0, default=Rate(None))


def _shifted(transfer: Rate, control: float | None, gain: float | None) -> Rate:
    """Excess transfer with the interval of T moved by N."""
    if gain is None or control is None or transfer.low is None or transfer.high is None:
        return Rate(gain, n=transfer.n)
    return Rate(gain, float(excess(transfer.low, control)), float(excess(transfer.high, control)), transfer.n)


def _divided(gain: Rate, own_gain: float | None, value: float | None) -> Rate:
    """Relative transfer with the interval of E, over E on the source."""
    if value is None or not own_gain or gain.low is None or gain.high is None:
        return Rate(value, n=gain.n)
    return Rate(value, gain.low / own_gain, gain.high / own_gain, gain.n)


def _joined(rate: Rate, draws: Array) -> Rate:
    """A rate whose interval holds that of its resamples too. Percentiles of resamples alone have no width where all
    examples agree, and cover too little near 0 and 1; Wilson's interval alone knows nothing of the control's."""
    found = interval(draws) if rate.value is not None else None
    if found is None or rate.low is None or rate.high is None:
        return rate if found is None else Rate(rate.value, *found, rate.n)
    return Rate(rate.value, min(rate.low, found[0]), max(rate.high, found[1]), rate.n)


def _gain(transfer: float | None, control: float | None) -> float | None:
    """Excess transfer; None where it is not defined."""
    if transfer is None or control is None:
        return None
    value = float(excess(transfer, control))
    return value if np.isfinite(value) else None
