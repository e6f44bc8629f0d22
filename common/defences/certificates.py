"""How far the answers of a smoothed model are certified (Cohen, Rosenfeld and Kolter 2019, CERTIFY)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.base.notices import notice
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, take
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.defences.defended import undefended
from carom.common.defences.smoothing import Smoothed, lower_bound
from carom.common.measure.stats import wilson

ABSTAINED = -1
KEPT = 0.8
"""Of a model's clean accuracy, what is left under noise at least if it was trained with it."""


@dataclass(frozen=True)
class Certificates:
    """What is certified of N examples: no change of size up to `radii` changes the answer of the smoothed model; each holds
    but for a chance of `alpha`."""

    model: str
    data: str
    unit: str  # of the radii: "L2 distance", "words"
    ids: Sequence[str]
    labels: Tensor  # int64[N]
    answers: Tensor  # int64[N]; ABSTAINED where none is certified
    low: Tensor  # float64[N]: the lower bound of the answer's probability under the change
    radii: Tensor  # float64[N]; NaN where it abstains
    terms: dict[str, Tensor]  # the radii in other units, float64[N] each
    alpha: float
    draws: int

    @property
    def abstained(self) -> float:
        """The share of examples without a certificate."""
        return float((self.answers == ABSTAINED).double().mean())

    def accuracy(self, radius: float = 0.0) -> tuple[float, float, float]:
        """Certified accuracy at a radius, with its 95 % interval: the share of examples that are answered right whatever
        change of at most that size is made."""
        hits = int(((self.answers == self.labels) & (self.radii >= radius)).sum())
        return hits / len(self.ids), *wilson(hits, len(self.ids))

    def rows(self) -> list[dict[str, Any]]:
        """One dict an example."""
        found = []
        for at, name in enumerate(self.ids):
            certified = int(self.answers[at]) != ABSTAINED
            row: dict[str, Any] = {"id": name, "label": int(self.labels[at]), "low": float(self.low[at])}
            row["answer"] = int(self.answers[at]) if certified else None
            row["radius"] = float(self.radii[at]) if certified else None
            found.append(row | {k: float(v[at]) if certified else None for k, v in self.terms.items()})
        return found

    def steps(self, count: int = 6) -> list[float]:
        """Radii to tell the accuracy at: from 0 to the largest, in equal steps; of whole numbers each."""
        known = self.radii[self.radii.isfinite()]
        most = float(known.max()) if len(known) else 0.0
        if bool((known == known.round()).all()):
            by = max(1, -(-int(most) // (count - 1)))
            return [float(radius) for radius in range(0, int(most) + 1, by)]
        return [float(f"{most * at / count:.2g}") for at in range(count)]


def certify_model(
    model: Model, data: Dataset, draws: int = 1000, first: int = 100, alpha: float = 0.001, batch: int = 256
) -> Certificates:
    """Certificates of a smoothed model: `first` draws choose the class, `draws` others bound its probability."""
    if not isinstance(model, Smoothed):
        raise CaromError(
            f"{model.name} certifies nothing: only a smoothing defence does, and it has to stand outermost, as in "
            "defended:zoo:NAME+smoothing. See `carom list defences`."
        )
    if data.modality != model.modality or data.space != model.space:
        raise CaromError(f"{data.name} is not of the inputs that {undefended(model).name} takes.")
    if not 0 < alpha < 1:
        raise CaromError(f"alpha={alpha} is no probability of a wrong certificate: give one such as 0.001.")
    whole, change, parts = data.batch(), model.part.change, []
    plain, hits, bare = 0, 0, undefended(model)
    with model.frozen(), torch.inference_mode():
        for start in range(0, len(data), batch):
            part = data.batch(start, start + batch).to(model.device)
            guess = _votes(model, part, first, "first", batch).argmax(1)
            votes = _votes(model, part, draws, "draws", batch)
            counts = votes.gather(1, guess[:, None]).squeeze(1)
            parts.append((guess, counts))
            hits += int(votes.gather(1, part.labels.to(votes.device)[:, None]).sum())
            plain += int((bare(part.inputs, part.lengths).logits.argmax(1).cpu() == part.labels.cpu()).sum())
    guess, counts = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    low = lower_bound(counts, draws, alpha)
    sure = low > 0.5
    radii = torch.full_like(low, torch.nan)
    rows = sure.nonzero().squeeze(1)
    if len(rows):
        lengths = None if whole.lengths is None else whole.lengths[rows]
        radii[rows] = change.radius(low[rows], take(whole.inputs, rows), lengths).double()
    found = Certificates(
        model=model.name,
        data=data.name,
        unit=change.unit,
        ids=list(data.ids),
        labels=data.labels,
        answers=torch.where(sure, guess, ABSTAINED),
        low=low,
        radii=radii,
        terms=change.terms(radii, whole.inputs),
        alpha=alpha,
        draws=draws,
    )
    noisy, clean = hits / (draws * len(data)), plain / len(data)
    if noisy < KEPT * clean:
        notice(
            f"{model.name} certifies nothing for {found.abstained:.0%} of {data.name}: {undefended(model).name} is right on "
            f"{clean:.0%} of it, and on {noisy:.0%} under the change that is smoothed over. Train it with that change, or "
            "smooth over a smaller one."
        )
    return found


def _votes(model: Smoothed, part: Batch, draws: int, stream: str, size: int) -> Tensor:
    """int64[N, C]: how often each class was answered under `draws` draws, of which about `size` rows go together."""
    count, each = len(part), max(1, size // max(1, len(part)))
    votes = torch.zeros(count, len(model.classes), dtype=torch.long, device=model.device)
    streams = Rng.of(0, part.ids, model.device).fold("certify", stream, getattr(model.part.change, "seed", 0))
    for start in range(0, draws, each):
        copies = torch.arange(start, min(start + each, draws), device=model.device)
        rows = torch.arange(count, device=model.device).repeat_interleave(len(copies))
        own = streams[rows].numbered(copies.repeat(count))
        lengths = None if part.lengths is None else part.lengths[rows]
        answers = model.base.keyed(own)(take(part.inputs, rows), lengths).logits.argmax(1)
        votes += F.one_hot(answers.view(count, -1), len(model.classes)).sum(1)
    return votes
