"""A model that answers in another order is the same model: its outputs, its attacks, its identity."""

from __future__ import annotations

import pytest
import torch

import carom
from carom.common.base.errors import CaromError
from carom.common.core.model import Model
from carom.common.models.reordering import answering_in

IMAGES = ("zoo:image-resnet", "zoo:image-gru", "zoo:image-vit", "zoo:image-forest", "zoo:image-mlp")
TEXTS = ("zoo:text-cnn", "zoo:text-transformer", "zoo:text-linear", "zoo:text-forest")


def turned(model):
    order = list(range(len(model.classes)))[::-1]
    return answering_in(model, order, [model.classes[at] for at in order])


@pytest.mark.parametrize("spec", [*IMAGES, "ensemble:zoo:image-mlp+zoo:image-gru", *TEXTS, "zoo:audio-kwt"])
def test_outputs_are_those_of_the_model_in_another_order(spec):
    kind = next(kind for kind in ("image", "text", "audio") if kind in spec)
    model = carom.load_model(spec, kind)
    data = carom.load_data(
        {"image": "builtin:fashion-mnist", "text": "builtin:rotten-tomatoes", "audio": "builtin:keywords"}[kind],
        limit=6,
    )
    other = turned(model)
    assert other.classes == model.classes[::-1]
    assert other.digest != model.digest
    assert type(other) is type(model)
    assert torch.allclose(other.predict(data.batch()), model.predict(data.batch()).flip(1), atol=1e-5)
    assert torch.allclose(turned(other).predict(data.batch()), model.predict(data.batch()), atol=1e-5)
    same = answering_in(model, range(len(model.classes)), [name.upper() for name in model.classes])
    assert same.digest == model.digest
    assert same.classes[0].isupper()
    assert not model.classes[0].isupper()


@pytest.mark.parametrize(
    ("kind", "spec", "attack", "eps"),
    [
        ("image", "zoo:image-resnet", "mi-fgsm?steps=3", "28/255"),
        ("image", "zoo:image-forest", "soft-leaf-path?steps=3", "28/255"),
        ("text", "zoo:text-cnn", "greedy-gradient", "0.3"),
    ],
)
def test_an_attack_finds_the_same_in_any_order(kind, spec, attack, eps):
    data = carom.load_data("builtin:fashion-mnist" if kind == "image" else "builtin:rotten-tomatoes", limit=8)
    model = carom.load_model(spec)
    found = carom.attack(model, data, attack, eps=eps)
    other = carom.attack(turned(model), data, attack, eps=eps)
    assert found.success.tolist() == other.success.tolist()
    assert other.clean.classes == model.classes[::-1]
    assert [other.clean.classes[at] for at in other.labels] == [found.clean.classes[at] for at in found.labels]


def test_kinds_that_cannot_be_reordered_say_so():
    model = carom.load_model("zoo:image-mlp")
    bare = Model("bare", "image", "cnn", model.space, ("a", "b"), "digest")
    with pytest.raises(CaromError, match=r"model bare .*another order"):
        answering_in(bare, [1, 0], ("b", "a"))
