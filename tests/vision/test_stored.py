"""Attacks that look for the smallest change succeed on images as they are saved about as often as on floats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carom.common.api import get_attack
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal
from carom.common.core.problem import Problem
from carom.common.core.threats import L2, Linf
from carom.common.modality.installed import get_modality

LOST = {"fab": 1 / 24, "fab-t": 1 / 24, "fmn": 1 / 24, "ddn": 1 / 24, "cw": 1 / 24, "deepfool": 2 / 24}
"""The share that rounding may cost: of 24 images one, of DeepFool, which stops at the boundary, two."""


@pytest.fixture(scope="module")
def world():
    image = get_modality("image")
    model, batch = image.load_model("zoo:image-resnet"), image.load_data("builtin:fashion-mnist", limit=26).batch()
    right = (model.predict(batch).argmax(1) == batch.labels).nonzero().squeeze(1)
    return model, batch.take(right[:24])


@pytest.mark.parametrize(
    ("spec", "threat"),
    [
        ("fab?steps=8&rivals=3", L2(1.0)),
        ("fab?steps=8&rivals=3", Linf(8 / 255)),
        ("fab?steps=8&rivals=3&stop=true", L2(1.0)),
        ("fab-t?steps=8&targets=2", L2(1.0)),
        ("fmn?steps=20", L2(1.0)),
        ("ddn?steps=20", L2(1.0)),
        ("cw?steps=20&searches=1&weight=10&rate=0.01", L2(1.0)),
        ("deepfool?steps=15&rivals=3", L2(1.0)),
    ],
)
def test_rounding_costs_next_to_no_success(world, spec, threat):
    model, batch = world
    shares, space = [], model.space
    for unit in (space.unit, 0.0):
        model.space = replace(space, unit=unit)
        try:
            result = get_attack(spec, "image")(Problem(model, Goal(batch.labels), threat), batch, Rng.of(0, batch.ids))
        finally:
            model.space = space
        assert threat.allows(result.inputs, batch.inputs).all()
        shares.append(result.success.float().mean().item())
    assert shares[1] > 0.3
    assert shares[0] >= shares[1] - LOST[spec.partition("?")[0]] - 1e-6
