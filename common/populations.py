"""Substitution searches that keep many edits at once, that climb at random or along gradients, or that see labels only.

Each is a generator for one example, as in `carom.common.substitution`, and draws from that example's own stream.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from carom.common.edits import Answer, Ask, Chosen, Editable, Found, Lean, Search, Try, affordable, spent
from carom.common.errors import CaromError
from carom.common.problem import Status
from carom.common.rng import Rng
from carom.common.substitution import ended, enough, share


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

    chosen: Chosen
    score: float
    reached: bool


def best_of(members: Sequence[Member]) -> Member:
    return max(members, key=lambda m: (m.reached, m.score))


def within_limit(example: Editable, chosen: Chosen, draws: Draws) -> dict[int, int]:
    """The edit without as many of its changes, at random, as the limit does not allow."""
    kept = dict(chosen)
    while spent(example, kept) > example.limit:
        del kept[sorted(kept)[draws.below(len(kept))]]
    return kept


def _site(example: Editable, member: Member, draws: Draws, again: bool) -> int | None:
    """A site to change, the likelier the more options it has; `again`: also one that is changed already."""
    full = spent(example, member.chosen) >= example.limit
    weights = [
        0 if (site in member.chosen and not again) or (full and site not in member.chosen) else size
        for site, size in enumerate(example.sizes)
    ]
    return draws.weighted(weights) if any(weights) else None


def perturbed(
    example: Editable, members: Sequence[Member], draws: Draws, again: bool
) -> Generator[Ask, Answer, tuple[list[Member], bool]]:
    """Each member with one random site at its best option, if that is better than what it was; and whether the query
    budget is used up."""
    rows: list[dict[int, int]] = []
    owners: list[int] = []
    for at, member in enumerate(members):
        site = _site(example, member, draws, again)
        if site is None:
            continue
        for option in range(example.sizes[site]):
            row = {**member.chosen, site: option}
            if spent(example, row) <= example.limit:
                rows.append(row)
                owners.append(at)
    if not rows:
        return list(members), False
    answer = yield Ask(rows)
    found = list(members)
    for row, owner, score, reached in zip(rows, owners, answer.scores, answer.reached, strict=False):
        if (reached, score) > (found[owner].reached, found[owner].score + answer.tie):
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

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
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
            children: list[Chosen] = []
            for _ in range(self.samples - 1):
                one, other = members[draws.weighted(weights)], members[draws.weighted(weights)]
                children.append(within_limit(example, self._child(example, one.chosen, other.chosen, draws), draws))
            answer = yield Ask(children)
            over = answer.over
            born = [Member(*facts) for facts in zip(children, answer.scores, answer.reached, strict=False)]
            if not over:
                born, over = yield from perturbed(example, born, draws, self.improved)
            members = [best, *born]
        best = best_of([origin, *members])
        return Found(best.chosen, best.reached, score=best.score)

    def _each_word(self, example: Editable, origin: Member) -> Generator[Try, Answer, tuple[list[Member], bool]]:
        """The best option of each site by itself: as many as there is room for, the best first."""
        moves = affordable(example, {})
        answer = yield Try({}, moves)
        found: dict[int, Member] = {}
        for (site, option), score, reached in zip(moves, answer.scores, answer.reached, strict=False):
            if site not in found or (reached, score) > (found[site].reached, found[site].score + answer.tie):
                found[site] = Member({site: option}, score, reached)
        members = sorted(found.values(), key=lambda m: (-m.reached, -m.score))[: self.samples]
        return members or [origin], answer.over

    def _child(self, example: Editable, one: Chosen, other: Chosen, draws: Draws) -> Chosen:
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

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
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
            moved: list[Chosen] = []
            for at, particle in enumerate(particles):
                place = dict(particle.chosen)
                for n, site in enumerate(sites):
                    pull = sum(1 if place.get(site) == m.chosen.get(site) else -1 for m in (own[at], best))
                    speed[at][n] = inertia * speed[at][n] + (1 - inertia) * pull
                for goal, chance in ((own[at], 0.8 - 0.6 * late), (best, 0.2 + 0.6 * late)):
                    if draws.number() < chance:
                        for n, site in enumerate(sites):
                            if draws.number() < 1 / (1 + math.exp(-speed[at][n])):
                                place.pop(site, None)
                                if site in goal.chosen:
                                    place[site] = goal.chosen[site]
                moved.append(within_limit(example, place, draws))
            answer = yield Ask(moved)
            over = answer.over
            arrived = [Member(*facts) for facts in zip(moved, answer.scores, answer.reached, strict=False)]
            if len(arrived) < len(particles):
                best = best_of([best, *arrived])
                break
            particles = arrived
            changing = [
                at for at, p in enumerate(particles) if draws.number() < 1 - 2 * len(p.chosen) / max(1, len(sites))
            ]
            if changing and not over:
                new, over = yield from perturbed(example, [particles[at] for at in changing], draws, True)
                for at, member in zip(changing, new, strict=True):
                    particles[at] = member
            own = [best_of([a, b]) for a, b in zip(own, particles, strict=True)]
            best = best_of([best, *own])
        return Found(best.chosen, best.reached, score=best.score)


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

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        draws, over = Draws(rng.fold("climb")), clean.over
        now = Member({}, clean.scores[0], False)
        for _ in range(self.steps):
            if over or enough(now.score, now.reached, self.until):
                break
            rows: list[Chosen] = []
            for _ in range(self.samples):
                site = _site(example, now, draws, True)
                if site is None:
                    continue
                row = dict(now.chosen)
                option = draws.below(example.sizes[site] + (site in row))
                if option == example.sizes[site]:
                    del row[site]
                else:
                    row[site] = option
                if spent(example, row) <= example.limit:
                    rows.append(row)
            if not rows:
                continue
            answer = yield Ask(rows)
            over = answer.over
            for tried, score, reached in zip(rows, answer.scores, answer.reached, strict=False):
                if (reached, score) > (now.reached, now.score + answer.tie):
                    now = Member(tried, score, reached)
        return Found(now.chosen, now.reached, score=now.score)


@dataclass(frozen=True)
class LabelsOnly:
    """A search that looks at labels and at no score: a random edit as large as the limit that is adversarial, from
    which one change after another is taken back as long as it stays so (Liu et al. 2023, HQA-Attack, section 3.2; Ye
    et al. 2022, LeapAttack, begins so too). `samples`: random edits tried.

    What follows there, exchanging the remaining words for more similar ones, is left out: options have no order here.
    """

    samples: int = 40

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise CaromError("at least one random edit is needed: samples=1 or more.")

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        draws, over = Draws(rng.fold("labels")), clean.over
        found: dict[int, int] | None = None
        for start in range(0, self.samples, 4):
            if over or found is not None:
                break
            rows = [_random(example, draws) for _ in range(min(4, self.samples - start))]
            answer = yield Ask(rows)
            over = answer.over
            hits = [row for row, hit in zip(rows, answer.reached, strict=False) if hit]
            found = dict(hits[0]) if hits else None
        if found is None:
            return Found({}, False)
        order = sorted(found)
        order = [order.pop(draws.below(len(order))) for _ in range(len(order))]
        for site in order:
            if over:
                break
            fewer = {s: o for s, o in found.items() if s != site}
            if not fewer:
                break
            answer = yield Ask([fewer])
            over = answer.over
            if answer.reached and answer.reached[0]:
                found = fewer
        return Found(found, True)


def _random(example: Editable, draws: Draws) -> dict[int, int]:
    """Random options at as many random sites as the limit allows."""
    sites, chosen, left = [s for s, size in enumerate(example.sizes) if size], {}, example.limit
    while sites and left > 0:
        site = sites.pop(draws.below(len(sites)))
        option = draws.below(example.sizes[site])
        if example.price(site, option) <= left:
            chosen[site] = option
            left -= example.price(site, option)
    return chosen


@dataclass(frozen=True)
class Relaxed:
    """Gradient ascent on a distribution over the options of every word, whose samples are relaxed by Gumbel-softmax
    (Guo et al. 2021, Gradient-based adversarial attacks against text transformers, section 3).

    Each step draws `samples` relaxed texts; Adam with rate `rate` climbs their objective, scaled to a largest slope of
    1, with `fluency` in favour of each word as it was: that stands in for the paper's terms of similarity and
    perplexity, and options are the threat's, not the whole vocabulary. `start` is the log-weight of a word's own place
    at first (15 in the paper, where every token may become any other). In the end the words that have left their place
    are changed, the surest first, one more in each of the rows that are asked; then `tries` samples are.
    """

    steps: int = 30
    samples: int = 1
    rate: float = 0.3
    temperature: float = 1.0
    fluency: float = 0.1
    start: float = 3.0
    tries: int = 10
    until: float | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.tries) < 1 or min(self.rate, self.temperature) <= 0:
            raise CaromError("GBDA needs steps, samples and tries of 1 or more, rate and temperature above 0.")

    def search(self, example: Editable, rng: Rng) -> Search:
        clean = yield Ask([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        over, sizes = clean.over, list(example.sizes)
        field = _Field(sizes)
        weights = np.where(field.own, self.start, 0.0)
        first, second = np.zeros_like(weights), np.zeros_like(weights)
        for step in range(1, self.steps + 1):
            if over:
                break
            slope = np.zeros_like(weights)
            for sample in range(self.samples):
                mixed = field.softmax(weights / self.temperature + self._noise(rng.fold("gumbel", step, sample), field))
                gains = yield Lean({}, field.split(mixed))
                if gains is None:
                    over = True
                    break
                if isinstance(gains, Status):
                    return Found({}, False, gains) if step == 1 else Found({}, False)
                gain = np.full_like(weights, self.fluency)
                flat = np.array([value for own in gains for value in own])
                gain[~field.own] = flat / (np.abs(flat).max() or 1.0)
                slope += mixed * (gain - field.spread(np.add.reduceat(mixed * gain, field.begin)))
            slope /= self.temperature * self.samples
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2  # Adam
            weights = weights + self.rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        return (yield from self._settle(example, clean.scores[0], over, field, weights, rng))

    def _noise(self, rng: Rng, field: _Field) -> NDArray[np.float64]:
        drawn = rng.uniform(len(field.own))[0].double().numpy()
        return -np.log(-np.log(drawn.clip(1e-12, 1 - 1e-12))) / self.temperature

    def _settle(
        self,
        example: Editable,
        score: float,
        over: bool,
        field: _Field,
        weights: NDArray[np.float64],
        rng: Rng,
    ) -> Search:
        """The best of the texts that the distribution stands for."""
        away = np.where(field.own, -np.inf, weights)
        lead = np.maximum.reduceat(away, field.begin) - weights[field.begin]
        tops = field.first(away)
        rows: list[Chosen] = [{}]
        for n in np.argsort(-lead, kind="stable").tolist():
            if spent(example, row := {**rows[-1], **field.move(tops[n])}) <= example.limit:
                rows.append(row)
        draws = Draws(rng.fold("settle"))
        for sample in range(self.tries):
            noisy = weights / self.temperature + self._noise(rng.fold("sample", sample), field)
            picked = {site: option for at in field.first(noisy) for site, option in field.move(at).items()}
            rows.append(within_limit(example, picked, draws))
        best = Member({}, score, False)
        asked = [row for row in dict.fromkeys(tuple(sorted(row.items())) for row in rows) if row]
        if not over and asked:
            answer = yield Ask([dict(pairs) for pairs in asked])
            for pairs, value, reached in zip(asked, answer.scores, answer.reached, strict=False):
                stops = enough(best.score, best.reached, self.until)
                if not stops and (reached, value) > (best.reached, best.score + answer.tie):
                    best = Member(dict(pairs), value, reached)
        return Found(best.chosen, best.reached, score=best.score)


class _Field:
    """The places of an example: for each site that has options, its own place and one for each option, in a row."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.moves = [(site, option) for site, size in enumerate(sizes) for option in range(-1, size) if size]
        self.own = np.array([option < 0 for _, option in self.moves])
        self.begin = np.flatnonzero(self.own)
        self.counts = np.diff(np.append(self.begin, len(self.moves)))

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """A number for each site, at all of its places."""
        return np.repeat(values, self.counts)

    def softmax(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = np.exp(values - self.spread(np.maximum.reduceat(values, self.begin)))
        return powers / self.spread(np.add.reduceat(powers, self.begin))

    def first(self, values: NDArray[np.float64]) -> list[int]:
        """The place of the highest value of each site."""
        ends = [*self.begin.tolist(), len(values)]
        return [a + int(values[a:b].argmax()) for a, b in pairwise(ends)]

    def move(self, at: int) -> dict[int, int]:
        site, option = self.moves[at]
        return {site: option} if option >= 0 else {}

    def split(self, values: NDArray[np.float64]) -> list[list[float]]:
        """[site][option]"""
        flat = iter(values[~self.own].tolist())
        return [[next(flat) for _ in range(size)] for size in self.sizes]
