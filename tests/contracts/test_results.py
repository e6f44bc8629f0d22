"""The same work gives the same bytes, whatever else is computed beside it."""

from __future__ import annotations

import random

import numpy as np
import torch

from carom.common.core.batch import Access


def same(case, one, other):
    assert case.stored(one) == case.stored(other)
    assert torch.equal(one.success, other.success)
    assert torch.equal(one.status, other.status)
    for name in ("forward", "backward", "queries"):
        assert torch.equal(getattr(one.cost, name), getattr(other.cost, name)), name


def pieces(case, size, order, count=None):
    """The attack on `size` examples at a time, in some order: rows in the order of the batch."""
    batch, rows = case.batch(), {}
    for start in range(0, len(order) if count is None else count, size):
        part = torch.tensor(order[start : start + size])
        result = case.run(batch.take(part))
        facts = (result.success, result.status, result.cost.forward, result.cost.backward, result.cost.queries)
        for at, example in enumerate(part.tolist()):
            rows[example] = (case.stored(result)[at], *(fact[at].item() for fact in facts))
    return rows


def test_same_seed_same_bytes(case):
    torch.manual_seed(1)
    one = case.run(seed=3)
    torch.manual_seed(2)
    np.random.seed(2)
    random.seed(2)
    same(case, one, case.run(seed=3))


def test_other_seeds_change_random_attacks_and_no_others(case):
    # An attack that sees labels only changes nothing before it has come inside the ball.
    queries = 200 if Access.LABEL in case.info.needs else None
    found = [case.stored(case.run(seed=seed, steps=2, queries=queries)) for seed in range(3)]
    changes = found[0] != found[1] or found[0] != found[2]
    assert changes == case.info.random


def test_batch_size_and_order_do_not_matter(case):
    """Stored bytes, success, status and every cost of each example. The toy models compute in float64 and the
    forests in comparisons, so that rows do not depend on their neighbours; in float32 a matrix product may differ in
    its last digit with the number of rows, and an attack may then decide otherwise where two choices are that close.
    """
    n = len(case.batch())
    whole = pieces(case, n, list(range(n)))
    assert pieces(case, 7, list(range(n))) == whole
    assert pieces(case, n, [int(i) for i in np.random.default_rng(0).permutation(n)]) == whole
    alone = pieces(case, 1, list(range(n)), count=6)
    assert alone == {i: whole[i] for i in alone}


def test_empty_and_single_batches(case):
    batch = case.batch()
    nothing = case.run(batch.take(torch.zeros(0, dtype=torch.long)))
    assert len(nothing.inputs) == len(nothing.success) == len(nothing.status) == len(nothing.cost.forward) == 0
    one = case.run(batch.take(torch.tensor([2])))
    assert len(one.inputs) == len(one.success) == len(one.status) == len(one.cost.queries) == 1
