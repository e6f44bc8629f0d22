"""A cell is written and read under the names that users know."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest

from carom.common.measure.cells import Cell, Spent, Terms, cell_of, row_of
from carom.common.measure.rates import MEASURES, Judged, Measure, Rate, Rates, Verdict
from carom.common.measure.stats import Bootstrap, wilson

COLUMNS = (
    *("source", "target", "source_family", "target_family", "attack", "matched", "threat", "eps", "seed", "n"),
    *("transfer", "transfer_low", "transfer_high", "control", "control_low", "control_high"),
    *("excess", "excess_low", "excess_high", "relative", "relative_low", "relative_high"),
    *("conditional", "conditional_n", "same_mistake", "swapped", "margin_drop"),
    *("white_box", "white_box_low", "white_box_high", "white_box_n", "white_box_control"),
    *("targeted", "targeted_control", "forward", "backward", "queries", "seconds", "size", "warnings"),
    "control_limit",
)


def made(**changes) -> Cell:
    rates = {f.name: Rate(k / 16, n=7) for k, f in enumerate(fields(Rates))}
    for k, name in enumerate(("transfer", "control", "excess", "relative", "white_box")):
        rates[name] = Rate(k / 8, k / 8 - 0.01, k / 8 + 0.01, 7)
    rates |= {"n": 7, "margin_drop": 1.5, "conditional": Rate(0.5, n=4), "white_box": Rate(0.9, 0.8, 0.95, 9)}
    given = {
        **{"source": "s", "target": "t", "source_family": "cnn", "target_family": "rnn", "attack": "pgd"},
        **{"terms": Terms("linf 8/255", 8 / 255), "seed": 3, "rates": Rates(**rates)},
        **{"spent": Spent(4.0, 3.0, 2.0, 0.25), "size": {"ssim": {"median": 0.5, "mean": 0.25}, "changed": 1.0}},
        **{"warnings": ("few",), "control_limit": 0.1},
    }
    return Cell(**{**given, **changes})


def test_columns_are_what_they_were_and_what_is_new_comes_last():
    row = row_of(made())
    assert tuple(row) == (*COLUMNS, "blind", "blind_low", "blind_high")
    assert (row["n"], row["conditional_n"], row["white_box_n"], row["warnings"]) == (7, 4, 9, ["few"])
    assert (row["excess"], row["excess_low"], row["excess_high"]) == (0.25, 0.24, 0.26)


def test_cells_at_equal_success_and_cost_have_columns_of_their_own():
    matched = row_of(made(terms=Terms("linf 1", 1.0, 0.5), at_level=False, why="out of reach"))
    assert set(matched) - {*row_of(made())} == {"at_level", "why"}
    assert matched["matched"] == 0.5
    curve = row_of(made(terms=Terms("linf 1", 1.0, unit="gradients", allowed=10)))
    assert set(curve) - {*row_of(made())} == {"unit", "allowed"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"terms": Terms("linf 1", 1.0, 0.5), "at_level": True},
        {"terms": Terms("words 0.3", None, unit="queries", allowed=100), "size": None, "warnings": ()},
        {"spent": Spent(None, None, None, None), "control_limit": None},
    ],
)
def test_a_row_read_back_is_the_same_row(changes):
    cell = made(**changes)
    row = json.loads(json.dumps(row_of(cell)))
    assert row_of(cell_of(row)) == row
    again = cell_of(row)
    assert (again.terms, again.spent, again.warnings) == (cell.terms, cell.spent, cell.warnings)
    for name in MEASURES:
        assert again.rate(name).value == cell.rate(name).value


def test_what_a_row_lacks_is_not_known():
    cell = cell_of({"source": "s", "target": "s", "attack": "pgd", "seed": 0})
    assert cell.own
    assert cell.rates.excess == Rate(None)
    assert not cell.high_control


def test_the_control_is_high_beyond_its_limit():
    rates = made().rates
    assert rates.white_box_control.value > 0.1
    assert made().high_control
    assert not made(control_limit=rates.white_box_control.value).high_control


def verdict(right: str, fooled: str, kind: str = "", gap: float = 0.0) -> Verdict:
    """From strings of 0 and 1."""
    first, second = (np.array([c == "1" for c in text]) for text in (right, fooled))
    return Verdict(first, second, np.array(list(kind or "x" * len(right))), np.full(len(right), gap))


def test_every_rate_says_over_how_many_examples_it_is():
    """Both are right on the first six of eight; the source is fooled on four of its seven, the target on three of J."""
    source, target = verdict("11111110", "00000000"), verdict("11111101", "00000000", gap=2.0)
    own = Judged(verdict("0" * 8, "11110000", "aabbcccc"), [verdict("1" * 8, "0" * 8)] * 2, verdict("1" * 8, "0" * 8))
    other = Judged(
        verdict("0" * 8, "10101001", "abbacccc", -1.0),
        [verdict("1" * 8, "00000100"), verdict("1" * 8, "0" * 8)],
        verdict("1" * 8, "01000000"),
    )
    rates, draws = Measure(Bootstrap.of(8), source, own).rates(target, other)
    assert rates.n == 6
    assert rates.transfer == Rate(3 / 6, *wilson(3, 6), 6)
    assert rates.control.value == pytest.approx(0.5 / 6)
    assert rates.excess.value == pytest.approx((1 / 2 - 1 / 12) / (1 - 1 / 12))
    assert rates.relative.value == pytest.approx(rates.excess.value / (4 / 6))
    assert rates.conditional == Rate(2 / 4, *wilson(2, 4), 4)
    assert rates.same_mistake == Rate(
        2 / 3, *wilson(2, 3), 3
    )  # a and b; where the source is not fooled nothing is the same
    assert rates.swapped == Rate(1 / 6, *wilson(1, 6), 6)
    assert rates.margin_drop == 3.0
    assert rates.white_box == Rate(4 / 7, *wilson(4, 7), 7)
    assert rates.white_box_control == Rate(0.0, *wilson(0, 7), 7)
    assert rates.targeted == Rate(None)
    assert len(draws) == 2000


@pytest.mark.parametrize(("fooled", "null"), [("0" * 50, "0" * 50), ("1" * 50, "0" * 50), ("1" + "0" * 49, "0" * 50)])
def test_no_interval_is_without_width(fooled, null):
    """Percentiles of resamples that all agree are one number: Wilson's interval of T, moved by N, stands beside them."""
    right = verdict("1" * 50, "0" * 50)
    judged = Judged(verdict("0" * 50, fooled), [verdict("1" * 50, null)], verdict("1" * 50, "0" * 50))
    own = Judged(verdict("0" * 50, "1" * 50), [verdict("1" * 50, "0" * 50)], verdict("1" * 50, "0" * 50))
    rates, _ = Measure(Bootstrap.of(50), right, own).rates(right, judged)
    for name in (
        "transfer",
        "control",
        "excess",
        "relative",
        "conditional",
        "swapped",
        "white_box",
        "white_box_control",
    ):
        rate = getattr(rates, name)
        assert rate.low < rate.high, name
        assert rate.low <= rate.value <= rate.high, name


@pytest.mark.parametrize(("t", "n"), [(0.01, 0.0), (0.05, 0.02), (0.5, 0.1), (0.99, 0.02)])
def test_intervals_cover_the_truth(t, n):
    """Of 200 studies of 50 examples whose truth is known, 90 % or more of the intervals of E hold it."""
    rng, bootstrap, held, right = np.random.default_rng(1), Bootstrap.of(50), 0, verdict("1" * 50, "0" * 50)
    for _ in range(200):
        words = ["".join("01"[int(hit)] for hit in rng.random(50) < share) for share in (t, n, n, n)]
        attacked, *controls = (verdict("1" * 50, word) for word in words)
        rates, _ = Measure(bootstrap, right, None).rates(right, Judged(attacked, controls, right))
        held += rates.excess.low <= (t - n) / (1 - n) <= rates.excess.high
    assert held >= 180
