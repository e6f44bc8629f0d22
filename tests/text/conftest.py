"""Small text models whose answers can be worked out by hand, and the words they know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.model import Model
from carom.common.core.problem import Attack, Budget, Problem, Result
from carom.text.language.tokenizers import WordEncoder
from carom.text.models.tokens import TokenModel
from carom.text.threats import WordBudget

CLASSES = ("negative", "positive")


@dataclass(frozen=True)
class Table:
    """Candidates from a dictionary: a|b,c means that b and c may stand for a."""

    entries: tuple[str, ...]

    def options(self, word: str) -> tuple[str, ...]:
        return next((tuple(e.partition("|")[2].split(",")) for e in self.entries if e.startswith(f"{word}|")), ())


class Bag(nn.Module):
    """Adds up one number for each known word; positive sums are positive texts. In float64."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(weights) + 2, 2, padding_idx=0).double()
        with torch.no_grad():
            self.embedding.weight.zero_()
            for row, value in enumerate(weights.values(), start=2):
                self.embedding.weight[row] = torch.tensor([-value / 2, value / 2])
        self.calls: list[int] = []  # rows of each forward pass

    def forward(self, ids: Tensor) -> Tensor:
        self.calls.append(len(ids))
        return self.embedding(ids).sum(1)


@dataclass
class Toy:
    """A bag of words as a model, with its candidates."""

    weights: Mapping[str, float]
    entries: tuple[str, ...]
    share: float = 1.0
    model: TokenModel = field(init=False)

    def __post_init__(self) -> None:
        encoder = WordEncoder(list(self.weights))
        module = Bag(self.weights)
        self.model = TokenModel(
            module, encoder, name="bag", family="linear", classes=CLASSES, embedding=module.embedding
        )
        module.calls.clear()  # what was tried when the model was made is no attack's cost

    @property
    def threat(self) -> WordBudget:
        return WordBudget(self.share, Table(self.entries))

    def run(self, attack: Attack, *texts: str, label: int = 1, queries: int | None = None) -> Result:
        return attack_texts(self.model, self.threat, attack, texts, [label] * len(texts), queries)


def attack_texts(
    model: Model,
    threat: WordBudget,
    attack: Attack,
    texts: list[str] | tuple[str, ...],
    labels: list[int],
    queries: int | None = None,
    size: int | None = None,
    targets: list[int] | None = None,
) -> Result | list[Result]:
    """The attack on all texts at once, or on `size` at a time: then a list of results."""
    ids = [f"text-{i}" for i in range(len(texts))]

    def part(start: int, stop: int) -> Result:
        batch = Batch(list(texts[start:stop]), torch.tensor(labels[start:stop]), ids[start:stop])
        goal = Goal(batch.labels, None if targets is None else torch.tensor(targets[start:stop]))
        return attack(Problem(model, goal, threat, Budget(queries)), batch, Rng.of(0, batch.ids))

    if size is None:
        return part(0, len(texts))
    return [part(start, min(start + size, len(texts))) for start in range(0, len(texts), size)]


@pytest.fixture
def toy() -> Callable[..., Toy]:
    return Toy


@pytest.fixture
def attack() -> Callable[..., Result | list[Result]]:
    return attack_texts


@pytest.fixture
def table() -> type[Table]:
    return Table


SENTENCES = (
    "a wonderful film with a moving story and great actors .",
    "the plot is dull and the dialogue is terrible",
    "Funny, touching, and beautifully shot: see it!",
    "this movie fails to deliver a single laugh in two hours",
    "an honest portrait of a small town",
    "tedious .",
    "it is what it is",
    "the director's best work since his debut , and a joy to watch from start to finish",
    "bad writing ruins what could have been a good thriller",
    "a clever , quick and charming comedy about growing up",
)
"""Sentences as reviews have them, of different length; one of stop words only."""


@pytest.fixture
def sentences() -> list[str]:
    return list(SENTENCES)


@pytest.fixture(scope="session")
def networks() -> dict[str, TokenModel]:
    """Untrained networks of the zoo's kinds over the words of WordNet's neighbourhood of the sentences."""
    from carom.text.models.networks import WordCnn
    from carom.text.models.rnn import BiLstm
    from carom.text.models.transformer import WordTransformer
    from carom.text.words import split_words

    known = {w.text.lower() for text in SENTENCES for w in split_words(text)}
    budget = WordBudget(1.0)
    options = {o for text in SENTENCES for own in budget.editable(text).options for o in own[::2]}
    encoder = WordEncoder(sorted(known | {o.lower() for o in options}))
    found = {}
    for name, kind in {"cnn": WordCnn, "bilstm": BiLstm, "transformer": WordTransformer}.items():
        torch.manual_seed(0)
        network = kind(len(encoder), dim=16).eval()
        with torch.no_grad():
            network.head.weight.mul_(4)
            network.head.bias -= network(encoder.encode(SENTENCES)[0]).mean(0)  # half of them one, half the other class
        found[name] = TokenModel(
            network, encoder, name=name, family="cnn", classes=CLASSES, embedding=network.embedding
        )
    return found
