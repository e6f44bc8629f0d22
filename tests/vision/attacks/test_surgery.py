"""Surgeries pass exactly the gradients that they say they do: compared with networks rebuilt by hand so that plain
autograd has these gradients, whoever wrote the network."""

from __future__ import annotations

import contextlib
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from carom.common.api import load_data, load_model, transfer
from carom.common.attacks.catalogue.gradient import bim
from carom.common.attacks.inside.backward_surgery import (
    ConstantAttention,
    LinearBackward,
    RegularTokens,
    SkipGradients,
    Surgeries,
    operate,
)
from carom.common.attacks.inside.ghost_networks import Ghosts
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal
from carom.common.core.objectives import logit
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem
from carom.common.core.spaces import Box
from carom.common.core.threats import Linf
from carom.common.models.kinds import builds_of
from carom.common.models.layers import watching
from carom.common.models.networks import TorchModel
from carom.vision.attacks.input_transforms import di_fgsm
from carom.vision.attacks.surgery import operated
from carom.vision.models import networks

SPACE = Box("floats", -100.0, 100.0, 0.0)
N = 5  # no multiple of the rows that a model computes together
CLASSES = 4


def own(kind, **more):
    return kind((3, 32, 32), CLASSES, networks.Normalise([0.5] * 3, [0.2] * 3), **more)


def own_resnet():
    return own(networks.ResNet, widths=(4, 6, 8), blocks=2)


def own_vit():
    return own(networks.ViT, patch=8, dim=12, depth=2, heads=2)


def hugging_face(attention):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=CLASSES, attn_implementation=attention)
    return ViTForImageClassification(config)


def vision_transformer():
    net = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 24, num_classes=CLASSES)
    nn.init.normal_(net.heads.head.weight)  # torchvision begins with zeros
    return net


def swin():
    return torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=CLASSES)


def resnet(block):
    return torchvision.models.ResNet(
        block, [1, 2, 1, 1], num_classes=CLASSES, width_per_group=64 if block.expansion == 1 else 8
    )


def densenet():
    return torchvision.models.DenseNet(4, (2, 3), 8, num_classes=CLASSES)


def double(module):
    return module.double().eval()


def oracle_of(module):
    model = TorchModel(module, name="toy", modality="image", family="cnn", space=SPACE, classes="abcd")
    x = Rng.of(0, IDS).uniform(3, 32, 32).double()
    labels = torch.arange(N) % CLASSES
    return Oracle(Problem(model, Goal(labels), Linf(0.1)), Batch(x, labels, IDS))


IDS = [f"e{i}" for i in range(N)]


def gradient(module, surgery=None):
    """d(minus the label's logit) / dx by the oracle, under a surgery."""
    oracle = oracle_of(module)
    with oracle.problem.model.frozen(), contextlib.nullcontext() if surgery is None else surgery(oracle):
        grad, _, _ = oracle.gradient(logit, oracle.batch.inputs)
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())
    return grad


def modules(net, *endings):
    return {name: module for name, module in net.named_modules() if name.endswith(endings)}


# The names of transformers 4, and those of 5.
HF_BRANCHES = (".attention.output.dense", "0.output.dense", "1.output.dense", ".attention.o_proj", ".mlp.fc2")

BRANCHES = {
    "own-resnet": (own_resnet, (".residual",)),
    "own-vit": (own_vit, (".attn", ".mlp")),
    "basic": (partial(resnet, torchvision.models.resnet.BasicBlock), (".bn2",)),
    "bottleneck": (partial(resnet, torchvision.models.resnet.Bottleneck), (".bn3",)),
    "densenet": (densenet, ("layer1", "layer2", "layer3")),
    "vit": (vision_transformer, ("_0.dropout", "_1.dropout", ".mlp")),
    "swin": (swin, (".attn", ".mlp")),
    "hf-vit": (partial(hugging_face, "sdpa"), HF_BRANCHES),
}
"""Networks, and the modules whose answer is all of a residual branch."""


@pytest.mark.parametrize("name", BRANCHES)
def test_sgm_is_the_gradient_with_every_branch_decayed(name):
    torch.manual_seed(0)
    build, endings = BRANCHES[name]
    net = double(build())
    branches = modules(net, *endings)
    plain = gradient(net)
    with watching(branches, lambda _, out: 0.3 * out + 0.7 * out.detach()):
        x = oracle_of(net).batch.inputs.requires_grad_()
        answer = net(x)
        loss = logit(getattr(answer, "logits", answer), oracle_of(net).problem.goal).sum()
    (expected,) = torch.autograd.grad(loss, x)
    found = gradient(net, SkipGradients(0.3))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-9 * float(expected.abs().max()) + 1e-15)
    assert not torch.allclose(found, plain, rtol=0.1)
    assert torch.allclose(gradient(net, SkipGradients(1.0)), plain, rtol=1e-5)


class Linear(nn.Module):
    """A ReLU forward, the identity backward."""

    def forward(self, x):
        return x + (x.relu() - x).detach()


def test_linbp_passes_relus_behind_the_layer_as_if_they_were_linear():
    torch.manual_seed(0)
    net = double(own(networks.VGG, widths=(4, 6), hidden=8))
    plain, found = gradient(net), gradient(net, LinearBackward("features.6"))
    for number, part in enumerate(net.features):
        if number > 6 and isinstance(part, nn.ReLU):
            net.features[number] = Linear()
    net.head[3] = Linear()
    expected = gradient(net)
    assert torch.allclose(found, expected, rtol=1e-5)
    assert not torch.allclose(found, plain, rtol=0.1)


def test_linbp_gives_residual_branches_the_norm_that_they_would_have():
    """Block by block from the answer down, each branch passed twice."""
    torch.manual_seed(0)
    net = double(own_resnet())
    x = oracle_of(net).batch.inputs.requires_grad_()
    start = net.stages[0](net.stem(net.normalise(x)))
    places, blocks = [start], [*net.stages[1], *net.stages[2]]
    for block in blocks:
        places.append(block(places[-1]).detach().requires_grad_())
    loss = logit(net.head(places[-1].mean((2, 3))), oracle_of(net).problem.goal).sum()
    (grad,) = torch.autograd.grad(loss, places[-1])
    for block, place in zip(reversed(blocks), reversed(places[:-1]), strict=True):
        place = place.detach().requires_grad_()
        (own_,) = torch.autograd.grad(block.residual(place), place, grad)
        block.residual[2] = Linear()
        (linear,) = torch.autograd.grad(block.residual(place), place, grad)
        block.residual[2] = nn.ReLU()
        skip = (
            grad
            if isinstance(block.shortcut, nn.Identity)
            else torch.autograd.grad(block.shortcut(place), place, grad)[0]
        )
        ratio = own_.flatten(1).norm(dim=1) / linear.flatten(1).norm(dim=1)
        grad = skip + ratio[:, None, None, None] * linear
    (expected,) = torch.autograd.grad(start, x, grad)
    found = gradient(net, LinearBackward("stages.0"))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-9)
    middle = gradient(net, LinearBackward("stages.1"))
    assert torch.equal(gradient(net, LinearBackward()), middle)
    assert not torch.allclose(middle, found, rtol=1e-2)


ATTENTIONS = {
    "own-vit": own_vit,
    "vit": vision_transformer,
    "swin": swin,
    "hf-sdpa": partial(hugging_face, "sdpa"),
    "hf-eager": partial(hugging_face, "eager"),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_pna_is_the_gradient_with_attention_maps_detached(name, monkeypatch):
    torch.manual_seed(0)
    net = double(ATTENTIONS[name]())
    plain, found = gradient(net), gradient(net, ConstantAttention())
    fused, softmax = F.scaled_dot_product_attention, F.softmax
    detached = lambda q, k, v, *more, **rest: fused(q.detach(), k.detach(), v, *more, **rest)  # noqa: E731
    monkeypatch.setattr(F, "scaled_dot_product_attention", detached)
    monkeypatch.setattr(F, "softmax", lambda *given, **more: softmax(*given, **more).detach())
    with watching(modules(net, ".attn_drop"), lambda _, out: out.detach()):
        x = oracle_of(net).batch.inputs.requires_grad_()
        answer = net(x)
        loss = logit(getattr(answer, "logits", answer), oracle_of(net).problem.goal).sum()
        (expected,) = torch.autograd.grad(loss, x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7 * float(expected.abs().max()))
    assert not torch.allclose(found, plain, rtol=1e-2, atol=1e-4 * float(expected.abs().max()))


def without_extremes(grad, factor):
    """Token by token and channel by channel."""
    out = factor * grad.clone()
    for row in range(len(grad)):
        for channel in range(grad.shape[2]):
            out[row, grad[row, :, channel].argmax(), channel] = 0
            out[row, grad[row, :, channel].argmin(), channel] = 0
    return out


def without_extreme_pairs(grad, factor):
    out = factor * grad.clone()
    for row in range(len(grad)):
        for head in range(grad.shape[1]):
            for place in (int(grad[row, head].argmax()), int(grad[row, head].argmin())):
                out[row, head, place // grad.shape[3]] = 0
                out[row, head, :, place % grad.shape[3]] = 0
    return out


def test_tgr_drops_extreme_tokens():
    torch.manual_seed(0)
    net = double(own_vit())
    plain, found = gradient(net), gradient(net, RegularTokens())

    def see(name, out):
        if name.endswith("attn_drop"):
            out.register_hook(lambda grad: without_extreme_pairs(grad, 0.25))
        elif name.endswith("qkv"):
            out.register_hook(lambda grad: without_extremes(grad, 0.75))
        else:
            out.register_hook(lambda grad: without_extremes(grad, 0.5))

    # A view with a hook of its own: what is added to the trunk gets the trunk's gradient.
    with watching(
        modules(net, ".attn_drop", ".qkv", ".mlp"), lambda name, out: see(name, fresh := out.clone()) or fresh
    ):
        x = oracle_of(net).batch.inputs.requires_grad_()
        (expected,) = torch.autograd.grad(logit(net(x), oracle_of(net).problem.goal).sum(), x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-9)
    assert not torch.allclose(found, plain, rtol=0.1)


@pytest.mark.parametrize("name", ["vit", "swin", "hf-sdpa", "hf-eager"])
def test_tgr_changes_other_transformers_row_by_row(name):
    """No row depends on its neighbours, and the two ways in which one network computes attention agree."""
    torch.manual_seed(0)
    net = double(ATTENTIONS[name]())
    found = gradient(net, RegularTokens())
    oracle = oracle_of(net).take(torch.tensor([3]))
    with oracle.problem.model.frozen(), RegularTokens()(oracle):
        alone, _, _ = oracle.gradient(logit, oracle.batch.inputs)
    assert torch.allclose(alone[0], found[3], rtol=1e-5, atol=1e-9 * float(found.abs().max()))
    assert not torch.allclose(found, gradient(net), rtol=0.1, atol=1e-3 * float(found.abs().max()))
    if name == "hf-sdpa":
        other = double(ATTENTIONS["hf-eager"]())
        other.load_state_dict(net.state_dict())
        assert torch.allclose(gradient(other, RegularTokens()), found, rtol=1e-4, atol=1e-7 * float(found.abs().max()))


def ghosts_of(net, surgery, rows=None):
    oracle = oracle_of(net) if rows is None else oracle_of(net).take(torch.tensor(rows))
    with oracle.problem.model.frozen(), surgery(oracle) as announce:
        announce(Rng.of(7, oracle.batch.ids))
        _, _, logits = oracle.gradient(logit, oracle.batch.inputs)
    return logits


def test_ghost_scales_each_trunk_by_numbers_of_its_own():
    torch.manual_seed(0)
    net = double(own_resnet())
    found = ghosts_of(net, Ghosts(rate=0.4))
    rng, blocks = Rng.of(7, IDS), []

    def see(name, out):
        blocks.append(name)
        factor = 1 + 0.4 * (2 * rng.fold("ghost", len(blocks)).uniform(1, 1, 1) - 1)
        return out * factor

    with watching(modules(net, ".shortcut"), see), torch.no_grad():
        expected = net(oracle_of(net).batch.inputs)
    assert len(blocks) == 6
    assert torch.allclose(found, expected.float(), rtol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(found, net(oracle_of(net).batch.inputs).float(), rtol=1e-2)
    assert torch.allclose(ghosts_of(net, Ghosts(rate=0.4), [3, 1])[0], found[3])


@pytest.mark.parametrize("name", ["basic", "densenet", "vit", "swin", "hf-vit"])
@pytest.mark.parametrize("erosion", ["skip", "dropout"])
def test_ghosts_of_others_differ_by_row_and_leave_the_network_alone(name, erosion):
    torch.manual_seed(0)
    net = double(BRANCHES[name][0]())
    surgery = Ghosts(erosion, 0.3)
    found, x = ghosts_of(net, surgery), oracle_of(net).batch.inputs
    assert torch.allclose(ghosts_of(net, surgery, [3, 1])[0], found[3], rtol=1e-4)
    with torch.no_grad():
        plain = net(x)
        plain = getattr(plain, "logits", plain).float()
        assert not torch.allclose(found, plain, rtol=1e-2, atol=1e-4)
    assert torch.allclose(ghosts_of(net, Ghosts(erosion, 0.0)), plain, rtol=1e-4, atol=1e-6)


def test_ghosts_are_only_for_passes_that_were_announced():
    net = double(own_resnet())
    oracle = oracle_of(net)
    with oracle.problem.model.frozen(), Ghosts()(oracle) as announce:
        before = oracle.logits(oracle.batch.inputs)
        announce(Rng.of(1, IDS))
        assert torch.equal(oracle.logits(oracle.batch.inputs), before)


@pytest.mark.parametrize(
    ("surgery", "build", "says"),
    [
        (
            SkipGradients(),
            partial(own, networks.VGG, widths=(4,)),
            "sgm decays the gradients of residual branches, toy",
        ),
        (LinearBackward(), own_vit, "linbp passes gradients through ReLUs, toy has none behind"),
        (ConstantAttention(), own_resnet, "pna skips the gradients of attention maps, toy has none"),
        (RegularTokens(), own_resnet, "tgr regularises .* toy has no attention"),
        (Ghosts(), partial(own, networks.VGG, widths=(4,)), "ghost erodes residual connections, toy has none"),
        (Ghosts("dropout"), lambda: nn.Sequential(nn.Conv2d(3, 4, 32), nn.Flatten()), "activation functions .* toy"),
        (SkipGradients(), partial(own, networks.RowGRU), "sgm decays the gradients of residual branches, toy"),
    ],
)
def test_networks_without_what_a_surgery_changes_are_refused(surgery, build, says):
    torch.manual_seed(0)
    oracle = oracle_of(double(build()))

    def run():
        with oracle.problem.model.frozen(), surgery(oracle) as announce:
            if announce is not None:
                announce(Rng.of(0, IDS))
            oracle.gradient(logit, oracle.batch.inputs)

    with pytest.raises(CaromError, match=says):
        run()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in oracle.problem.model.module.modules())


def test_surgeries_add_up():
    """One after another on the same graph; those that are random hear what comes next."""
    torch.manual_seed(0)
    net = double(own_vit())
    both = gradient(net, operate(SkipGradients(0.5), ConstantAttention()))
    assert torch.allclose(both, gradient(net, operate(ConstantAttention(), SkipGradients(0.5))), rtol=1e-6)
    assert not torch.allclose(both, gradient(net, ConstantAttention()), rtol=0.1)
    attack = operated(operated(di_fgsm(steps=2), SkipGradients()), Ghosts())
    assert attack.surgery == Surgeries((SkipGradients(), Ghosts()))
    oracle = oracle_of(net)
    result = attack(oracle.problem, oracle.batch, Rng.of(0, IDS))
    assert result.cost.backward.tolist() == [2] * N
    only = operated(bim(steps=2), SkipGradients())(oracle.problem, oracle.batch, Rng.of(0, IDS))
    assert not torch.equal(result.inputs, only.inputs)


def test_members_of_an_ensemble_are_operated_on_one_by_one():
    torch.manual_seed(0)
    nets = [double(own_resnet()), double(own_vit())]
    oracle = oracle_of(nets[0])
    model = oracle.problem.model
    plain = {net: gradient(net, SkipGradients(0.5)) for net in nets}
    both = SimpleNamespace(members=(model, SimpleNamespace(members=(oracle_of(nets[1]).problem.model,))))
    with model.frozen(), SkipGradients(0.5)(oracle.of(both)), operate(None, Ghosts())(oracle.of(both)) as announce:
        announce(Rng.of(3, IDS))
        for net in nets:
            ghostly = oracle.of(oracle_of(net).problem.model)
            grad, _, logits = ghostly.gradient(logit, oracle.batch.inputs)
            assert not torch.allclose(logits, ghostly.logits(oracle.batch.inputs), rtol=1e-2)
            assert not torch.allclose(grad, plain[net], rtol=1e-2)
    assert not any(m._forward_hooks or m._forward_pre_hooks for net in nets for m in net.modules())


def test_wrong_erosions_are_refused():
    with pytest.raises(CaromError, match="erosion='skips': choose skip or dropout"):
        Ghosts("skips")
    with pytest.raises(CaromError, match=r"rate=1\.5"):
        Ghosts(rate=1.5)


KINDS = {
    "zoo:image-resnet": {"layers", "residual", "relu"},
    "zoo:image-vgg": {"layers", "relu"},
    "zoo:image-vit": {"layers", "residual", "attention"},
    "zoo:image-gru": {"layers"},
    "zoo:image-mlp": set(),
    "zoo:image-tree": {"trees"},
}


@pytest.mark.parametrize("name", KINDS)
def test_what_a_model_is_made_of_is_found_out(name):
    model = load_model(name)
    batch = Batch(torch.rand(2, 1, 28, 28), torch.zeros(2, dtype=torch.long), ["a", "b"])
    assert builds_of(model, batch) == KINDS[name] | {"any"}


def test_studies_leave_out_what_does_not_suit_a_source_and_say_so():
    data = load_data("builtin:fashion-mnist", limit=6)
    resnet, vgg = load_model("zoo:image-resnet"), load_model("zoo:image-vgg")
    outcome = transfer([resnet, vgg], [vgg], ["sgm?steps=1", "fgsm"], data, controls=1)
    assert {(row["source"], row["attack"]) for row in outcome.rows()} == {
        ("image-resnet", "sgm?steps=1"),
        ("image-resnet", "fgsm"),
        ("image-vgg", "fgsm"),
    }
    why = "works on residual or densely connected networks"
    assert outcome.summary()["left_out"] == [{"source": "image-vgg", "attack": "sgm?steps=1", "why": why}]
    outcome = transfer([vgg], [vgg], ["fgsm", "leaf-path"], data, controls=1)
    assert outcome.summary()["left_out"] == [{"source": "image-vgg", "attack": "leaf-path", "why": "needs leaves"}]
    outcome = transfer([vgg, load_model("zoo:image-tree")], [vgg], ["fgsm", "leaf-path"], data, controls=1)
    assert outcome.summary()["left_out"] == []  # each attack has its source
    message = f"no chosen attack can run on image-vgg, which grants .*: sgm {why}"
    with pytest.raises(CaromError, match=message):
        transfer([vgg], [resnet], ["sgm"], data)


def test_relus_before_the_middle_layer_are_none_that_linbp_passes():
    """It starts behind that layer: a study leaves it out of such networks instead of ending there."""
    assert "relu" not in builds_of(
        load_model("zoo:image-cifar-vit"), Batch(torch.rand(1, 3, 32, 32), torch.zeros(1), ["a"])
    )
