"""What the report shows of an image: before, after, and the perturbation made visible."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from carom.common.core.spaces import Space
from carom.common.modality.panels import Panel, Picture


def panels(space: Space, clean: Tensor, adversarial: Tensor, facts: Mapping[str, Any]) -> list[Panel]:
    """Three pictures of one stored image[C, H, W]; the last is the change times a factor, around middle grey."""
    before, after = space.decode(clean), space.decode(adversarial)
    change = after - before
    largest = float(change.abs().max())
    factor = max(1, int(0.5 / largest)) if largest else 1
    caption = f"perturbation x{factor}, grey is no change" if largest else "no perturbation"
    return [
        Picture("clean", png(before)),
        Picture("adversarial", png(after)),
        Picture(caption, png(0.5 + factor * change)),
    ]


def png(image: Tensor) -> bytes:
    """A PNG file of an image float[C, H, W] in [0, 1], losslessly, one pixel for each."""
    from PIL import Image

    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG", optimize=True)
    return file.getvalue()
