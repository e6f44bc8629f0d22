"""The text zoo: every network, linear model, forest and tree that Carom ships for film reviews, and how each was made.

All are tested on Rotten Tomatoes. The networks over words also learn from IMDB: their word vectors begin as a
factorisation of its word co-occurrences, and pieces of its reviews are training examples beside the sentences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.loading.zoo import Body, Recipe
from carom.common.models.training import Progress, Schedule, fit
from carom.common.models.trees import TreeEnsemble
from carom.text.language import reviews
from carom.text.language.minilm import minilm_folder
from carom.text.language.tokenizers import PAD, UNKNOWN, TfidfEncoder, WordEncoder, WordPieceEncoder, vocabulary
from carom.text.models.networks import Linear, PooledBert, TokenNetwork, WordCnn
from carom.text.models.rnn import BiLstm
from carom.text.models.transformer import WordTransformer

SENTENCES, DOCUMENTS = "rotten-tomatoes", "imdb"
Encoder = WordEncoder | WordPieceEncoder | TfidfEncoder

DIM = 64  # of word vectors
WINDOW = 5  # words: the largest distance of two that co-occur
PIECE = 40  # words: training examples that are longer are cut to a piece of it, each time another
DROPPED = 0.3  # share of the training words that are replaced by the unknown word
REPEATED = 3  # a sentence is trained on so often for each piece of a review
FOREST_WORDS = 4000  # the most frequent words: what trees may ask for
BATCH = 50  # texts encoded or answered at once


@dataclass(frozen=True)
class Corpus:
    """Training texts as word ids, one behind the other."""

    ids: Tensor  # int64[total]
    starts: Tensor  # int64[N]
    lengths: Tensor  # int64[N]
    labels: Tensor  # int64[N]

    def sample(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """ids int64[B, L] of a random piece of each text, some words unknown, and labels int64[B]."""
        lengths = self.lengths[indices].clamp(max=PIECE)
        offsets = (torch.rand(len(indices), generator=generator) * (self.lengths[indices] - lengths + 1)).long()
        places = torch.arange(int(lengths.max()))
        at = (self.starts[indices] + offsets)[:, None] + places
        ids = self.ids[at.clamp(max=len(self.ids) - 1)]
        ids = ids.masked_fill(torch.rand(ids.shape, generator=generator) < DROPPED, UNKNOWN)
        return ids.masked_fill(places >= lengths[:, None], PAD), self.labels[indices]


@cache
def _corpus(half: int | None) -> tuple[Corpus, int]:
    """The training texts of both data sets, sentences first, and how many sentences there are."""
    (sentences, classes), (documents, more) = (_training(name, half) for name in (SENTENCES, DOCUMENTS))
    texts, whole = sentences + documents, _word_encoder(limit=1 << 20)
    rows = []
    for start in range(0, len(texts), BATCH):
        ids, spans = whole.encode(texts[start : start + BATCH])
        rows += [row[: len(own)] for row, own in zip(ids, spans, strict=True)]
    lengths = torch.tensor([len(row) for row in rows])
    labels = torch.from_numpy(np.concatenate([classes, more]))
    return Corpus(torch.cat(rows), lengths.cumsum(0) - lengths, lengths, labels), len(sentences)


def _training(name: str, half: int | None) -> tuple[list[str], np.ndarray]:
    """Training texts and labels; the halves are disjoint."""
    texts, labels, _ = reviews.load(name, "train")
    return (texts, labels) if half is None else (texts[half::2], labels[half::2])


@cache
def word_vectors(half: int | None) -> Tensor:
    """float32[words, DIM]: the positive pointwise mutual information of words near each other, factorised.

    Levy, Goldberg and Dagan, "Improving distributional similarity with lessons learned from word embeddings", TACL
    2015: contexts smoothed by the power .75, nearer ones weighing more, the square roots of the singular values.
    """
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    corpus, _ = _corpus(half)
    ids, words = corpus.ids.numpy(), len(_word_encoder())
    text = np.repeat(np.arange(len(corpus.lengths)), corpus.lengths.numpy())
    near = sparse.csr_matrix((words, words), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        same = text[distance:] == text[:-distance]
        pairs = ids[:-distance][same], ids[distance:][same]
        near = near + sparse.csr_matrix((np.full(same.sum(), 1 / distance, np.float32), pairs), shape=near.shape)
    near = (near + near.T).tocoo()
    count = np.asarray(near.sum(1)).ravel()
    context = count**0.75 / (count**0.75).sum()
    information = np.log(near.data / (count[near.row] * context[near.col]))
    positive = np.maximum(information, 0).astype(np.float32)
    left, singular, _ = randomized_svd(
        sparse.csr_matrix((positive, (near.row, near.col)), shape=near.shape), DIM, n_iter=3, random_state=0
    )
    vectors = left * np.sqrt(singular)
    vectors[PAD] = 0
    return torch.from_numpy((vectors / vectors.std()).astype(np.float32))


@cache
def _word_encoder(limit: int = 256) -> WordEncoder:
    return WordEncoder([word for word, _ in vocabulary()], limit)


@cache
def _tfidf_encoder(size: int | None = None) -> TfidfEncoder:
    """Over all words, or the `size` most frequent ones."""
    return TfidfEncoder(*zip(*vocabulary()[:size], strict=True))


@cache
def _minilm_encoder() -> WordPieceEncoder:
    return WordPieceEncoder(minilm_folder())


def encoder(name: str) -> Encoder:
    """What turns texts into the numbers that the body of the recipe `name` reads."""
    return _ARCHITECTURES[name.split("-")[1]].encoder()


def accuracy(recipe: Recipe, body: Body, split: str = "test") -> float:
    """Share of the Rotten Tomatoes sentences of `split` that `body` gets right."""
    texts, labels, _ = reviews.load(SENTENCES, split)
    answer = body.probabilities if isinstance(body, TreeEnsemble) else body
    with torch.inference_mode():
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        answers = torch.cat([answer(_numbers(encoder(recipe.name), batch)).argmax(1) for batch in batches])
    return (answers == torch.from_numpy(labels)).float().mean().item()


def _numbers(encoder: Encoder, texts: list[str]) -> Tensor:
    """Features of a `TfidfEncoder`, ids of the others."""
    encoded = encoder.encode(texts)
    return encoded if isinstance(encoded, Tensor) else encoded[0]


def _build_words(network: Callable[[int, int], TokenNetwork]) -> TokenNetwork:
    return network(len(_word_encoder()), DIM)


def _train_words(recipe: Recipe, progress: Progress | None) -> Body:
    """For the networks over words: from word vectors, on sentences and pieces of reviews together."""
    corpus, sentences = _corpus(recipe.half)
    network = recipe.build()
    assert isinstance(network, TokenNetwork)
    network.embedding.weight.data.copy_(word_vectors(recipe.half))
    every = torch.arange(len(corpus.labels))
    indices = torch.cat([every[:sentences].repeat(REPEATED), every[sentences:]])
    schedule = Schedule(epochs=4, lr=1e-3, weight_decay=0.1, average=0.998)
    return fit(network, corpus.sample, indices, schedule, recipe.seed, progress, method=recipe.method)


def _train_linear(recipe: Recipe, progress: Progress | None) -> Body:
    """Logistic regression has one optimum: seeds other than 0 train on a bootstrap sample. No progress: it is fast."""
    from sklearn.linear_model import LogisticRegression

    features, labels = _features(recipe, _tfidf_encoder())
    rows = np.arange(len(labels))
    if recipe.seed:
        rows = np.random.default_rng(recipe.seed).choice(rows, len(rows))
    estimator = LogisticRegression(C=3, max_iter=1000).fit(features[rows], labels[rows])
    linear = recipe.build()
    assert isinstance(linear, Linear)
    # scikit-learn gives the difference of the two logits.
    linear.head.weight.data.copy_(torch.from_numpy(np.concatenate([-estimator.coef_, estimator.coef_]) / 2))
    linear.head.bias.data.copy_(torch.from_numpy(np.concatenate([-estimator.intercept_, estimator.intercept_]) / 2))
    return linear


def _train_trees(recipe: Recipe, progress: Progress | None, grow: Callable[[int], Any]) -> Body:
    """`grow(seed)` gives the unfitted scikit-learn classifier. It fits in seconds and reports no progress."""
    features, labels = _features(recipe, _tfidf_encoder(FOREST_WORDS))
    return TreeEnsemble.from_sklearn(grow(recipe.seed).fit(features, labels))


def _features(recipe: Recipe, encoder: TfidfEncoder) -> tuple[Any, np.ndarray]:
    """The training sentences as a sparse matrix float32[N, V], and their labels."""
    from scipy import sparse

    texts, labels = _training(SENTENCES, recipe.half)
    batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
    return sparse.vstack([sparse.csr_matrix(encoder.encode(batch).numpy()) for batch in batches]).tocsr(), labels


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(200, max_depth=40, min_samples_leaf=3, max_features="log2", random_state=seed)


def _tree(seed: int) -> Any:
    """Each split looks at a random half of the words: that is all in which two seeds differ."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_leaf_nodes=200, min_samples_leaf=2, max_features=0.5, random_state=seed)


def _train_head(recipe: Recipe, progress: Progress | None) -> Body:
    """The head alone: what the frozen encoder makes of the training sentences is computed once."""
    network = recipe.build()
    assert isinstance(network, PooledBert)
    vectors, labels = _sentence_vectors(recipe.half)

    def sample(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return vectors[indices], labels[indices]

    schedule = Schedule(epochs=5, lr=1e-3)
    fit(network.head, sample, torch.arange(len(labels)), schedule, recipe.seed, progress, method=recipe.method)
    return network.eval()


@cache
def _sentence_vectors(half: int | None) -> tuple[Tensor, Tensor]:
    """float32[N, d]: MiniLM's vectors of the training sentences, and labels int64[N]."""
    texts, labels = _training(SENTENCES, half)
    network, encode = PooledBert(minilm_folder()).eval(), _minilm_encoder().encode
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))  # batches of like length: less padding
    vectors = []
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            ids, _ = encode([texts[number] for number in order[start : start + BATCH]])
            vectors.append(network.pool(network.embedding(ids), ids != PAD))
    return torch.cat(vectors), torch.from_numpy(labels[order])


@dataclass(frozen=True)
class _Architecture:
    family: str
    summary: str
    encoder: Callable[[], Encoder]
    build: Callable[[], Body]
    train: Callable[[Recipe, Progress | None], Body]
    data: tuple[str, ...] = (SENTENCES,)

    def digest(self) -> str:
        """That of its data set, or of the digests of several."""
        digests = [reviews.digest(name) for name in self.data]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _network(family: str, summary: str, network: Callable[[int, int], TokenNetwork]) -> _Architecture:
    build = partial(_build_words, network)
    return _Architecture(family, summary, _word_encoder, build, _train_words, (SENTENCES, DOCUMENTS))


def _trees(summary: str, grow: Callable[[int], Any]) -> _Architecture:
    known = partial(_tfidf_encoder, FOREST_WORDS)
    return _Architecture("tree", summary, known, TreeEnsemble.empty, partial(_train_trees, grow=grow))


_ARCHITECTURES = {
    "cnn": _network("cnn", "word CNN, windows of 3, 4 and 5 words", WordCnn),
    "bilstm": _network("rnn", "bidirectional LSTM over words", BiLstm),
    "transformer": _network("transformer", "transformer over words, two layers", WordTransformer),
    "forest": _trees("random forest on TF-IDF, 200 trees of depth 40", _forest),
    "tree": _trees("single decision tree on TF-IDF, 200 leaves", _tree),
    "linear": _Architecture(
        "linear",
        "logistic regression on TF-IDF",
        _tfidf_encoder,
        lambda: Linear(len(_tfidf_encoder())),
        _train_linear,
    ),
    "minilm": _Architecture(
        "transformer",
        "MiniLM, frozen, and a small head",
        _minilm_encoder,
        lambda: PooledBert(minilm_folder()),
        _train_head,
    ),
}
_SEEDS = {"": (0, None, ""), "-s1": (1, None, ", second seed")}  # suffix: seed, half, what the summary adds
_HALVES = {"-halfa": (2, 0, ", first half of the data"), "-halfb": (3, 1, ", second half of the data")}


def _recipe(kind: str, suffix: str, seed: int, half: int | None, note: str) -> Recipe:
    architecture = _ARCHITECTURES[kind]
    return Recipe(
        name=f"text-{kind}{suffix}",
        modality="text",
        family=architecture.family,
        summary=architecture.summary + note,
        build=architecture.build,
        train=architecture.train,
        evaluate=accuracy,
        data=" + ".join(f"builtin:{name}" for name in architecture.data),
        data_digest=lambda _: architecture.digest(),
        folder=Path(__file__).parents[1] / "weights",
        seed=seed,
        half=half,
    )


def _recipes() -> Iterator[Recipe]:
    for kind in _ARCHITECTURES:
        variants = _SEEDS | _HALVES if kind == "cnn" else _SEEDS
        for suffix, (seed, half, note) in variants.items():
            yield _recipe(kind, suffix, seed, half, note)


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _recipes()}
