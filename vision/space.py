"""The space of images: float[N, C, H, W] in [0, 1], stored as 8-bit pixels."""

from __future__ import annotations

import torch

from carom.common.core.spaces import Box

PIXELS = Box("pixels", 0.0, 1.0, 1 / 255, torch.uint8)
