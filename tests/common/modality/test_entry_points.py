"""Models and data that other packages add under kinds of their own, and attacks that they add by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from torch import nn

import carom
from carom.common.attacks.catalogue.gradient import fgsm
from carom.common.attacks.info import AttackInfo
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access
from carom.common.core.data import Dataset
from carom.common.modality import load, registry
from carom.vision.space import PIXELS


def grey_model(rest: str, width: int = 4) -> nn.Module:
    assert rest == "small"
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 2))


def grey_data(rest: str, split: str) -> Dataset:
    images, labels = torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.arange(6) % 2
    return Dataset(f"mine:{rest}", "image", PIXELS, images, labels, [f"{split}{i}" for i in range(6)], ("a", "b"))


margin_step = AttackInfo(
    name="margin_step",
    summary="FGSM along the margin",
    reference="Somebody 2020, A title",
    needs=Access.GRADIENT,
    threats=("linf",),
    build=lambda loss="margin": fgsm(loss),
    cost="1 forward, 1 backward",
)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = __name__

    class Point(EntryPoint):
        def load(self) -> Any:
            return globals()[self.attr]

    added = {
        "carom.models": [Point("mine", f"{here}:grey_model", "carom.models")],
        "carom.datasets": [Point("mine", f"{here}:grey_data", "carom.datasets")],
        "carom.attacks": [Point("image.margin_step", f"{here}:margin_step", "carom.attacks")],
    }
    real = load.entry_points
    for module in (load, registry):
        monkeypatch.setattr(module, "entry_points", lambda group: added.get(group) or real(group=group))


def test_a_kind_of_model_and_of_data() -> None:
    model = carom.load_model("mine:small?width=8", "image", normalise=None, classes=["a", "b"])
    data = carom.load_data("mine:set", split="dev", limit=4, modality="image")
    assert model.name == "mine:small?width=8"
    assert len(data) == 4
    assert all(name.startswith("dev") for name in data.ids)
    assert carom.attack(model, data, "fgsm", eps="8/255").stored.shape == (4, 1, 4, 4)


def test_its_unknown_parameters_are_refused() -> None:
    with pytest.raises(CaromError, match="width"):
        carom.load_model("mine:small?widht=8", "image", normalise=None, classes=["a", "b"])


def test_an_attack_of_a_modality() -> None:
    assert carom.get_attack("margin_step", "image") == fgsm("margin")
    assert "margin_step" in {info.name for info in carom.list_attacks("image")}
    assert "margin_step" not in {info.name for info in carom.list_attacks("audio")}
    with pytest.raises(CaromError, match="margin_step is an attack on image, not on audio"):
        registry.find_attack(registry.modalities("audio")[0], "margin_step")
