"""Square on images: its patterns, its budget, and that it does what a query attack must."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from carom.common.attacks.query.random_search import Turn
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Budget, Problem, Status
from carom.common.core.threats import Linf
from carom.vision.attacks import ATTACKS
from carom.vision.attacks.query import Squares, square
from carom.vision.models.load import load_model
from carom.vision.space import PIXELS


class Colours(nn.Module):
    """Class 0 where the picture is dark, class 1 where it is bright."""

    def forward(self, x):
        bright = x.mean((1, 2, 3))
        return torch.stack([0.5 - bright, bright - 0.5], 1) * 10


def problem(n=12, eps=0.1, queries=None, level=0.45):
    generator = torch.Generator().manual_seed(0)
    inputs = PIXELS.round((torch.rand(n, 3, 9, 7, generator=generator) - 0.5) * 0.2 + level)
    labels = torch.zeros(n, dtype=torch.long)
    model = load_model(Colours(), normalise=None, classes=["dark", "bright"])
    batch = Batch(inputs, labels, [f"x{i}" for i in range(n)])
    return Problem(model, Goal(labels), Linf(eps), Budget(queries)), batch


def test_first_pattern_is_vertical_stripes():
    pattern = Squares().first(torch.Size((4, 3, 9, 7)), Rng.of(0, "abcd"))
    assert pattern.shape == (4, 3, 9, 7)
    assert set(pattern.unique().tolist()) == {-1.0, 1.0}
    assert (pattern == pattern[:, :, :1]).all()
    assert (pattern != pattern[:, :, :, :1]).any()


@pytest.mark.parametrize(("progress", "side"), [(0.0005, 7), (0.15, 2), (0.99, 1)])
def test_next_changes_one_square_of_one_sign_per_channel(progress, side):
    rng = Rng.of(0, [str(i) for i in range(64)])
    before = Squares().first(torch.Size((64, 3, 9, 7)), rng)
    after = Squares().next(before, Turn(progress, torch.zeros(64, dtype=torch.long), rng.fold("query", 5), rng))
    changed = (before != after).any(1)
    assert changed.flatten(1).any(1).all(), "a proposal that changes nothing wastes a query"
    for example in range(64):
        rows, columns = changed[example].nonzero(as_tuple=True)
        assert rows.max() - rows.min() < side
        assert columns.max() - columns.min() < side
        for channel in range(3):
            here = after[example, channel][before[example, channel] != after[example, channel]]
            assert len(here.unique()) <= 1


def test_squares_reach_every_pixel():
    rng = Rng.of(0, [str(i) for i in range(2000)])
    before = torch.ones(2000, 1, 6, 6)
    turn = Turn(0.99, torch.zeros(2000, dtype=torch.long), rng, rng)
    changed = (Squares().next(before, turn) != before).float().sum((0, 1))
    assert (changed > 0).all()


def test_finds_what_the_budget_allows_and_stops_there():
    task, batch = problem()
    result = square(queries=200)(task, batch, Rng.of(0, batch.ids))
    assert result.success.all()
    assert Linf(0.1).allows(result.inputs, batch.inputs).all()
    assert torch.equal(PIXELS.round(result.inputs), result.inputs)
    assert (result.cost.queries < 200).all()
    assert (result.cost.backward == 0).all()


def test_keep_going_spends_the_budget_and_widens_the_margin():
    task, batch = problem()
    rng = Rng.of(0, batch.ids)
    short, long = (square(queries=200, keep_going=k)(task, batch, rng) for k in (False, True))
    gap = [task.model(r.inputs).logits.diff(dim=1).squeeze(1) for r in (short, long)]
    assert (gap[1] >= gap[0]).all()
    assert gap[1].mean() > gap[0].mean() + 0.1
    assert (long.cost.queries == 200).all()


def test_never_asks_more_than_the_problem_allows():
    task, batch = problem(level=0.1, queries=17)
    result = square(queries=1000)(task, batch, Rng.of(0, batch.ids))
    assert not result.success.any()
    assert (result.cost.queries <= 17).all()


def test_does_not_depend_on_the_batch():
    task, batch = problem()
    rng = Rng.of(3, batch.ids)
    whole = square(queries=40)(task, batch, rng)
    for rows in (torch.tensor([5]), torch.tensor([11, 0, 7])):
        part = square(queries=40)(replace(task, goal=task.goal.take(rows)), batch.take(rows), rng[rows])
        assert torch.equal(part.inputs, whole.inputs[rows])
        assert torch.equal(part.cost.queries, whole.cost.queries[rows])


def test_leaves_what_is_wrong_already():
    task, batch = problem(level=0.6)
    result = square(queries=40)(task, batch, Rng.of(0, batch.ids))
    assert (result.status == Status.SKIPPED).all()
    assert torch.equal(result.inputs, batch.inputs)


def test_targeted_reaches_its_target():
    task, batch = problem()
    goal = Goal(batch.labels, torch.ones_like(batch.labels))
    result = square(queries=200)(replace(task, goal=goal), batch, Rng.of(0, batch.ids))
    assert result.success.all()
    assert (task.model(result.inputs).logits.argmax(1) == 1).all()


def test_registry_names_papers_and_builds():
    assert {"fgsm", "bim", "pgd", "mi-fgsm", "leaf-path", "soft-leaf-path", "square"} <= set(ATTACKS)
    for info in ATTACKS.values():
        assert re.search(r"\b(19|20)\d\d\b", info.reference)
        assert info.build()
