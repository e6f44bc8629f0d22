"""Defences that train networks over words: against changes of the embeddings, and against words put in their place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.core.threats import L2
from carom.common.defences.catalogue import Defences
from carom.common.defences.training.adversarial import Watched
from carom.common.defences.training.trained import By
from carom.common.models.networks import FrozenModule
from carom.text.language.tokenizers import PAD, vocabulary
from carom.text.language.wordnet import synonyms
from carom.text.models.networks import TokenNetwork

MIYATO = "Miyato, Dai and Goodfellow 2017, Adversarial training methods for semi-supervised text classification"
ZHU = "Zhu et al. 2020, FreeLB: enhanced adversarial training for natural language understanding"
YOO = "Yoo and Qi 2021, Towards improving adversarial training of NLP models"
CANDIDATES = 12  # synonyms of a word, at most


def _words(module: nn.Module) -> TokenNetwork:
    if not isinstance(module, TokenNetwork):
        raise CaromError("this defence changes word embeddings, which the trained part of this model does not have.")
    return module


class Embedded(Watched):
    """Cross-entropy at embeddings that are moved up its gradient within a ball around those of the words: `eps` is the
    length of the change of a whole text, a share of that of its embeddings.

    With `every` the loss is the mean over all points of the climb (FreeLB), else half that at its end and half that of
    the text itself."""

    def __init__(self, eps: float, steps: int, size: float, every: bool, epochs: int | None = None) -> None:
        super().__init__(epochs)
        self.eps, self.steps, self.size, self.every = eps, steps, size, every

    def loss(
        self, module: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        network, mask = _words(module), inputs != PAD
        embedded = network.embedding(inputs)
        inside = mask[:, :, None].to(embedded)
        lengths = (embedded.detach() * inside).flatten(1).norm(dim=1)
        direction = torch.randn(embedded.shape, generator=generator) * inside
        radius = self.eps * lengths
        change = (radius * torch.rand(len(radius), generator=generator))[:, None, None] * _UNIT.step(direction)
        losses = []
        for step in range(self.steps + 1):
            change = change.detach().requires_grad_()
            loss = F.cross_entropy(network.from_embeddings(embedded + change, mask), labels, label_smoothing=smoothing)
            losses.append(loss)
            if step < self.steps:
                (grad,) = torch.autograd.grad(loss, change, retain_graph=True)
                moved = change.detach() + (self.size * radius)[:, None, None] * _UNIT.step(grad * inside)
                change = _UNIT.project(moved, torch.zeros_like(moved), radius)
        if self.every:
            return torch.stack(losses[1:]).mean()
        return (F.cross_entropy(network(inputs), labels, label_smoothing=smoothing) + losses[-1]) / 2


_UNIT = L2(1.0)


@cache
def candidates() -> Tensor:
    """int64[words, CANDIDATES]: ids of WordNet synonyms of each word of the vocabulary that are in it; PAD where there
    are no more. The most frequent come first."""
    ids = {word: number for number, (word, _) in enumerate(vocabulary(), start=2)}
    table = torch.full((len(ids) + 2, CANDIDATES), PAD)
    for word, number in ids.items():
        known = sorted(ids[other] for other in {one.lower() for one in synonyms(word)} if other in ids)[:CANDIDATES]
        table[number, : len(known)] = torch.tensor(known, dtype=torch.long)
    return table


class Substituted(Watched):
    """Cross-entropy of the texts, and of texts in which the words whose best candidate gains most are replaced by it: the
    gain is that of a first-order step in the embeddings, of the network as it is. `share` of the words at most, in
    `rounds` equal parts, the gradient taken anew for each."""

    def __init__(
        self, share: float, rounds: int, table: Callable[[], Tensor], clean: float, epochs: int | None = None
    ) -> None:
        super().__init__(epochs)
        self.share, self.rounds, self.table, self.clean = share, rounds, table, clean

    def loss(
        self, module: nn.Module, inputs: Tensor, labels: Tensor, generator: torch.Generator, smoothing: float
    ) -> Tensor:
        network, attacked = _words(module), inputs
        changed = torch.zeros_like(inputs, dtype=torch.bool)
        for turn in range(self.rounds):
            attacked, changed = self._replaced(network, inputs, attacked, changed, labels, turn)
        loss = F.cross_entropy(network(attacked), labels, label_smoothing=smoothing)
        if not self.clean:
            return loss
        natural = F.cross_entropy(network(inputs), labels, label_smoothing=smoothing)
        return self.clean * natural + (1 - self.clean) * loss

    def _replaced(
        self, network: TokenNetwork, inputs: Tensor, now: Tensor, changed: Tensor, labels: Tensor, turn: int
    ) -> tuple[Tensor, Tensor]:
        """(ids, which places hold another word) after one more round."""
        with FrozenModule(network)():
            embedded = network.embedding(now).detach().requires_grad_()
            loss = F.cross_entropy(network.from_embeddings(embedded, now != PAD), labels, reduction="sum")
            (grad,) = torch.autograd.grad(loss, embedded)
        options = self.table()[inputs]  # [B, L, K]
        vectors = network.embedding.weight.detach()
        reach = torch.einsum("bld,blkd->blk", grad, vectors[options]) - (grad * embedded.detach()).sum(2, keepdim=True)
        gain, choice = reach.masked_fill(options == PAD, -torch.inf).max(2)
        gain = gain.masked_fill(changed, -torch.inf)
        most = ((inputs != PAD).sum(1) * self.share * (turn + 1) / self.rounds).floor().long() - changed.sum(1)
        rank = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)
        chosen = (rank < most[:, None]) & (gain > 0)
        replaced = torch.where(chosen, options.gather(2, choice[:, :, None]).squeeze(2), now)
        return replaced, changed | chosen


TRAINING = Defences(
    kind="training", adaptation=("network",), departures="the schedule and the optimiser are those of the recipe"
)


def _share(value: float, who: str) -> float:
    if not 0 < value <= 1:
        raise CaromError(f"{who}: {value} must be a share above 0 and at most 1.")
    return value


@TRAINING.defence("embedding-at", "adversarial training in the space of word embeddings, by PGD", paper=MIYATO)
def embedding_at(eps: float = 0.3, steps: int = 3, size: float = 0.5, epochs: int | None = None) -> By:
    """`eps` is the length of the change of a text's embeddings, as a share of theirs; steps of `size` of it."""
    return By(lambda: Embedded(eps, steps, size, False, epochs))


@TRAINING.defence(
    "freelb",
    "adversarial training in the space of word embeddings, on every point of the climb",
    paper=ZHU,
    departures="one dropout mask for each point, not one for all; schedule and optimiser are the recipe's",
)
def freelb(eps: float = 0.3, steps: int = 3, size: float = 0.5, epochs: int | None = None) -> By:
    """As `embedding-at`; the loss is the mean over `steps` points."""
    return By(lambda: Embedded(eps, steps, size, True, epochs))


@TRAINING.defence(
    "substitution-at",
    "adversarial training on words replaced, by gradients, while it learns",
    paper=YOO,
    departures="WordNet synonyms that the model knows, all of a round at once, with every batch; no check of meaning",
)
def substitution_at(share: float = 0.3, rounds: int = 2, clean: float = 0.5, epochs: int | None = None) -> By:
    """`share` of the words at most; `clean` is the weight of the texts as they are."""
    return By(lambda: Substituted(_share(share, "substitution-at"), rounds, candidates, clean, epochs))
