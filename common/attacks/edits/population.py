"""Substitution searches that keep many edits at once, that climb at random or along gradients, or that see labels only.

Each is a generator for one example, as in `carom.common.attacks.edits.greedy`, and draws from that example's own stream.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from carom.common.attacks.edits.editable import Edit, Editable, affordable, spent
from carom.common.attacks.edits.requests import (
    EditScores,
    EditSearch,
    Found,
    ScoreEdits,
    ScoreMoves,
    ended,
    enough,
    share,
)
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng


class Draws:
    """Uniform numbers from one stream, one after another."""

    def __init__(self, rng: Rng) -> None:
        self.rng, self.block, self.left = rng, 0, []  # type: tuple[Rng, int, list[float]]

    def number(self) -> float:
        """In [0, 1)."""
        if not self.left:
            self.left = self.rng.fold("draws", self.block).uniform(256)[0].tolist()
            self.block += 1
        return self.left.pop()

    def below(self, count: int) -> int:
        return min(count - 1, int(self.number() * count))

    def weighted(self, weights: Sequence[float]) -> int:
        """A position, as often as its weight says."""
        mark = self.number() * math.fsum(weights)
        for at, weight in enumerate(weights):
            mark -= weight
            if mark < 0:
                return at
        return max(at for at, weight in enumerate(weights) if weight > 0)


@dataclass(frozen=True)
class Member:
    """One edit and what it scores."""

    edit: Edit
    score: float
    reached: bool


def best_of(members: Sequence[Member]) -> Member:
    return max(members, key=lambda m: (m.reached, m.score))


def within_limit(example: Editable, edit: Edit, draws: Draws) -> dict[int, int]:
    """The edit without as many of its changes, at random, as the limit does not allow."""
    kept = dict(edit)
    while spent(example, kept) > example.limit:
        del kept[sorted(kept)[draws.below(len(kept))]]
    return kept


def _site(example: Editable, member: Member, draws: Draws, again: bool) -> int | None:
    """A site to change, the likelier the more options it has; `again`: also one that is changed already."""
    full = spent(example, member.edit) >= example.limit
    weights = [
        0 if (site in member.edit and not again) or (full and site not in member.edit) else size
        for site, size in enumerate(example.sizes)
    ]
    return draws.weighted(weights) if any(weights) else None


def perturbed(
    example: Editable, members: Sequence[Member], draws: Draws, again: bool
) -> Generator[ScoreEdits, EditScores, tuple[list[Member], bool]]:
    """Each member with one random site at its best option, if that is better than what it was; and whether the query
    budget is used up."""
    rows: list[dict[int, int]] = []
    owners: list[int] = []
    for at, member in enumerate(members):
        site = _site(example, member, draws, again)
        if site is None:
            continue
        for option in range(example.sizes[site]):
            row = {**member.edit, site: option}
            if spent(example, row) <= example.limit:
                rows.append(row)
                owners.append(at)
    if not rows:
        return list(members), False
    answer = yield ScoreEdits(rows)
    found = list(members)
    for row, owner, score, reached in zip(rows, owners, answer.scores, answer.reached, strict=False):
        if (reached, score) > (found[owner].reached, found[owner].score):
            found[owner] = Member(row, score, reached)
    return found, answer.over


@dataclass(frozen=True)
class Genetic:
    """A population of edits: the best survives, children take each word from one of two parents, and one random word
    of each is set to its best option (Alzantot et al. 2018, Alg. 1, without its language model).

    `improved` is Wang et al. 2019 (IGA): the first members change one word each, every word in turn; children take what
    lies before a random place from one parent and the rest from the other; words may be changed again. `samples`:
    members; `steps`: generations; `temperature`: of the choice of parents by their score.
    """

    samples: int = 60
    steps: int = 20
    temperature: float = 0.3
    improved: bool = False
    until: float | None = None

    def __post_init__(self) -> None:
        if self.samples < 2 or self.steps < 1 or self.temperature <= 0:
            raise CaromError("a genetic search needs samples=2 or more, steps=1 or more and a temperature above 0.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        draws, over = Draws(rng.fold("genetic")), clean.over
        origin = Member({}, clean.scores[0], False)
        if over:
            return Found({}, False, score=origin.score)
        if self.improved:
            members, over = yield from self._each_word(example, origin)
        else:
            members, over = yield from perturbed(example, [origin] * self.samples, draws, False)
        for _ in range(self.steps):
            best = best_of(members)
            if over or enough(best.score, best.reached, self.until):
                break
            top = max(share(m.score) for m in members)
            weights = [math.exp((share(m.score) - top) / self.temperature) for m in members]
            children: list[Edit] = []
            for _ in range(self.samples - 1):
                one, other = members[draws.weighted(weights)], members[draws.weighted(weights)]
                children.append(within_limit(example, self._child(example, one.edit, other.edit, draws), draws))
            answer = yield ScoreEdits(children)
            over = answer.over
            born = [Member(*facts) for facts in zip(children, answer.scores, answer.reached, strict=False)]
            if not over:
                born, over = yield from perturbed(example, born, draws, self.improved)
            members = [best, *born]
        best = best_of([origin, *members])
        return Found(best.edit, best.reached, score=best.score)

    def _each_word(
        self, example: Editable, origin: Member
    ) -> Generator[ScoreMoves, EditScores, tuple[list[Member], bool]]:
        """The best option of each site by itself: as many as there is room for, the best first."""
        moves = affordable(example, {})
        answer = yield ScoreMoves({}, moves)
        found: dict[int, Member] = {}
        for (site, option), score, reached in zip(moves, answer.scores, answer.reached, strict=False):
            if site not in found or (reached, score) > (found[site].reached, found[site].score):
                found[site] = Member({site: option}, score, reached)
        members = sorted(found.values(), key=lambda m: (-m.reached, -m.score))[: self.samples]
        return members or [origin], answer.over

    def _child(self, example: Editable, one: Edit, other: Edit, draws: Draws) -> Edit:
        if self.improved:
            cut = draws.below(len(example.sizes) + 1)
            return {**{s: o for s, o in one.items() if s < cut}, **{s: o for s, o in other.items() if s >= cut}}
        child: dict[int, int] = {}
        for site in sorted({*one, *other}):
            parent = one if draws.number() < 0.5 else other
            if site in parent:
                child[site] = parent[site]
        return child


@dataclass(frozen=True)
class Swarm:
    """Particle swarm over edits (Zang et al. 2020, section 4.2): each particle moves, word by word, to its own best
    edit and to the best of all, and is changed at a random word, the rarer the more it has changed.

    `samples`: particles; `steps`: moves. Its inertia falls from .8 to .2, and so do the chances to move to the own
    best, while those to move to the best of all rise. As a mutation, the random word takes its best option.
    """

    samples: int = 60
    steps: int = 20
    until: float | None = None

    def __post_init__(self) -> None:
        if self.samples < 1 or self.steps < 1:
            raise CaromError("a swarm needs samples=1 or more and steps=1 or more.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        draws, over = Draws(rng.fold("swarm")), clean.over
        origin = Member({}, clean.scores[0], False)
        if over:
            return Found({}, False, score=origin.score)
        particles, over = yield from perturbed(example, [origin] * self.samples, draws, False)
        own, best = list(particles), best_of([origin, *particles])
        sites = [site for site, size in enumerate(example.sizes) if size]
        speed = [[6 * draws.number() - 3 for _ in sites] for _ in particles]
        for step in range(self.steps):
            if over or enough(best.score, best.reached, self.until):
                break
            late = step / self.steps
            inertia = 0.8 - 0.6 * late
            moved: list[Edit] = []
            for at, particle in enumerate(particles):
                place = dict(particle.edit)
                for n, site in enumerate(sites):
                    pull = sum(1 if place.get(site) == m.edit.get(site) else -1 for m in (own[at], best))
                    speed[at][n] = inertia * speed[at][n] + (1 - inertia) * pull
                for goal, chance in ((own[at], 0.8 - 0.6 * late), (best, 0.2 + 0.6 * late)):
                    if draws.number() < chance:
                        for n, site in enumerate(sites):
                            if draws.number() < 1 / (1 + math.exp(-speed[at][n])):
                                place.pop(site, None)
                                if site in goal.edit:
                                    place[site] = goal.edit[site]
                moved.append(within_limit(example, place, draws))
            answer = yield ScoreEdits(moved)
            over = answer.over
            arrived = [Member(*facts) for facts in zip(moved, answer.scores, answer.reached, strict=False)]
            if len(arrived) < len(particles):
                best = best_of([best, *arrived])
                break
            particles = arrived
            changing = [
                at for at, p in enumerate(particles) if draws.number() < 1 - 2 * len(p.edit) / max(1, len(sites))
            ]
            if changing and not over:
                new, over = yield from perturbed(example, [particles[at] for at in changing], draws, True)
                for at, member in zip(changing, new, strict=True):
                    particles[at] = member
            own = [best_of([a, b]) for a, b in zip(own, particles, strict=True)]
            best = best_of([best, *own])
        return Found(best.edit, best.reached, score=best.score)


@dataclass(frozen=True)
class HillClimb:
    """Hill climbing: of `samples` random changes of one word, also of a changed one and back to the original, the best
    is made if it raises the score; `steps` times at most."""

    samples: int = 8
    steps: int = 40
    until: float | None = None

    def __post_init__(self) -> None:
        if self.samples < 1 or self.steps < 1:
            raise CaromError("hill climbing needs samples=1 or more and steps=1 or more.")

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        draws, over = Draws(rng.fold("climb")), clean.over
        now = Member({}, clean.scores[0], False)
        for _ in range(self.steps):
            if over or enough(now.score, now.reached, self.until):
                break
            rows: list[Edit] = []
            for _ in range(self.samples):
                site = _site(example, now, draws, True)
                if site is None:
                    continue
                row = dict(now.edit)
                option = draws.below(example.sizes[site] + (site in row))
                if option == example.sizes[site]:
                    del row[site]
                else:
                    row[site] = option
                if spent(example, row) <= example.limit:
                    rows.append(row)
            if not rows:
                continue
            answer = yield ScoreEdits(rows)
            over = answer.over
            for tried, score, reached in zip(rows, answer.scores, answer.reached, strict=False):
                if (reached, score) > (now.reached, now.score):
                    now = Member(tried, score, reached)
        return Found(now.edit, now.reached, score=now.score)
