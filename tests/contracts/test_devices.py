"""Every registered attack gives on a GPU what it gives on the CPU: seen on a simulated device (simulated_device)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from simulated_device import OnDevice, simulated_cuda

from carom.common.api import get_attack
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem


def on(batch: Batch, device: str) -> Batch:
    """As a unit of work moves it: texts stay on the host."""
    return batch.to(device) if isinstance(batch.inputs, torch.Tensor) else batch


def facts(case: Any, result: Any) -> tuple[Any, ...]:
    parts = (result.success, result.status, result.cost.forward, result.cost.backward, result.cost.queries)
    assert not any(isinstance(part, OnDevice) for part in parts)
    inputs = result.inputs.cpu() if isinstance(result.inputs, torch.Tensor) else result.inputs
    return case.world.space.encode(inputs).tolist() if isinstance(inputs, torch.Tensor) else list(inputs), *(
        part.tolist() for part in parts
    )


def attacked(case: Any, device: str) -> tuple[Any, ...]:
    model = case.model(fresh=True).to(device)
    return facts(case, case.run(on(case.batch(8), device), model=model, device=device))


def test_a_gpu_stores_what_the_cpu_stores(device_case: Any) -> None:
    """Stored inputs, success, status and every cost of eight examples; whatever of them is kept lies on the CPU."""
    with simulated_cuda():
        found = attacked(device_case, "cuda")
    assert found == attacked(device_case, "cpu")


def test_a_climb_never_waits_for_the_device(climb_case: Any) -> None:
    case, batch = climb_case, climb_case.batch(8)
    attack = get_attack(case.info.name, case.world.modality)
    assert isinstance(attack, Ascent)
    with simulated_cuda() as waits:
        model, there = case.model(fresh=True).to("cuda"), batch.to("cuda")
        oracle = Oracle(Problem(model, case.goal(batch).to("cuda"), case.threat()), there)
        rng = Rng.of(0, batch.ids, "cuda").fold("restart", 0)
        with model.frozen():
            for _ in range(2):  # the first finds out how the network is computed
                waits.clear()
                attack.climb(oracle, rng)
    assert not waits


def test_the_simulated_device_refuses_what_cuda_refuses() -> None:
    with simulated_cuda() as waits:
        x = torch.arange(3.0).to("cuda")
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.ones(3)
        with pytest.raises(TypeError, match="cuda:0"):
            x.numpy()
        assert x.device.type == "cuda"
        assert (x + 1).sum().item() == 6
        assert sum(waits.values()) == 1
