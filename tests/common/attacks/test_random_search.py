"""Random search: it asks about what is saved, keeps what helps, and stops when it may."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from carom.common.attacks.query.random_search import SQUARE_SCHEDULE, Everywhere, RandomSearch, shrinking
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.problem import Budget, Problem, Status
from carom.common.core.spaces import Box
from carom.common.core.threats import L2, Linf
from carom.common.models.functions import FunctionModel

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
IDS = [f"e{i}" for i in range(12)]
D = 10


@dataclass(frozen=True)
class Flips(Everywhere):
    """One random sign at a time."""

    def first(self, shape, rng):
        return rng.signs(*shape[1:])

    def next(self, pattern, turn):
        at = turn.rng.fold("at").integers(pattern.shape[1], 1)
        return torch.where(torch.arange(pattern.shape[1]) == at, -pattern, pattern)


class Watch:
    """Scores (sum of x, what it takes to be fooled); notes every question."""

    def __init__(self, needed):
        self.needed, self.asked = needed, []

    def __call__(self, x):
        self.asked.append(torch.from_numpy(x).clone())
        total = x.sum(1, keepdims=True)
        return torch.cat([torch.full((len(x), 1), self.needed), torch.from_numpy(total)], 1).numpy()


def setup(needed, eps=0.1):
    watch = Watch(needed)
    model = FunctionModel(
        watch,
        name="watch",
        modality="image",
        family="other",
        space=PIXELS,
        classes=("a", "b"),
        digest="0",
        probabilities=False,
    )
    batch = Batch(PIXELS.round(0.5 + torch.zeros(12, D)), torch.zeros(12, dtype=torch.long), IDS)
    return watch, batch, Problem(model, Goal(batch.labels), Linf(eps))


def test_square_schedule_is_the_papers():
    """Andriushchenko et al. 2020, supplementary B: p halves at 10, 50, 200, 1000, 2000, 4000, 6000, 8000 of 10000."""
    assert [round(mark * 10000) for mark in SQUARE_SCHEDULE] == [10, 50, 200, 1000, 2000, 4000, 6000, 8000]
    assert shrinking(0.8, 0.0005) == 0.8
    assert shrinking(0.8, 0.003) == 0.4
    assert shrinking(0.8, 0.9) == 0.8 / 256


def test_the_optimum_of_a_monotone_model_is_found():
    """All signs up is best; single flips that help are kept, so enough queries find it."""
    _, batch, problem = setup(needed=50.0)
    result = RandomSearch(Flips(), queries=200)(problem, batch, Rng.of(0, IDS))
    step = torch.tensor(25 / 255)  # 0.1, on the lattice
    assert torch.allclose(result.inputs, batch.inputs + step, atol=1e-6)
    assert result.cost.queries.tolist() == [200] * 12
    assert result.cost.forward.tolist() == [201] * 12
    assert not result.success.any()


def test_what_is_asked_is_what_is_saved():
    watch, batch, problem = setup(needed=50.0)
    RandomSearch(Flips(), queries=20)(problem, batch, Rng.of(0, IDS))
    for x in watch.asked:
        assert torch.equal(PIXELS.round(x), x)
        assert problem.threat.allows(x, batch.inputs[: len(x)]).all()


def test_examples_stop_asking_when_they_are_fooled():
    watch, batch, problem = setup(needed=5.3)
    result = RandomSearch(Flips(), queries=100)(problem, batch, Rng.of(0, IDS))
    assert result.success.all()
    assert len(result.cost.queries.unique()) > 2
    assert result.cost.queries.max() < 100
    sizes = [len(x) for x in watch.asked]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)  # fewer and fewer live rows; the last asks about all again
    assert sum(sizes) == result.cost.forward.sum()


def test_keep_going_widens_the_margin():
    _, batch, problem = setup(needed=5.3)
    stopped = RandomSearch(Flips(), queries=100)(problem, batch, Rng.of(0, IDS))
    went_on = RandomSearch(Flips(), queries=100, keep_going=True)(problem, batch, Rng.of(0, IDS))
    assert (went_on.inputs.sum(1) > stopped.inputs.sum(1) + 0.1).all()
    assert went_on.cost.queries.tolist() == [100] * 12


def test_what_is_wrong_already_is_skipped_unless_it_is_to_transfer():
    _, batch, problem = setup(needed=-1.0)
    result = RandomSearch(Flips(), queries=50)(problem, batch, Rng.of(0, IDS))
    assert result.status.eq(Status.SKIPPED).all()
    assert result.success.all()
    assert torch.equal(result.inputs, batch.inputs)
    assert result.cost.queries.tolist() == [1] * 12
    further = RandomSearch(Flips(), queries=50, keep_going=True)(problem, batch, Rng.of(0, IDS))
    assert (further.inputs.sum(1) > batch.inputs.sum(1)).all()
    assert further.status.eq(Status.DONE).all()


@pytest.mark.parametrize("limit", [0, 1, 2, 17])
def test_budgets_are_hard(limit):
    _, batch, problem = setup(needed=50.0)
    problem = Problem(problem.model, problem.goal, problem.threat, Budget(limit))
    result = RandomSearch(Flips(), queries=50)(problem, batch, Rng.of(0, IDS))
    assert result.cost.queries.tolist() == [limit] * 12
    assert result.status.eq(Status.INFEASIBLE if limit == 0 else Status.DONE).all()


class Noisy(Watch):
    """Looks at the first component alone; its scores are off by a few units of rounding, others at each question."""

    def __init__(self, seed):
        super().__init__(50.0)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, x):
        scores = torch.stack([torch.full((len(x),), 3.0), torch.from_numpy(x[:, 0]) - 5.0], 1)
        return (scores * (1 + 3e-7 * torch.randn(scores.shape, generator=self.generator))).numpy()


@pytest.mark.parametrize("keep_going", [False, True])
def test_ties_are_decided_the_same_way_whatever_the_last_digits_are(keep_going):
    found = []
    for seed in range(3):
        _, batch, problem = setup(needed=50.0)
        problem.model.function = Noisy(seed)
        found.append(RandomSearch(Flips(), queries=60, keep_going=keep_going)(problem, batch, Rng.of(0, IDS)).inputs)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert (found[0] != batch.inputs).any()


@pytest.mark.parametrize("beyond", [1e-7, 1e-3])
def test_the_goal_is_taken_by_however_little_it_is_reached(beyond):
    _, batch, problem = setup(needed=50.0)

    def barely(x):
        """All signs but the first example's own are ignored; its sign decides by less than a tie, or by more."""
        hit = torch.from_numpy(x[:, 0] > 0.5)
        return torch.stack([torch.zeros(len(x)), torch.where(hit, beyond, -beyond / 2)], 1).numpy()

    problem.model.function = barely
    result = RandomSearch(Flips(), queries=100)(problem, batch, Rng.of(0, IDS))
    assert result.success.all()
    assert (result.cost.queries < 100).all()


def test_it_works_in_an_l2_ball_too():
    _, batch, problem = setup(needed=50.0)
    problem = Problem(problem.model, problem.goal, L2(0.2))
    result = RandomSearch(Flips(), queries=100)(problem, batch, Rng.of(0, IDS))
    assert L2(0.2).allows(result.inputs, batch.inputs).all()
    assert (result.inputs.sum(1) > batch.inputs.sum(1) + 0.5).all()
