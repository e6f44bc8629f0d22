"""The contracts over every registered defence that trains: a toy recipe of its modality, once round."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import robust_toy as toy
import torch
from torch import Tensor, nn

from carom.common.defences.info import DefenceInfo
from carom.common.defences.training.trained import trained_by
from carom.common.loading.packing import pack
from carom.common.loading.zoo import Body, Recipe, restore
from carom.common.modality.defences import list_defences
from carom.common.models.training import Method, Progress, Schedule, deterministic, fit
from carom.common.models.trees import TreeEnsemble, TreeModel
from carom.text.models.networks import WordCnn
from carom.vision.space import PIXELS

LISTED = [(owner, info) for owner, info in list_defences() if info.kind == "training"]
FACTS = {"image": "normalise=none&classes=2", "audio": "sample_rate=16000&classes=2"}
SMALL = {"epochs": 1, "attack": "pgd?steps=2", "rounds": 1, "members": 2, "steps": 1}


def network(width: int = 4) -> nn.Module:
    """What the specs below name: a network of toy inputs with one hidden layer."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(toy.FEATURES, width), nn.ReLU(), nn.Linear(width, 2))


def examples(modality: str) -> tuple[Tensor, Tensor]:
    x, labels = toy.inputs(100, 0)
    if modality == "text":
        generator = torch.Generator().manual_seed(0)
        return torch.randint(1, 300, (100, 6), generator=generator), labels
    return (x if modality == "image" else x.flatten(1) - 0.5), labels


def recipe(modality: str) -> Recipe:
    x, labels = examples(modality)

    def build() -> nn.Module:
        return WordCnn(14002, 4, 4) if modality == "text" else network()

    def train(made: Recipe, progress: Progress | None) -> Body:
        module = made.build()
        assert isinstance(module, nn.Module)
        schedule, rows = Schedule(2, batch=25), torch.arange(100)
        return fit(module, lambda at, _: (x[at], labels[at]), rows, schedule, made.seed, progress, method=made.method)

    return replace(toy.recipe(), modality=modality, family="cnn", build=build, train=train)


def trees(modality: str) -> Recipe:
    x, labels = examples(modality)

    def train(made: Recipe, progress: Progress | None) -> Body:
        from sklearn.tree import DecisionTreeClassifier

        def grow(seen: Tensor, told: Tensor) -> TreeEnsemble:
            tree = DecisionTreeClassifier(max_depth=4, random_state=made.seed)
            return TreeEnsemble.from_sklearn(tree.fit(seen.flatten(1).numpy(), told.numpy()))

        def model(found: TreeEnsemble) -> TreeModel:
            return TreeModel(found, name="tree", modality=modality, space=PIXELS, classes=("a", "b"))

        return (made.method or Method()).grow(grow, model, x, labels, made.seed)

    return replace(toy.recipe(), modality=modality, family="tree", build=TreeEnsemble.empty, train=train)


def built(modality: str, info: DefenceInfo) -> Any:
    taken = inspect.signature(info.build).parameters
    given: dict[str, Any] = {name: value for name, value in SMALL.items() if name in taken}
    if info.name == "harden":
        del given["attack"]
    if modality in FACTS:
        spec = f"py:{__name__.rpartition('.')[2]}:network?{FACTS[modality]}"
        given |= {name: f"({spec})" for name in ("teacher", "source", "static") if name in taken}
    return info.build(**given)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


every = pytest.mark.parametrize(("modality", "info"), LISTED, ids=[f"{owner}-{info.name}" for owner, info in LISTED])


@every
def test_it_makes_a_recipe_of_a_recipe(modality: str, info: DefenceInfo) -> None:
    """Its body is as the recipe says, comes ready to be asked, and is the same bytes again from the same seed."""
    defence = built(modality, info)
    plain = trees(modality) if info.name == "harden" else recipe(modality)
    made = trained_by(plain, defence, info.name, f"toy-{info.name}", "defended", "py:toy")
    told: list[tuple[int, int]] = []

    def train(seed: int) -> Body:
        with deterministic(seed):
            return made.train(replace(made, seed=seed), lambda at, of, loss: told.append((at, of)))

    body, before = train(0), torch.get_rng_state()
    assert told
    assert told[-1][0] == told[-1][1]
    assert all(one[0] < other[0] for one, other in pairwise(told))
    again = train(0)
    assert torch.equal(before, torch.get_rng_state())
    packed, other = pack(body), pack(again)
    assert packed.keys() == other.keys()
    assert all(torch.equal(packed[name], other[name]) for name in packed)
    restored = restore(made.build(), packed)
    assert isinstance(restored, type(body))
    if isinstance(body, nn.Module):
        assert not any(part.training for part in body.modules())
        assert all(value.requires_grad for value in body.parameters())
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in body.modules())
        x, _ = examples(modality)
        assert bool(body(x).isfinite().all())
        seeded: Callable[[int], Body] = train
        assert any(not torch.equal(a, b) for a, b in zip(pack(seeded(1)).values(), packed.values(), strict=True))


@every
def test_parameters_are_told_and_the_model_is_attacked_as_it_is(modality: str, info: DefenceInfo) -> None:
    assert info.adaptation == ("network",)
    assert info.build.__doc__
    taken = inspect.signature(info.build).parameters
    assert info.name == "harden" or "epochs" in taken
    assert not {"self", "kwargs"} & set(taken)
