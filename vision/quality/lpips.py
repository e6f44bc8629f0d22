"""LPIPS: distance between images in the features of AlexNet, weighted by what people find alike.

Zhang, Isola, Efros, Shechtman and Wang 2018, The unreasonable effectiveness of deep features as a perceptual metric,
eq. 1, version 0.1 with AlexNet. The 1152 weights of its heads ship in assets (BSD, see LICENSE-lpips; made by
scripts/make_lpips.py). The network beneath is torchvision's AlexNet, whose weights carom does not fetch by itself:
where they are not in torch's folder of checkpoints there is no LPIPS, and the reason is said.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.base.errors import CaromError
from carom.common.base.requirements import Requirement, Requires, torch_checkpoints

BACKBONE = "alexnet-owt-7be5be79.pth"
"""AlexNet_Weights.IMAGENET1K_V1. The digits begin the sha256 of the file."""

HEADS = "lpips-alex.safetensors"
TAPS = (1, 4, 7, 9, 11)
"""Modules of AlexNet's features after which each of the five heads looks: its ReLUs."""

LEAST_SIDE = 64
"""Smaller images are enlarged to this, bilinearly: AlexNet takes nothing below 31 pixels, and the patches that people
judged for LPIPS had 64."""


def checkpoint() -> Path:
    """Where torchvision keeps the weights of AlexNet."""
    return torch_checkpoints() / BACKBONE


def weights(name: str) -> Requires:
    """That the network's weights are there, under this name."""
    how = (  # without the path: reports are handed on
        f"needs AlexNet's weights, {name}, in torch's folder of checkpoints; torchvision fetches them: "
        "python -c \"import torchvision; torchvision.models.alexnet(weights='IMAGENET1K_V1')\""
    )
    return Requires((Requirement("checkpoint", (name,), how),))


missing = weights(BACKBONE)
"""Why LPIPS cannot be computed here; None where it can."""


class Lpips(nn.Module):
    """Distances float[N] between images float[N, 3, H, W] in [0, 1]."""

    features: nn.Sequential
    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential, heads: dict[str, Tensor]) -> None:
        super().__init__()
        self.features = features
        for number in range(len(TAPS)):
            self.register_buffer(f"head{number}", heads[f"head{number}"])
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1))

    def looks(self, x: Tensor) -> list[Tensor]:
        """Features of unit length at every place, of each tap."""
        x, found = (x - self.mean) / self.std, []
        for number, layer in enumerate(list(self.features)[: TAPS[-1] + 1]):
            x = layer(x)
            if number in TAPS:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def forward(self, x: Tensor, x0: Tensor) -> Tensor:
        x, x0 = (enlarged(part) for part in (x, x0))
        total = torch.zeros(len(x), device=x.device)
        for number, (one, other) in enumerate(zip(self.looks(x), self.looks(x0), strict=True)):
            head = getattr(self, f"head{number}")
            total = total + torch.einsum("nchw,c->nhw", (one - other).square(), head).flatten(1).mean(1)
        return total


def enlarged(x: Tensor) -> Tensor:
    """Images whose shorter side is at least LEAST_SIDE."""
    height, width = x.shape[-2:]
    if min(height, width) >= LEAST_SIDE:
        return x
    factor = LEAST_SIDE / min(height, width)
    size = (round(height * factor), round(width * factor))
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def load(path: Path) -> Lpips:
    """The metric on AlexNet's weights in a file, which must be what its name says: its digits begin its sha256."""
    from torchvision.models import alexnet

    from carom.common.loading.weights import fill

    content = path.read_bytes()
    wanted, found = path.stem.rpartition("-")[2], hashlib.sha256(content).hexdigest()
    if not found.startswith(wanted):
        raise CaromError(f"{path}: its sha256 begins with {found[:8]}, not {wanted}. Delete it and fetch it again.")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    with torch.device("meta"):  # of the whole network only the features are wanted
        features = alexnet(weights=None).features
    assert isinstance(features, nn.Sequential)
    own = {name.removeprefix("features."): t for name, t in state.items() if name.startswith("features.")}
    fill(features.to_empty(device="cpu"), own, path)
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return Lpips(features, heads()).eval().requires_grad_(False)


def heads() -> dict[str, Tensor]:
    """head0 to head4: float[C] each, none below 0."""
    from safetensors.torch import load as read

    return read((files("carom.vision") / "assets" / HEADS).read_bytes())


@lru_cache(maxsize=2)
def network(path: Path, device: torch.device) -> Lpips:
    return load(path).to(device)


def lpips(x: Tensor, x0: Tensor) -> Tensor:
    """float[N] between images float[N, 3, H, W] in [0, 1]."""
    with torch.inference_mode():
        return network(checkpoint(), x.device)(x, x0)
