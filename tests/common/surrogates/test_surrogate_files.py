"""A file of a surrogate is what it says it is, or it is refused by name; what its card names runs nowhere."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import carom
from carom.common.base.errors import CaromError

CLASSES = ["a", "b"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 2)

    def forward(self, x):
        return self.line(x.flatten(1))


def network():
    torch.manual_seed(0)
    return carom.load_model(Net(), "image", normalise=None, classes=CLASSES, shape=(1, 2, 2), name="net")


@pytest.fixture
def card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "marker", raising=False)
    model = network()
    model.card = {"kind": "substitute", "network": "zoo:image-vgg"}
    made = carom.save_surrogate(model, "good.safetensors")
    (tmp_path / "marker.py").write_text(
        "open('RAN', 'w').write('x')\nfrom torch import nn\n"
        "class Net(nn.Module):\n    def __init__(self, wide=2):\n        super().__init__()\n"
        "        self.line = nn.Linear(4, wide)\n    def forward(self, x):\n        return self.line(x.flatten(1))\n"
    )
    return {key: value for key, value in made.items() if key not in ("sha256", "torch")}


def saved(card, weights=None):
    text = card if isinstance(card, str) else json.dumps(card)
    save_file(weights or load_file("good.safetensors"), "x.safetensors", metadata={"carom-surrogate": text})


@pytest.mark.parametrize(
    "named",
    [
        "py:marker:Net",
        "py:subprocess:getoutput?cmd=touch RAN",
        "safetensors:good.safetensors#marker:Net",
        "hf:./folder?trust_remote_code=true",
        "ensemble:zoo:image-vgg+py:marker:Net",
        "surrogate:x.safetensors",
        "torchvision:resnet18",
        "sklearn:x.skops",
    ],
)
def test_code_that_a_card_names_does_not_run(named, card, tmp_path):
    saved({**card, "network": named})
    with pytest.raises(CaromError, match=r"x.safetensors: its card names .* name it yourself: 'surrogate:"):
        carom.load_model("surrogate:x.safetensors")
    assert not (tmp_path / "RAN").exists()


def test_what_the_user_names_is_built(card, tmp_path):
    spec = "py:marker:Net?wide=2&normalise=none&shape=1x2x2"
    made = carom.load_model(spec, "image", classes=CLASSES)
    made.card = {"kind": "substitute", "network": spec}
    carom.save_surrogate(made, "x.safetensors")
    (tmp_path / "RAN").unlink()
    del sys.modules["marker"]
    with pytest.raises(CaromError, match="name it yourself"):
        carom.load_model("surrogate:x.safetensors")
    assert not (tmp_path / "RAN").exists()
    model = carom.load_model(f"surrogate:x.safetensors?network=({spec})&name=mine")
    assert (tmp_path / "RAN").exists()
    assert model.name == "mine"
    assert model.digest == made.digest


CARDS = {
    "null": None,
    "a list": [],
    "a number": 5,
    "no JSON": "{",
    "nested without end": "[" * 100_000,
    "no digest": {"digest": None},
    "a number for a name": {"name": 5},
    "no kind": {"kind": None},
    "another kind": {"kind": "virus"},
    "a kind that is a list": {"kind": ["lgv"]},
    "no classes": {"classes": []},
    "classes that are numbers": {"classes": [1, 2]},
    "a word for classes": {"classes": "ab"},
    "a network that is a mapping": {"network": {"zoo": "image-vgg"}},
    "no such modality": {"modality": "smell"},
    "no such network": {"network": "zoo:nothing"},
    "another digest": {"digest": "0"},
}


@pytest.mark.parametrize("what", CARDS)
def test_cards_of_another_shape_are_refused_by_name(what, card):
    change = CARDS[what]
    saved({**card, **change} if isinstance(change, dict) else change)
    with pytest.raises(CaromError, match=r"x\.safetensors|smell|no image model in the zoo"):
        carom.load_model("surrogate:x.safetensors")
    if what not in ("no such modality", "no such network"):
        with pytest.raises(CaromError, match=r"x\.safetensors"):
            carom.load_surrogate("x.safetensors", like=network())


@pytest.mark.parametrize(
    "weights",
    [
        {"w": torch.zeros(1)},
        {"0.line.weight": torch.zeros(2, 4)},
        {"-1.line.weight": torch.zeros(2, 4)},
        {"0.line.weight": torch.zeros(3, 4), "0.line.bias": torch.zeros(3)},
        {"99999999999.line.weight": torch.zeros(2, 4)},
        {"0.": torch.zeros(1)},
        {"0.line.weight": torch.zeros(2, 4), "0.line.bias": torch.zeros(2)},
    ],
)
def test_weights_that_are_not_those_of_the_card_are_refused_by_name(weights, card):
    saved(card, weights)
    with pytest.raises(CaromError, match=r"x\.safetensors: "):
        carom.load_surrogate("x.safetensors", like=network())


def test_a_header_that_lies_is_refused_by_name(card, tmp_path):
    good = (tmp_path / "good.safetensors").read_bytes()
    for name, data in {"size": b"\xff" * 8 + good[8:], "cut": good[:-4], "empty": b"", "short": good[:7]}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(data)
        with pytest.raises(CaromError, match=rf"{name}\.safetensors: not a surrogate"):
            carom.load_surrogate(f"{name}.safetensors", like=network())
    assert carom.load_surrogate("good.safetensors", like=network()).digest == card["digest"]
