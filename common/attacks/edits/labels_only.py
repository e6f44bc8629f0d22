"""A search that sees labels only (HLA-style): from a random start back towards the clean input."""

from __future__ import annotations

from dataclasses import dataclass

from carom.common.attacks.edits.editable import Editable
from carom.common.attacks.edits.population import Draws
from carom.common.attacks.edits.requests import EditSearch, Found, ScoreEdits, ended
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng


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

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        clean = yield ScoreEdits([{}])
        stop = ended(clean, example)
        if stop is not None:
            return stop
        draws, over = Draws(rng.fold("labels")), clean.over
        found: dict[int, int] | None = None
        for start in range(0, self.samples, 4):
            if over or found is not None:
                break
            rows = [_random(example, draws) for _ in range(min(4, self.samples - start))]
            answer = yield ScoreEdits(rows)
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
            answer = yield ScoreEdits([fewer])
            over = answer.over
            if answer.reached and answer.reached[0]:
                found = fewer
        return Found(found, True)


def _random(example: Editable, draws: Draws) -> dict[int, int]:
    """Random options at as many random sites as the limit allows."""
    sites, edit, left = [s for s, size in enumerate(example.sizes) if size], {}, example.limit
    while sites and left > 0:
        site = sites.pop(draws.below(len(sites)))
        option = draws.below(example.sizes[site])
        if example.price(site, option) <= left:
            edit[site] = option
            left -= example.price(site, option)
    return edit
