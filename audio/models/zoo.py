"""The audio models Carom ships: five families on ten keywords, most with two seeds, one on two halves of the voices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carom.audio.data import keywords
from carom.audio.models.frontends import MfccStatistics
from carom.audio.models.networks import M5, AttentionGru, KeywordTransformer, MelCnn
from carom.audio.space import Waveform
from carom.common.loading.zoo import Body, Recipe
from carom.common.models.training import Method, Progress, Schedule, fit
from carom.common.models.trees import TreeEnsemble, TreeModel

COPIES = 4
"""Augmented copies of each clip that a tree sees besides the clip itself."""


@dataclass(frozen=True)
class Clips:
    """One split as tensors."""

    waves: Tensor  # float[N, 16000] in [-1, 1]
    labels: Tensor  # int64[N]
    lengths: Tensor  # int64[N]
    voices: list[str]


@cache
def clips(split: str) -> Clips:
    """The clips of "train", "calibration" or "test"; do not write into them."""
    waves, labels, lengths, ids = keywords.load(split)
    samples = torch.from_numpy(waves).float() / 32768
    return Clips(samples, torch.from_numpy(labels), torch.from_numpy(lengths), keywords.voices(ids))


def chosen(data: Clips, half: int | None) -> Tensor:
    """The indices of the clips to train on. Halves share no speaker: an accent is no other speaker."""
    speakers = [voice.rpartition("+")[2] for voice in data.voices]
    side = {speaker: k % 2 for k, speaker in enumerate(sorted(set(speakers)))}
    return torch.tensor([k for k, speaker in enumerate(speakers) if half in (None, side[speaker])])


def augment(waves: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
    """Each clip at another pace, place, loudness and over other noise: float[B, 16000].

    Pace from .87 to 1.15 by linear interpolation, pitch following; anywhere within the second; peak from .05 to .95;
    white noise 12 to 45 dB below the word, over the whole second or, every other time, over the word alone.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(waves), 1, generator=generator)

    pace = uniform(0.87, 1.15)
    room = (waves.shape[1] - lengths[:, None] / pace).clamp_min(0)
    time = (torch.arange(waves.shape[1]) - uniform(0, 1) * room) * pace
    before = time.floor().long()
    inside = (before >= 0) & (before < lengths[:, None] - 1)
    before.clamp_(0, waves.shape[1] - 2)
    words = torch.lerp(waves.gather(1, before), waves.gather(1, before + 1), time - before) * inside
    words *= 10 ** uniform(-1.3, -0.02) / words.abs().amax(1, keepdim=True)
    level = words.square().sum(1, keepdim=True) / inside.sum(1, keepdim=True)
    noise = torch.randn(words.shape, generator=generator) * level.sqrt() * 10 ** (-uniform(12, 45) / 20)
    return (words + noise * (inside | (uniform(0, 1) < 0.5))).clamp(-1, 1)


def train_network(schedule: Schedule, recipe: Recipe, progress: Progress | None) -> Body:
    data = clips("train")

    def sample(indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return augment(data.waves[indices], data.lengths[indices], generator), data.labels[indices]

    network = recipe.build()
    assert isinstance(network, nn.Module)
    return fit(network, sample, chosen(data, recipe.half), schedule, recipe.seed, progress, method=recipe.method)


def train_trees(grow: Callable[[int], Any], recipe: Recipe, progress: Progress | None) -> Body:
    """`grow(seed)` gives the unfitted scikit-learn classifier."""
    data, statistics = clips("train"), MfccStatistics().eval()
    generator = torch.Generator().manual_seed(recipe.seed)
    indices = chosen(data, recipe.half)
    waves, lengths = data.waves[indices], data.lengths[indices]
    heard = [waves]
    for copy in range(COPIES):
        heard.append(augment(waves, lengths, generator))
        if progress is not None:
            progress(copy + 1, COPIES, 0.0)

    def fit(waves: Tensor, labels: Tensor) -> TreeEnsemble:
        with torch.inference_mode():
            features = torch.cat([statistics(part) for part in waves.split(len(indices))])
        return TreeEnsemble.from_sklearn(grow(recipe.seed).fit(features, labels))

    def model(found: TreeEnsemble) -> TreeModel:
        space = Waveform(sample_rate=keywords.SAMPLE_RATE)
        return TreeModel(
            found, name=recipe.name, modality="audio", space=space, classes=keywords.CLASSES, front_end=statistics
        )

    labels = data.labels[indices].repeat(len(heard))
    return (recipe.method or Method()).grow(fit, model, torch.cat(heard), labels, recipe.seed)


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(60, min_samples_leaf=10, n_jobs=1, random_state=seed)


def _tree(seed: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(min_samples_leaf=10, max_features=0.5, random_state=seed)


@torch.inference_mode()
def scores(body: Body, waves: Tensor) -> Tensor:
    """Logits of a network, or class shares of trees, for waves float[N, 16000]: float[N, classes]."""
    statistics = MfccStatistics()

    def answer(part: Tensor) -> Tensor:
        return body.probabilities(statistics(part)) if isinstance(body, TreeEnsemble) else body(part)

    return torch.cat([answer(part) for part in waves.split(100)])


def accuracy(recipe: Recipe, body: Body, split: str = "test") -> float:
    """Clean accuracy; models are tuned on "calibration" alone."""
    data = clips(split)
    return (scores(body, data.waves).argmax(1) == data.labels).double().mean().item()


@dataclass(frozen=True)
class Kind:
    """An architecture and how it is trained; its seeds and halves are the models of the zoo."""

    family: str
    summary: str
    build: Callable[[], Body]
    train: Callable[[Recipe, Progress | None], Body]
    variants: tuple[str, ...] = ("", "s1")


# suffix of the name: (seed, half of the training speakers, what the summary says of it)
VARIANTS: dict[str, tuple[int, int | None, str]] = {
    "": (0, None, ""),
    "s1": (1, None, ", another seed"),
    "halfa": (0, 0, ", one half of the speakers"),
    "halfb": (1, 1, ", the other half of the speakers"),
}

KINDS = {
    "m5": Kind(
        "cnn",
        "convolutions on the raw waveform (M5)",
        M5,
        partial(train_network, Schedule(epochs=40, lr=5e-3)),
    ),
    "melcnn": Kind(
        "cnn",
        "convolutions on the log-mel spectrogram",
        MelCnn,
        partial(train_network, Schedule(epochs=40, lr=4e-3)),
        variants=("", "s1", "halfa", "halfb"),
    ),
    "gru": Kind(
        "rnn",
        "bidirectional GRU with attention on log-mel frames",
        AttentionGru,
        partial(train_network, Schedule(epochs=30, lr=4e-3)),
    ),
    "kwt": Kind(
        "transformer",
        "keyword transformer on log-mel patches",
        KeywordTransformer,
        partial(train_network, Schedule(epochs=60, lr=2e-3, weight_decay=0.05)),
    ),
    "forest": Kind(
        "tree",
        "random forest on MFCC statistics",
        TreeEnsemble.empty,
        partial(train_trees, _forest),
    ),
    "tree": Kind(
        "tree",
        "one decision tree on MFCC statistics",
        TreeEnsemble.empty,
        partial(train_trees, _tree),
    ),
}


def recipe(kind: str, variant: str) -> Recipe:
    plan = KINDS[kind]
    seed, half, remark = VARIANTS[variant]
    return Recipe(
        name="-".join(filter(None, ("audio", kind, variant))),
        modality="audio",
        family=plan.family,
        summary=plan.summary + remark,
        build=plan.build,
        train=plan.train,
        evaluate=accuracy,
        data="builtin:keywords",
        data_digest=lambda _: keywords.digest(),
        folder=Path(__file__).parents[1] / "weights",
        seed=seed,
        half=half,
    )


RECIPES = {made.name: made for made in (recipe(kind, variant) for kind in KINDS for variant in KINDS[kind].variants)}
