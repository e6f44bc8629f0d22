"""Checkpoints hold few bytes: what int8 may lose is bounded, and trees lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from carom.common.loading.packing import LARGE, LEVELS, SCALE, pack, precision, quantise, unpack, unpack_trees
from carom.common.loading.zoo import restore
from carom.common.models.boosting import boosted
from carom.common.models.trees import TreeEnsemble


def rows(seed: int = 0) -> torch.Tensor:
    """Rows of ordinary, large, tiny and no size, and one with an outlier."""
    matrix = torch.randn(40, 7, 5, generator=torch.Generator().manual_seed(seed))
    matrix[1] *= 300
    matrix[2] *= 1e-4
    matrix[3] *= 1e-6
    matrix[4] = 0
    matrix[5, 2, 2] = 50
    return matrix


@pytest.mark.parametrize("seed", range(5))
def test_int8_is_off_by_half_a_step_at_most(seed: int) -> None:
    matrix = rows(seed)
    codes, scale = quantise(matrix)
    assert codes.dtype is torch.int8
    assert scale.dtype is torch.float16
    assert codes.shape == matrix.shape
    assert scale.shape == (40,)
    step = scale.double().view(-1, 1, 1)
    error = (codes.double() * step - matrix.half().double()).abs()
    assert (error <= step * 0.5001).all()
    assert (codes.int().abs() <= LEVELS).all()
    assert (codes[4] == 0).all()
    used = codes.flatten(1).int().abs().amax(1)
    assert (used[[0, 1, 5]] >= LEVELS - 2).all()  # the levels are made use of: a scale too large loses bits
    assert used[2] > 0.9 * LEVELS  # fp16 itself has few digits left for so small a scale


def test_reading_is_exact_and_packing_what_was_read_changes_nothing() -> None:
    matrix = rows()
    codes, scale = quantise(matrix)
    read = unpack({"w": codes, SCALE + "w": scale})["w"]
    assert read.dtype is torch.float32
    assert torch.equal(read.double(), codes.double() * scale.double().view(-1, 1, 1))
    for one, other in zip(quantise(matrix.half().float()), (codes, scale), strict=True):
        assert torch.equal(one, other)  # a checkpoint of fp16 packs to what its training would have written


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 64, 5), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(64, 10)).eval()


def test_large_matrices_are_int8_and_the_rest_fp16() -> None:
    module = network()
    tensors = pack(module)
    assert tensors["0.weight"].numel() >= LARGE > tensors["3.weight"].numel()
    assert tensors["0.weight"].dtype is torch.int8
    assert tensors["3.weight"].dtype is tensors["0.bias"].dtype is torch.float16
    assert tensors["1.num_batches_tracked"].dtype is torch.int64
    assert precision(tensors) == "int8 rows with fp16 scales, fp16"
    state = unpack(load(save(tensors)))
    assert list(state) == list(module.state_dict()) or set(state) == set(module.state_dict())
    assert torch.equal(state["3.weight"], module.state_dict()["3.weight"].half().float())
    again = restore(network(), load(save(tensors)))
    assert isinstance(again, nn.Module)
    assert not again.training
    x = torch.rand(8, 3, 5, 5)
    assert torch.allclose(again(x), module(x), atol=0.05)
    assert not torch.equal(again(x), module(x))


SEEN, LABELS = make_classification(600, 12, n_informative=6, n_classes=3, random_state=0)
SEEN = SEEN.round(1).astype(np.float32)
GROWERS = {
    "tree": DecisionTreeClassifier(random_state=0),
    "best first": DecisionTreeClassifier(max_leaf_nodes=20, random_state=0),
    "forest": RandomForestClassifier(7, max_leaf_nodes=40, random_state=0),
    "unequal": RandomForestClassifier(7, min_samples_leaf=9, random_state=0),
    "stump": DecisionTreeClassifier(max_depth=1, random_state=0),
    "leaf": DecisionTreeClassifier(max_depth=1, min_samples_split=1000, random_state=0),
}


def assert_same_trees(ensemble: TreeEnsemble) -> None:
    again = unpack_trees(load(save(pack(ensemble))))
    kept = TreeEnsemble.from_tensors(ensemble.tensors())  # forests' shares are rounded to fp16, as identities are
    cuts = torch.from_numpy(SEEN)[torch.randint(600, (400, 12), generator=torch.Generator().manual_seed(0)), range(12)]
    near = torch.nextafter(cuts, torch.full_like(cuts, -9))
    for x in (torch.from_numpy(SEEN), cuts, near):
        assert torch.equal(again.logits(x), kept.logits(x))
    assert (again.depth, again.trees, again.classes) == (kept.depth, kept.trees, kept.classes)
    assert save(pack(again)) == save(pack(ensemble))


@pytest.mark.parametrize("name", GROWERS)
def test_packed_trees_answer_the_same(name: str) -> None:
    assert_same_trees(TreeEnsemble.from_sklearn(GROWERS[name].fit(SEEN, LABELS)))


def test_packed_boosted_trees_answer_the_same() -> None:
    grown = GradientBoostingClassifier(n_estimators=5, max_depth=3, random_state=0).fit(SEEN, LABELS)
    ensemble = boosted(grown)
    assert ensemble.additive
    assert_same_trees(ensemble)


def test_packed_trees_are_short() -> None:
    ensemble = TreeEnsemble.from_sklearn(GROWERS["forest"].fit(SEEN, LABELS))
    assert len(save(pack(ensemble))) < 0.5 * len(save(ensemble.tensors()))
