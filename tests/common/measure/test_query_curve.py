"""Success against queries: counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from carom.common.measure.query_curve import Share, marks, success_within
from carom.common.measure.stats import wilson


def test_marks_end_with_the_most():
    assert marks(0) == []
    assert marks(1) == [1]
    assert marks(2) == [1, 2]
    assert marks(700) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 700]


def test_counts_those_that_succeeded_by_then():
    queries, success = np.array([1, 4, 4, 9, 9]), np.array([True, True, False, True, False])
    shares = success_within(queries, success, [0, 1, 3, 4, 9, 100])
    assert [s.success for s in shares] == [0.0, 0.2, 0.2, 0.4, 0.6, 0.6]
    assert shares[3] == Share(4, 0.4, *wilson(2, 5))
    assert [s.queries for s in success_within(queries, success)] == [1, 2, 5, 9]


def test_the_curve_ends_at_the_success_of_the_attack_and_never_falls():
    rng = np.random.default_rng(0)
    queries, success = rng.integers(1, 400, 90), rng.random(90) < 0.6
    shares = [s.success for s in success_within(queries, success)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(success.mean())


def test_no_examples_no_curve():
    assert success_within(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)) == []
