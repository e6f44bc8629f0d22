"""The same study on a GPU. These skip without one, and no machine with one was at hand when they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.gpu

KIT = Path(__file__).parents[2] / ".gpu-kit"


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_every_cell_is_within_two_points_of_the_cpu(carom: Any, modality: str) -> None:
    parts, known = {}, KIT / "cells-cpu.json"
    computed = json.loads(known.read_text()) if known.exists() else {}  # before, on a machine without a GPU
    if modality in computed:
        parts["cpu"] = computed[modality]
    for device in ("cpu", "cuda"):
        if device in parts:
            continue
        answer = carom("demo", "-m", modality, "--device", device, "--out", device, "--json", "-q")
        assert answer.code == 0, answer.err
        parts[device] = answer.json["modalities"][modality]["cells"]
    for cpu, gpu in zip(parts["cpu"], parts["cuda"], strict=True):
        assert (cpu["source"], cpu["target"], cpu["attack"]) == (gpu["source"], gpu["target"], gpu["attack"])
        assert abs(cpu["excess"] - gpu["excess"]) <= 0.02, (cpu, gpu)


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "mi-fgsm"])
def test_the_gradient_loop_never_waits_for_the_host(name: str) -> None:
    from carom.common.api import get_attack, load_data, load_model
    from carom.common.attacks.gradient.ascent import Ascent
    from carom.common.base.rng import Rng
    from carom.common.core.batch import Goal
    from carom.common.core.oracle import Oracle
    from carom.common.core.problem import Problem
    from carom.common.core.threats import Linf

    model = load_model("zoo:image-resnet").to("cuda")
    batch = load_data("builtin:fashion-mnist", limit=16).batch().to("cuda")
    rng = Rng.of(0, batch.ids, "cuda").fold("restart", 0)
    attack = get_attack(name, "image")
    assert isinstance(attack, Ascent)
    oracle = Oracle(Problem(model, Goal(batch.labels), Linf(8 / 255)), batch)
    with model.frozen():
        attack.climb(oracle, rng)  # kernels are chosen and compiled in the first run
        torch.cuda.set_sync_debug_mode("error")
        try:
            attack.climb(oracle, rng)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["image-resnet", "audio-melcnn", "audio-gru"])
def test_networks_are_folded_and_answer_as_on_a_cpu(name: str) -> None:
    """With TF32 on outside, as it is by default: folded and unfolded answers would differ by 1e-3."""
    from carom.common.api import load_data, load_model
    from carom.common.models.networks import TorchModel

    model = load_model(f"zoo:{name}")
    assert isinstance(model, TorchModel)
    data = load_data("builtin:fashion-mnist" if model.modality == "image" else "builtin:keywords", limit=16)
    before, batch = torch.backends.cudnn.allow_tf32, data.batch()
    torch.backends.cudnn.allow_tf32 = True
    try:
        expected = model.predict(batch)
        model.to("cuda")
        there = batch.to("cuda")
        with model.frozen():
            given = (there.inputs, there.lengths) if model.takes_lengths else (there.inputs,)
            assert model.evaluation(given).reason is None
            x = there.inputs.detach().requires_grad_()
            (grad,) = torch.autograd.grad(model(x, there.lengths).logits.amax(1).sum(), x)
        assert bool(grad.isfinite().all())
        assert float(grad.abs().sum()) > 0
        assert torch.allclose(model.predict(batch), expected, atol=1e-3 * float(expected.abs().max()))
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before
