"""An input is answered as its owner is answered who asks for it alone, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import carom
from carom.audio.space import Waveform
from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.models.mismatch import settle


class Centred(nn.Module):
    """Takes the spread of the whole batch away: copies of an input are company too."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.flatten(1).mean(1, keepdim=True)
        return torch.cat([level - level.mean(), level / (1 + len(x))], 1)


def test_statistics_of_the_batch_are_named_and_kept_away() -> None:
    data, module = carom.load_data("builtin:fashion-mnist", limit=6), Centred()
    model = carom.load_model(module, modality="image", normalise=None, classes=["a", "b"], name="centred")
    batch = data.batch()
    with pytest.warns(UserWarning, match="statistics of the batch"):
        model.settle(batch, 2)
    alone = torch.cat([module(batch.inputs[row : row + 1]) for row in range(len(batch))])
    for size in (1, 4, 6):
        assert torch.equal(model.predict(batch, size), alone)
    assert "each input is asked alone" in model.facts["company"]


WEIGHTS = torch.randn(784, 3, generator=torch.Generator().manual_seed(0))


class Reads(nn.Module):
    """A module that reads flat pictures by a function of them all."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        return self.read(x.flatten(1))


class TakesTheBatchForTime(nn.Module):
    """A GRU without batch_first: what stands before an input is its past, and the first input has none."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(784, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return 20 * self.head(self.rnn(10 * x.flatten(1)[:, None])[0][:, 0])


def of_pictures(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda pictures: read(pictures.reshape(len(pictures), -1)) @ WEIGHTS.numpy()


THINGS: dict[str, Any] = {
    "a norm over the batch": lambda: Reads(lambda x: nn.functional.layer_norm(x, x.shape) @ WEIGHTS),
    "only what stands behind others": lambda: Reads(lambda x: torch.cumsum(x, 0) @ WEIGHTS),
    "the batch as time": TakesTheBatchForTime,
    "a function that centres": lambda: of_pictures(lambda x: x - x.mean(0)),
    "a function that adds up": lambda: of_pictures(lambda x: np.cumsum(x, 0)),
    "a function that only scales": lambda: of_pictures(lambda x: x / 2),
}


@pytest.mark.parametrize("name", THINGS)
def test_pictures_are_answered_as_alone(name: str) -> None:
    torch.manual_seed(0)
    data, thing = carom.load_data("builtin:fashion-mnist", limit=9), THINGS[name]()
    facts = {"normalise": None} if isinstance(thing, nn.Module) else {"answers": "logits"}
    model = carom.load_model(thing, "image", classes=3, name="thing", **facts)
    with pytest.warns(UserWarning, match="others stand beside") if "scales" not in name else _silence():
        settle(model, narrowed(data))
    inputs = data.batch().inputs
    given = inputs if isinstance(thing, nn.Module) else inputs.numpy()
    with torch.no_grad():
        alone = torch.cat([torch.as_tensor(thing(given[row : row + 1])) for row in range(len(inputs))]).argmax(1)
    for size in (1, 4, 9):
        assert torch.equal(model.predict(data.batch(), size).argmax(1), alone)
    assert ("company" in model.facts) == ("scales" not in name)


def narrowed(data: Dataset) -> Dataset:
    return data.with_classes(["0", "1", "2"], [0] * 10)


def _silence() -> Any:
    import contextlib

    return contextlib.nullcontext()


def test_chance_is_told_from_company() -> None:
    data = narrowed(carom.load_data("builtin:fashion-mnist", limit=6))
    noisy = Reads(lambda x: nn.functional.dropout(x @ WEIGHTS))  # torch's default is to drop in evaluation too
    model = carom.load_model(noisy, "image", normalise=None, classes=3, name="noisy")
    with pytest.warns(UserWarning, match="otherwise each time"):
        settle(model, data)
    assert "chance" in model.facts
    assert "company" not in model.facts


def sounds(lengths: Sequence[int]) -> Dataset:
    """Noise of two levels, padded to the longest."""
    rng = torch.Generator().manual_seed(0)
    level = torch.tensor([0.2 if row % 2 else 0.6 for row in range(len(lengths))])
    waves = (torch.rand(len(lengths), max(lengths), generator=rng) * 2 - 1) * level[:, None]
    sizes = torch.tensor(lengths)
    waves[torch.arange(max(lengths)) >= sizes[:, None]] = 0
    stored = Waveform(sample_rate=8000).encode(waves)
    labels, ids = (level < 0.4).long(), [f"sound-{row}" for row in range(len(lengths))]
    return Dataset("sounds", "audio", Waveform(sample_rate=8000), stored, labels, ids, ("loud", "low"), sizes)


def loudness(waves: Any) -> Any:
    level = np.abs(np.asarray(waves)).mean(1)
    return np.stack([level - 0.2, 0.2 - level], 1)


def mean_and_spread(waves: Any) -> Any:
    return np.stack([np.abs(waves).mean(1), waves.std(1)], 1)


class MeanAndSpread(nn.Module):
    def forward(self, waves: Tensor) -> Tensor:
        return torch.stack([waves.abs().mean(1), waves.std(1)], 1)


class Loudness(nn.Module):
    """Takes lengths, and takes the mean over padding all the same."""

    def forward(self, waves: Tensor, lengths: Tensor | None) -> Tensor:
        level = waves.abs().mean(1)
        return torch.stack([level - 0.2, 0.2 - level], 1)


def on_sounds(name: str, data: Dataset) -> Model:
    facts: dict[str, Any] = {"modality": "audio", "sample_rate": 8000, "name": name}
    named = {**facts, "classes": ["loud", "low"]}
    if name == "function":
        return carom.load_model(loudness, answers="logits", **named)
    if name == "lengths":
        return carom.load_model(Loudness(), takes_lengths=True, **named)
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    inputs = data.batch().inputs
    rows = [mean_and_spread(inputs[i : i + 1, : int(n)].numpy()) for i, n in enumerate(data.lengths)]
    kind = LogisticRegression(C=1e6) if name == "estimator" else DecisionTreeClassifier()
    fitted = kind.fit(np.concatenate(rows), data.labels.numpy())
    features = MeanAndSpread() if name == "trees behind a module" else mean_and_spread
    return carom.load_model(fitted, features=features, **named)


@pytest.mark.parametrize("name", ["function", "estimator", "trees", "trees behind a module", "lengths"])
def test_sounds_are_answered_without_their_padding(name: str) -> None:
    data = sounds([4000, 900, 800, 2500, 700, 3900, 1200, 1000])
    model = on_sounds(name, data)
    settle(model, data)
    for size in (1, 3, 8):
        assert torch.equal(model.predict(data.batch(), size).argmax(1), data.labels)


def test_a_sound_that_is_too_short_is_named_where_others_are_taken() -> None:
    class Kernel(nn.Module):
        def forward(self, waves: Tensor) -> Tensor:
            level = nn.functional.conv1d(waves.abs()[:, None], torch.full((1, 1, 750), 1 / 750)).mean(2)
            return torch.cat([level - 0.2, 0.2 - level], 1)

    data = sounds([4000, 900, 800, 2500, 700])
    model = carom.load_model(Kernel(), "audio", sample_rate=8000, classes=["loud", "low"], name="kernel")
    with pytest.raises(CaromError, match="cannot take sound-4, which is 700 samples long"):
        settle(model, data)
    settle(model, data.take(torch.arange(4)))
    assert torch.equal(model.predict(data.take(torch.arange(4)).batch()).argmax(1), data.labels[:4])
