"""The network that computes under attack answers as the network itself, and steps aside where it has to."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from torch import nn

from carom.common.core.spaces import Box
from carom.common.models.evaluation.evaluator import Evaluation, evaluation_of, state_of
from carom.common.models.evaluation.folding import folded
from carom.common.models.networks import TorchModel

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
X = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """conv, norm and relu; with `twice` something else reads what the convolution answers, too."""

    def __init__(self, twice=False):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.dense, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.twice = twice

    def forward(self, x):
        made = self.conv(x)
        out = self.norm(made).relu() + (made.tanh() if self.twice else 0)
        return self.last(self.dense(self.head(out.mean((2, 3))))) * 3


def net(**facts):
    torch.manual_seed(0)
    module = Net(**facts)
    for norm in (module.norm, module.last):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
    return module.eval()


def model(module):
    return TorchModel(module, name="n", modality="image", family="cnn", space=PIXELS, classes=tuple("abcd"))


def test_norms_are_gone_and_answers_and_gradients_stay():
    module = net()
    fast, _ = folded(module, (X,))
    assert not any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in fast.modules())
    one, other = X.clone().requires_grad_(), X.clone().requires_grad_()
    (module(one).square().sum()).backward()
    (fast(other).square().sum()).backward()
    assert torch.allclose(module(X), fast(X), atol=1e-5)
    assert torch.allclose(one.grad, other.grad, atol=1e-5 * one.grad.abs().max())


def test_a_layer_that_somebody_else_reads_is_not_folded():
    module = net(twice=True)
    left = evaluation_of(module, (X,))
    assert left.network is module
    assert left.reason.startswith("answers otherwise when folded")


def test_networks_with_nothing_to_fold_and_networks_that_cannot_be_copied_are_left():
    class Stubborn(Net):
        def __deepcopy__(self, memo):
            raise RuntimeError("one of a kind")

    class Speechless(Net):
        def forward(self, x):
            return (super().forward(x),)

    for module, reason in (
        (nn.Sequential(nn.Flatten(), nn.Tanh()), "has no batch norm, 2-d convolution or dense layer to gain from"),
        (Stubborn().eval(), "cannot be copied (RuntimeError: one of a kind)"),
        (Speechless().eval(), "fails on its first inputs (TypeError: answers with tuple, not with a tensor of logits)"),
    ):
        assert evaluation_of(module, (X,)) == Evaluation(module, 16, reason)
        assert str(evaluation_of(module, (X,))) == f"as it is: {reason}; rows in multiples of 16"


def test_only_a_frozen_model_that_nobody_watches_is_computed_folded():
    target = model(net())
    target(X)
    assert target.evaluation((X,)) == Evaluation(target.module, 16, "is not frozen")
    with target.frozen():
        handle = target.module.conv.register_forward_hook(lambda *_: None)
        target(X)
        assert target.evaluation((X,)) == Evaluation(target.module, 16, "has forward hooks on conv")
        handle.remove()
        handle = target.module.register_full_backward_hook(lambda *_: None)
        assert target.evaluation((X,)).reason == "has backward hooks on the whole network"
        handle.remove()
        assert torch.allclose(target(X).logits, target.module(X), atol=1e-5)
        assert target.evaluation((X,)).network is not target.module
        assert str(target.evaluation((X,))).startswith("folded; rows in multiples of ")


def test_a_network_folded_in_inference_mode_serves_backward_passes():
    target, x = model(net()), X.clone().requires_grad_()
    with target.frozen():
        with torch.inference_mode():
            target(X)
        target(x).logits.sum().backward()
        assert target.evaluation((x,)).reason is None
    assert x.grad.abs().sum() > 0


def test_other_weights_are_folded_anew():
    target = model(net())
    with target.frozen():
        target(X)
        first = target.evaluation((X,))
        target(X)
        assert target.evaluation((X,)) is first
        with torch.no_grad():
            target.module.conv.weight.mul_(2)
        assert torch.allclose(target(X).logits, target.module(X), atol=1e-5)
        assert target.evaluation((X,)) is not first


def test_parts_exchanged_and_hooks_added_between_two_answers_are_seen():
    target = model(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)))
    seen = []
    with target.frozen():
        for place, part in ((4, nn.Linear(216, 4)), (2, nn.Tanh()), (1, nn.BatchNorm2d(6).eval())):
            before = target(X).logits
            target.module[place] = part
            assert torch.allclose(target(X).logits, target.module(X), atol=1e-5)
            assert place == 1 or not torch.allclose(before, target.module(X), atol=1e-2)
        handle = target.module[1].register_forward_hook(lambda *_: seen.append(1))
        target(X)
        assert seen == [1], "the new part is watched"
        handle.remove()
        target(X)
        assert seen == [1]
        target.module = net()
        assert torch.allclose(target(X).logits, target.module(X), atol=1e-5)


def test_the_network_itself_stays_as_it_was():
    module = net().train()
    before, state = copy.deepcopy(module), state_of(module)
    target = model(module)
    with target.frozen():
        target(X)
    assert state_of(module) == state
    assert module.training
    assert str(module) == str(before)
    assert all(p.requires_grad for p in module.parameters())


class Mixed(nn.Module):
    """A dense layer over all rows of all images, beside what is asked for."""

    def __init__(self, other):
        super().__init__()
        self.dense, self.other, self.head = nn.Linear(24, 30), other, nn.Linear(30, 5)

    def forward(self, x):
        return self.head(self.other(self.dense(x.flatten(2).reshape(len(x), 8, 24)))).amax(1)


class ByHand(nn.Module):
    """A matrix product that no dense layer computes, from weights of three dimensions or of a layer's own."""

    def __init__(self, layer=False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 30, 30))
        self.layer = nn.Linear(30, 30) if layer else None

    def forward(self, x):
        weight = self.weight[0] if self.layer is None else self.layer.weight
        return (x.mean(1) @ weight.T)[:, None]


class Recurrent(nn.GRU):
    def forward(self, x):
        return super().forward(x)[0]


def answers(target, x):
    """(logits, gradients of their largest)"""
    x = x.clone().requires_grad_()
    logits = target(x).logits
    (made,) = torch.autograd.grad(logits.amax(1).sum(), x)
    return logits.detach(), made


@pytest.mark.parametrize(
    ("other", "rows"),
    [
        (nn.ReLU, 2),
        (lambda: nn.LayerNorm(30), 2),
        (lambda: nn.TransformerEncoderLayer(30, 2, batch_first=True), 16),  # attention holds weights of its own
        (lambda: Recurrent(30, 30, batch_first=True), 16),
        (ByHand, None),  # what is no matrix, or not used by its layer, shows in the answers alone
        (lambda: ByHand(layer=True), None),
    ],
    ids=["relu", "norm", "attention", "gru", "tensor", "borrowed"],
)
def test_batches_are_in_pairs_where_dense_layers_hold_all_weight_matrices(other, rows):
    torch.manual_seed(1)
    target = model(Mixed(other()).eval())
    x = torch.rand(48, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with target.frozen():
        whole = answers(target, x)
        assert rows in (None, target.evaluation((x,)).rows)
        for count in (*range(1, 20), 31, 37):
            for mine, among in zip(answers(target, x[:count]), whole, strict=True):
                assert torch.equal(mine, among[:count]), count


class Large(nn.Module):
    """A network that a row of which keeps the machine busy; notes how many rows it is given together."""

    seen: ClassVar[list[int]] = []

    def __init__(self, company=0.0):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(3, 48, 3), nn.Conv2d(48, 48, 3), nn.Linear(48, 4)
        self.company = company

    def forward(self, x):
        self.seen.append(len(x))
        answer = self.head(self.two(self.one(x).relu()).relu().mean((2, 3)))
        return answer * (1 + self.company * (len(x) > 1))


@pytest.mark.parametrize("company", [0.0, 1e-6], ids=["steady", "moved by company"])
def test_a_row_that_keeps_the_machine_busy_is_computed_without_copies(company):
    torch.manual_seed(0)
    target = model(Large(company).eval())
    x = torch.rand(5, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    with target.frozen():
        Large.seen.clear()
        alone = [answers(target, x[row : row + 1]) for row in range(len(x))]
        assert max(Large.seen) == 1, "a batch of one takes the memory of one"
        assert "one row after another" in str(target.evaluation((x[:1],)))
        for count in (2, 5):
            for mine, rows in zip(answers(target, x[:count]), zip(*alone, strict=True), strict=True):
                assert torch.equal(mine, torch.cat(rows)[:count])
        assert target.evaluation((x,)).apart == bool(company)
        Large.seen.clear()
        target(x)
        assert set(Large.seen) == ({1} if company else {5})
        handle = target.module.two.register_forward_hook(lambda *_: None)
        Large.seen.clear()
        target(x[:1])
        assert max(Large.seen) == 4
        Large.seen.clear()
        target(x[:1])
        assert Large.seen == [2]
        handle.remove()


def test_rows_of_every_size_are_computed_as_they_need_by_one_folded_network():
    torch.manual_seed(0)
    target = model(Large().eval())
    small, large = torch.rand(3, 3, 8, 8), torch.rand(1, 3, 128, 128)
    for first, second in ((small, large), (large, small)):
        target.to("cpu")
        with target.frozen():
            one, other = target.evaluation((first,)), target.evaluation((second,))
            assert one.network is other.network
            assert {one.rows, other.rows} == {1, 2}
