"""Inner layers: which one is looked at, what is seen of it, and that no hook is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.spaces import Box
from carom.common.models.functions import FunctionModel
from carom.common.models.layers import layers, tapped, watching
from carom.common.models.networks import TorchModel

SPACE = Box("floats", 0.0, 1.0, 0.0)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x))


class Net(nn.Module):
    """Four stages of two blocks."""

    def __init__(self):
        super().__init__()
        stages = [nn.Sequential(Block(8 if i else 2, 8, 1 + (i > 0)), Block(8, 8)) for i in range(4)]
        self.stages = nn.ModuleDict({f"s{i}": stage for i, stage in enumerate(stages)})
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for stage in self.stages.values():
            x = stage(x)
        return self.head(x.mean((2, 3)))


def model_of(module):
    return TorchModel(module, name="toy", modality="image", family="cnn", space=SPACE, classes="abc")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return model_of(nn.Sequential(nn.Identity(), Net()))


X = torch.rand(5, 2, 16, 16, generator=torch.Generator().manual_seed(0))


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules())


def test_the_middle_layer_is_the_end_of_the_middle_stage(model):
    with tapped(model) as tap:
        model(X)
        assert tap.rows(5).shape == (5, 8, 8, 8)  # of 16, 8, 4, 2
        assert tap.layer == "1.stages.s1.1"
        first = tap.rows(5)
        model(X / 2)
        assert not torch.equal(tap.rows(5), first)
    assert hooks(model) == 0


def test_without_stages_it_is_the_middle_part():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True) for _ in range(4))
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.head(x.mean(1))

    with tapped(model_of(Tokens().eval())) as tap:
        tap.model(torch.rand(4, 6, 8, requires_grad=True))
        assert tap.rows(4).shape == (4, 6, 8)
        assert tap.layer == "layers.1"


def test_a_layer_by_name_is_seen_before_what_follows_changes_it_in_place(model):
    """By the name it has in the part that a user handed in, without the wrapping around it."""
    with tapped(model, "stages.s2.0.conv") as tap:
        logits = model(X).logits
        assert (tap.rows(5) < 0).any()
    assert torch.equal(model(X).logits, logits)
    with pytest.raises(UnknownName, match=r"no layer of toy is called '1.stages.s2.5'. Did you mean 1.stages.s2.1"):
        tapped(model, "1.stages.s2.5").__enter__()
    assert hooks(model) == 0


def test_layers_can_be_changed_and_come_back_from_an_error(model):
    convolutions = layers(model, nn.Conv2d)
    assert len(convolutions) == 8
    seen = []

    def see(name, out):
        seen.append(name)
        return 0 * out if name == "1.stages.s3.1.conv" else None

    def fail():
        with watching(convolutions, see):
            assert torch.equal(model(X).logits, model.module[1].head.bias.expand(5, 3))
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fail()
    assert seen == list(convolutions)
    assert hooks(model) == 0


def test_what_has_no_inner_layers_says_so():
    flat = model_of(nn.Sequential(nn.Flatten(), nn.Linear(512, 4), nn.Tanh(), nn.Linear(4, 3)))
    with tapped(flat) as tap:
        flat(X)
        with pytest.raises(CaromError, match=r"toy has no inner layer of the form \[N, C, H, W\]"):
            _ = tap.whole
    function = FunctionModel(
        len, name="f", modality="image", family="other", space=SPACE, classes="ab", digest="0", probabilities=True
    )
    with pytest.raises(CaromError, match="f is no torch network"):
        tapped(function).__enter__()


def test_a_layer_that_is_never_used_says_so(model):
    model.module[1].spare = nn.Conv2d(8, 8, 1)
    with tapped(model, "spare") as tap:
        model(X)
        with pytest.raises(CaromError, match="spare of toy takes no part"):
            _ = tap.whole
