"""Images for and of other tools: arrays with their axes in the order batch, channels, height, width, and PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from carom.common.base.errors import CaromError


def channels_first(array: np.ndarray, count: int, where: str) -> np.ndarray:
    """[N, C, H, W] of N = `count` images. Channels that come last are turned, grey images without a channel axis get
    one, and one image without a batch axis gets that.

    Raises CaromError where the shape leaves it open.
    """
    if count == 1 and (array.ndim == 2 or (array.ndim == 3 and array.shape[0] != 1)):
        array = array[None]
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise CaromError(
            f"{where} has shape {list(array.shape)}: images are [N, C, H, W] with C = 1 or 3. Give grey ones a channel "
            "axis (x[:, None]), one image a batch axis (x[None])."
        )
    return array


def write_png(image: Tensor, space: Any, path: Path) -> Path:
    """Write uint8[C, H, W] of 1 or 3 channels as PATH.png, pixel for pixel."""
    from PIL import Image

    pixels = image.cpu().numpy()
    file = path.with_name(f"{path.name}.png")
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file)
    return file
