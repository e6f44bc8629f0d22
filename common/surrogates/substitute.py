"""Substitutes of models that only answer, taught by their labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.core.batch import Batch
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.spaces import Box
from carom.common.models.mismatch import fitting
from carom.common.models.networks import TorchModel
from carom.common.models.training import Progress, Schedule, deterministic, fit
from carom.common.surrogates.networks import accuracies, copied, examples_of, network_of

ROUND = Schedule(epochs=10, batch=32, lr=2e-3)
"""How a substitute is trained after each round of questions."""


def substitute(
    target: Model,
    data: Dataset,
    network: Model | str,
    *,
    rounds: int = 5,
    step: float = 0.1,
    flip: int = 3,
    most: int | None = None,
    epochs: int = 10,
    lr: float = 2e-3,
    seed: int = 0,
    held_out: Dataset | None = None,
    modality: str | None = None,
    progress: Progress | None = None,
) -> TorchModel:
    """A network taught by the labels that `target` gives, to be attacked in its place (Papernot et al. 2017, Alg. 1).

    It starts from `data`, whose own labels it does not use: the target is asked for those. After each round of training
    but the last, every example so far gives a new one, a `step` (a share of the space's range) along the sign of the
    network's gradient for the example's label (Jacobian-based augmentation, eq. 4), and the target is asked for its
    label. The step turns round after `flip` rounds, and back after as many (section 4.4: periodical step size).
    `most` limits the new examples of a round, chosen at random (the paper's reservoir sampling).

    `network` is a model whose architecture is taken: of a spec with fresh weights where the spec builds them (all of
    the zoo, factories of your own), of a Model that you hold with the weights it has. `queries` on its card counts the
    target's answers; agreement and accuracy are measured on `held_out` afterwards, and cost the attacker nothing.

    Args:
        target: the model that is asked for labels only.
        data: the first examples; their own labels are not used.
        network: whose architecture learns.
        rounds: of training; each but the first trains on twice as many examples, or `most` more.
        step: how far a new example lies from its own, as a share of the space's range.
        flip: rounds after which the step turns round.
        most: new examples a round, at most; None sets no limit.
        epochs: of training in each round.
        lr: peak learning rate.
        seed: of everything random.
        held_out: labelled examples for the card's agreement and accuracies.
        modality: for specs that do not tell it.
        progress: called with (epoch, epochs, mean loss) after each epoch.

    Returns:
        A TorchModel with a card: queries, agreement, accuracies.

    Raises:
        CaromError: the network is no torch network, or the data are no real-valued inputs.
    """
    with deterministic(seed):
        base, spec, data = network_of(network, data, modality, fresh=True)
    if not isinstance(data.space, Box):
        raise CaromError(f"substitutes are taught on real inputs, and {data.name} holds {data.space.name}.")
    if rounds < 1:
        raise CaromError(f"rounds={rounds}: the substitute is taught once at least.")
    if target.classes != base.classes or target.space != base.space:
        raise CaromError(f"{base.name} cannot stand for {target.name}: it takes other inputs or knows other classes.")
    learner, schedule = copied(base, f"{base.name}-for-{target.name}"), replace(ROUND, epochs=epochs, lr=lr)
    asked = _Asked(target, data.stored, data.lengths, list(data.ids))
    with fitting(target, data):
        asked.ask()
    generator, agreements = torch.Generator().manual_seed(seed), []
    for turn in range(rounds):
        with fitting(base, data), deterministic(seed + turn):
            known = asked.dataset(data)
            fitted = replace(schedule, batch=min(schedule.batch, len(known)))
            sample = examples_of(learner, known, asked.labels)
            fit(learner.module, sample, torch.arange(len(known)), fitted, seed + turn, progress)
            agreements.append(_agreement(learner, target, held_out))
            if turn + 1 < rounds:
                rows = torch.arange(len(known))
                if most is not None and len(rows) > most:
                    rows = torch.randperm(len(rows), generator=generator)[:most].sort().values
                sign = 1 if (turn // flip) % 2 == 0 else -1
                asked.add(*augmented(learner, known.take(rows), asked.labels[rows], sign * step, turn))
                asked.ask()
    made = copied(base, learner.name, learner.module)
    made.card = {
        "kind": "substitute",
        "network": spec,
        "target": target.name,
        "target_digest": target.digest,
        "data": data.name,
        "data_digest": data.digest,
        "examples": len(data),
        "seed": seed,
        "rounds": rounds,
        "step": step,
        "flip": flip,
        "most": most,
        "epochs": epochs,
        "lr": lr,
        "queries": asked.queries,
        "agreement": agreements[-1],
        "agreement_by_round": agreements,
        **accuracies(made, held_out),
    }
    return made


@dataclass
class _Asked:
    """The examples that a target was asked about, in stored form, and what it said."""

    target: Model
    stored: Tensor
    lengths: Tensor | None
    ids: list[str]
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    queries: int = 0

    def ask(self) -> None:
        """Ask about those that have no label yet."""
        new = torch.arange(len(self.labels), len(self.ids))
        lengths = None if self.lengths is None else self.lengths[new]
        inputs = self.target.space.decode(self.stored[new])
        nothing = torch.zeros(len(new), dtype=torch.long)
        logits = self.target.predict(Batch(inputs, nothing, [self.ids[i] for i in new.tolist()], lengths))
        self.queries += len(new)
        self.labels = torch.cat([self.labels, logits.argmax(1)])

    def add(self, stored: Tensor, lengths: Tensor | None, ids: list[str]) -> None:
        self.stored, self.ids = torch.cat([self.stored, stored]), self.ids + ids
        self.lengths = None if self.lengths is None or lengths is None else torch.cat([self.lengths, lengths])

    def dataset(self, like: Dataset) -> Dataset:
        return replace(like, stored=self.stored, labels=self.labels, ids=self.ids, lengths=self.lengths)


def augmented(
    learner: TorchModel, data: Dataset, labels: Tensor, step: float, turn: int
) -> tuple[Tensor, Tensor | None, list[str]]:
    """(stored inputs, lengths, ids): each example moved along the sign of the learner's gradient for its label."""
    space = data.space
    assert isinstance(space, Box)
    moved = []
    with learner.frozen():
        for start in range(0, len(data), 256):
            batch = data.batch(start, start + 256)
            x = batch.inputs.requires_grad_()
            with torch.enable_grad():
                believed = learner(x, batch.lengths).logits.log_softmax(1)
                own = believed.gather(1, labels[start : start + 256, None]).sum()
                (grad,) = torch.autograd.grad(own, x)
            mask = batch.mask()
            way = grad.sign() if mask is None else grad.sign() * mask
            moved.append(space.encode(space.clamp(x.detach() + step * (space.high - space.low) * way)))
    return torch.cat(moved), data.lengths, [f"{name}~{turn}" for name in data.ids]


def _agreement(one: Model, other: Model, data: Dataset | None) -> float | None:
    """Share of the held-out examples to which both give the same answer."""
    if data is None:
        return None
    batch = data.batch()
    return round((one.predict(batch).argmax(1) == other.predict(batch).argmax(1)).float().mean().item(), 4)
