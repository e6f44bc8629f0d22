"""Intervals and tests against published numbers, and their coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from carom.common.measure.stats import Bootstrap, excess, holm, interval, mcnemar, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(hits, n, low, high):
    """Newcombe 1998, Two-sided confidence intervals for the single proportion, table I, method 3."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=6e-5)


def test_wilson_at_its_ends_and_against_scipy():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 50)[0] == 0.0
    assert wilson(50, 50)[1] == 1.0
    for hits, n in ((3, 10), (50, 100), (999, 1000), (1, 1)):
        theirs = scipy_stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_is_symmetric():
    low, high = wilson(7, 40)
    assert wilson(33, 40) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("only_first", "only_second", "p"), [(1, 7, 0.039), (6, 16, 0.035)])
def test_mcnemar_mid_p_as_published(only_first, only_second, p):
    """Fagerland, Lydersen and Laake 2013, table 5: airway hyper-responsiveness and complete response."""
    assert mcnemar(only_first, only_second) == pytest.approx(p, abs=6e-4)
    assert mcnemar(only_second, only_first) == mcnemar(only_first, only_second)


def test_mcnemar_is_the_exact_test_less_half_of_what_was_seen():
    for a, b in ((0, 5), (3, 9), (40, 71), (300, 360)):
        exact = scipy_stats.binomtest(min(a, b), a + b).pvalue
        assert mcnemar(a, b) == pytest.approx(exact - scipy_stats.binom.pmf(min(a, b), a + b, 0.5))
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(12, 12) == pytest.approx(1.0)
    assert 0 < mcnemar(1500, 1700) < 0.001


def test_holm():
    """Holm 1979: p-values .01 .04 .03 .005 adjust to .03 .06 .06 .02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_excess():
    assert float(excess(0.6, 0.2)) == pytest.approx(0.5)
    assert float(excess(0.1, 0.2)) == pytest.approx(-0.125)
    assert float(excess(0.3, 0.0)) == pytest.approx(0.3)
    assert math.isnan(float(excess(1.0, 1.0)))
    assert np.isnan(excess(np.array([0.5, 1.0]), np.array([0.5, 1.0]))).tolist() == [False, True]


def test_intervals_need_enough_draws_that_are_defined():
    draws = np.linspace(0, 1, 1001)
    assert interval(draws) == pytest.approx((0.025, 0.975))
    few = draws.copy()
    few[:50] = np.nan
    assert interval(few) is not None
    few[:150] = np.nan
    assert interval(few) is None
    assert interval(np.array([np.nan])) is None


def test_resamples_are_paired_and_the_same_every_time():
    one, two = Bootstrap.of(40, draws=200), Bootstrap.of(40, draws=200)
    assert np.array_equal(one.counts, two.counts)
    assert not np.array_equal(one.counts, Bootstrap.of(40, draws=200, seed=1).counts)
    assert (one.counts.sum(1) == 40).all()
    rng = np.random.default_rng(0)
    values, among = (rng.random(40) < 0.5).astype(float), np.ones(40)
    # A rate minus itself has no spread, because both are drawn from the same resample.
    assert not (one.shares(values, among) - two.shares(values, among)).any()
    assert np.isnan(one.shares(values, np.zeros(40))).all()
    half = (np.arange(40) < 20).astype(float)
    drawn = one.shares(values, half)
    by_hand = [(w[:20] * values[:20]).sum() / w[:20].sum() for w in one.counts]
    assert np.allclose(drawn, by_hand)


def test_the_interval_of_excess_covers_the_truth():
    """Paired outcomes with known rates: 95 % intervals cover E in 91 to 98 % of 300 studies of 300 examples."""
    rng, n, studies, covered = np.random.default_rng(0), 300, 300, 0
    p_control, p_more = 0.1, 0.3  # what the control flips, the attack flips; and 30 % of the rest
    truth = (p_control + (1 - p_control) * p_more - p_control) / (1 - p_control)
    bootstrap = Bootstrap.of(n, draws=500)
    for _ in range(studies):
        propensity = rng.random(n) < p_control
        draws = np.stack([propensity ^ (rng.random(n) < 0.02) for _ in range(5)])
        attack = draws[0] | (rng.random(n) < p_more)
        among = (rng.random(n) < 0.85).astype(float)
        null = draws.mean(0)
        # E of these rates, exactly: the control's flips are noisy copies of one propensity.
        p_null = p_control * 0.98 + (1 - p_control) * 0.02
        truth = (p_null + (1 - p_null) * p_more - p_null) / (1 - p_null)
        gain = excess(bootstrap.shares(attack.astype(float), among), bootstrap.shares(null, among))
        low, high = interval(np.asarray(gain))
        covered += low <= truth <= high
    assert 0.91 <= covered / studies <= 0.98
