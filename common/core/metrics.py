"""Metrics: how far an adversarial input lies from the clean one, in the terms of its modality.

They describe what an attack did, beside the budget that bounded it: equal budgets are not equal sizes (arXiv
2102.10343). Every metric is taken on stored inputs and answers one number an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.base.requirements import nothing
from carom.common.core.batch import take
from carom.common.core.spaces import Inputs, Space

CHUNK, CELLS = 32, 2**20
"""Examples measured at once, and numbers in them: bounds memory, whatever the batch of the attack."""


@dataclass(frozen=True)
class Metric:
    """One measure of the size of a perturbation."""

    name: str  # in tables and JSON: ssim
    label: str  # to read: SSIM
    summary: str  # its definition in a line, with its unit
    reference: str
    value: Callable[[Space, Inputs, Inputs], Tensor]  # (space, adversarial, clean; decoded) -> float[N]
    missing: Callable[[], str | None] = nothing  # why it cannot be computed here; None where it can
    version: str = "1"  # raised when its values change: stored ones are then computed anew


@dataclass(frozen=True)
class OfDistance:
    """One of the measures of `Space.distance`."""

    name: str

    def __call__(self, space: Space, x: Inputs, x0: Inputs) -> Tensor:
        return space.distance(x, x0)[self.name]


def distance(name: str, label: str, summary: str, reference: str = "") -> Metric:
    """A metric that the space itself knows."""
    return Metric(name, label, summary, reference, OfDistance(name))


def measured(
    metrics: Sequence[Metric], space: Space, stored: Inputs, stored0: Inputs, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """{metric: float[N]} between adversarial and clean inputs in stored form, computed on a device."""
    found: dict[str, list[float]] = {metric.name: [] for metric in metrics}
    size = CHUNK
    if isinstance(stored, Tensor) and len(stored):
        size = min(CHUNK, max(1, CELLS // stored[0].numel()))
    for start in range(0, len(stored), size):
        rows = torch.arange(start, min(start + size, len(stored)))
        x, x0 = (space.decode(_on(take(part, rows), device)) for part in (stored, stored0))
        for metric in metrics:
            found[metric.name] += metric.value(space, x, x0).double().cpu().tolist()
    return found


def _on(inputs: Inputs, device: torch.device | str) -> Inputs:
    return inputs.to(device) if isinstance(inputs, Tensor) else inputs


def changed(stored: Inputs, stored0: Inputs) -> list[bool]:
    """bool[N]: which inputs differ from the clean ones at all."""
    if isinstance(stored, Tensor):
        return (stored.cpu() != stored0.cpu()).flatten(1).any(1).tolist()
    return [one != other for one, other in zip(stored, stored0, strict=True)]


def summarised(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """{"changed": share of the examples, metric: {"mean", "median"} over the examples that were changed}.

    Of unchanged examples some metrics are infinite and others 0; neither says how large a perturbation is. None where
    nothing was changed, or where a metric is not defined for these inputs.
    """
    moved = np.asarray(columns["changed"], dtype=bool)
    size: dict[str, Any] = {"changed": float(moved.mean()) if len(moved) else None}
    for name, values in columns.items():
        if name not in ("id", "changed"):
            known = np.asarray(values, dtype=np.float64)[moved]
            known = known[np.isfinite(known)]
            some = len(known) > 0
            size[name] = {
                "mean": float(known.mean()) if some else None,
                "median": float(np.median(known)) if some else None,
            }
    return size
