"""The same study on a GPU. These skip without one, and no machine with one was at hand when they were written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_every_cell_is_within_two_points_of_the_cpu(carom: Any, modality: str) -> None:
    parts = {}
    for device in ("cpu", "cuda"):
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
