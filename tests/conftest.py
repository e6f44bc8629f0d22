"""What all tests share: one thread, and tests that are slow or need a network only when they are asked for."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

LEFT_OUT = {"slow", "network"}


def pytest_configure(config: pytest.Config) -> None:
    # Small RNNs run many times slower with two threads on shared cores, and sums are in one order.
    torch.set_num_threads(1)
    # Examples are new on every run where somebody looks into what fails, and the same ones where it would block others.
    settings.register_profile("same", derandomize=True)
    settings.load_profile("same" if os.environ.get("CI") else "default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    if config.getoption("-m"):
        return
    dropped = [item for item in items if LEFT_OUT & set(item.keywords)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if not LEFT_OUT & set(item.keywords)]
