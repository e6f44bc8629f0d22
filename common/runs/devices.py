"""Which device a run computes on."""

from __future__ import annotations

import torch

from carom.common.base.errors import CaromError


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU when there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise CaromError(f"--device {name:.60}: write auto, cpu, cuda or cuda:1.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CaromError(f"--device {name}: torch sees no CUDA device here. Use --device cpu, or see `carom doctor`.")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise CaromError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here, from cuda:0 on.")
    return device
