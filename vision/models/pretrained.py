"""Pretrained image classifiers: torchvision's by their weights, Hugging Face's by their processors, and at what
resolution they are attacked.

The preprocessing that weights were trained with is applied inside the model, in torch; but not the resizing and
cropping. Inside a model these would be a hidden defence: a crop removes part of the perturbation, and resizing blurs
what is left. By default an image has to come at the model's own size (`resolution=own`), to which the data are brought
when they are read (`folder:PATH?size=224`). To attack models of several sizes with the same images, `resolution=N`
takes images of N x N and resizes them inside, differentiably; such a model says so wherever it is shown.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import Spec, call_with

Size = tuple[int, int]
"""(height, width)"""


@dataclass(frozen=True)
class Pretrained:
    """A classifier with what its weights bring."""

    core: nn.Module
    prepare: nn.Module  # from pixels in [0, 1] at its own size to what the core expects
    size: Size | None  # its own; None where it takes any
    channels: int
    classes: list[str]
    facts: dict[str, str] = field(default_factory=dict)  # which weights these are


# The size at which a model takes images.


class Resize(nn.Module):
    """Images brought to a size, bilinearly, without aliasing, and with gradients."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)

    def extra_repr(self) -> str:  # part of the digest
        return f"size={self.size}"


@dataclass(frozen=True)
class Resolution:
    """The size of the images that a model takes, and what it does to bring them to its own."""

    taken: Size | None  # None: any
    resize: Resize | None
    facts: dict[str, str]
    remedy: str | None  # what to do about images of another size


def resolution(wanted: Any, own: Size | None, channels: int | None, who: str) -> Resolution:
    """The fact `resolution`: "own", or the side N of the images that the model is to take."""
    if wanted == "own" and own is None:
        return Resolution(None, None, {}, None)
    asked = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else 0
    if wanted != "own" and asked < 1:
        raise CaromError(f"{who}: resolution={wanted!r}: write own, or the side of the images in pixels.")
    if own is None:
        raise CaromError(
            f"{who}: resolution={wanted} resizes to the model's own size, which carom cannot know: pass "
            "shape=(channels, height, width) as well."
        )
    taken = own if wanted == "own" else (asked, asked)
    size = f"size={taken[0]}" if taken[0] == taken[1] else f"size={taken[0]}x{taken[1]}"
    load = f"folder:PATH?{size}{'' if channels is None else f'&channels={channels}'}"
    if taken == own:
        remedy = (
            f"Load the data at its own size ({load}), or give the model resolution=N: it then resizes images of N x N "
            "itself, a hidden defence that the report names."
        )
        return Resolution(own, None, {"resolution": f"own, {_by(own)}"}, remedy)
    said = f"resizes {_by(taken)} -> {_by(own)} inside the model: a hidden defence"
    remedy = f"Load the data at {_by(taken)} ({load}), or choose another resolution= for the model."
    return Resolution(taken, Resize(own), {"resolution": f"common, {_by(taken)}", "resizes": said}, remedy)


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


# torchvision.


class Normalise(nn.Module):
    """(x - mean) / std by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def torchvision_classifier(spec: Spec) -> Pretrained | nn.Module:
    """`resnet50@IMAGENET1K_V2` with what these weights bring; of `resnet50@none` the bare module."""
    import torchvision
    from torchvision.models import get_model_builder, get_model_weights, list_models

    name, mark, wanted = spec.rest.partition("@")
    builders = list_models(module=torchvision.models)
    if name not in builders:
        raise UnknownName("torchvision classifier", name, builders)
    pinned = list(get_model_weights(name).__members__)
    pinned.remove("DEFAULT")
    if not mark or wanted == "DEFAULT":
        why = "DEFAULT moves with torchvision's version" if mark else "no weights are named"
        raise CaromError(
            f"torchvision:{spec.rest}: {why}. Pin one of {', '.join(f'{name}@{w}' for w in pinned)}, or {name}@none "
            "for random weights."
        )
    if wanted not in (*pinned, "none"):
        raise UnknownName(f"set of weights of torchvision's {name}", wanted, [*pinned, "none"])
    weights = None if wanted == "none" else get_model_weights(name)[wanted]
    fixed = f"It belongs to the weights: leave it out, or take {name}@none and your own weights."
    if weights is not None and spec.parameters.get("transform_input", True) is not True:
        # The normalisation of the weights is the one that comes before torchvision's transform_input.
        raise CaromError(f"torchvision:{spec.rest}: transform_input={spec.parameters['transform_input']}. {fixed}")
    try:
        module = call_with(get_model_builder(name), {"weights": weights, **spec.parameters}, f"torchvision:{name}")
    except OSError as error:
        assert weights is not None
        raise CaromError(
            f"torchvision:{spec.rest}: the weights cannot be fetched ({error}). Check the network, or put the file of "
            f"{weights.url} into {torch.hub.get_dir()}/checkpoints."
        ) from error
    except ValueError as error:  # a parameter that the weights fix, or that the network cannot have
        remedy = "Check its parameters." if weights is None else fixed
        raise CaromError(f"torchvision:{spec.rest}: {str(error).rstrip('.')}. {remedy}") from error
    if weights is None:
        return module
    preset, file = weights.transforms(), weights.url.rpartition("/")[2]
    facts = {
        "weights": f"{type(weights).__name__}.{weights.name}",
        "weights_file": f"{file}, whose sha256 begins with {file.rpartition('-')[2].partition('.')[0]}",
    }
    side = preset.crop_size[0]
    normalise = Normalise(preset.mean, preset.std)
    return Pretrained(module, normalise, (side, side), 3, list(weights.meta["categories"]), facts)


# Hugging Face.


def hugging_face_classifier(model: Any, processor: Any) -> Pretrained:
    """A transformers image classifier with its image processor done in torch."""
    whole = Prepare.of(processor)
    check_processor(whole, processor)
    labels, own = model.config.id2label, whole.own or _image_size(model.config)
    commit = getattr(model.config, "_commit_hash", None)
    return Pretrained(
        core=Logits(model),
        prepare=whole.without_resizing(),
        size=own,
        channels=1 if len(whole.mean) == 1 else 3,
        classes=[labels[k] for k in sorted(labels)],
        facts={"revision": str(commit)} if commit else {},
    )


def _image_size(config: Any) -> Size | None:
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) and len(size) == 2 else None


class Logits(nn.Module):
    """What a transformers model answers, without the rest."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


PIL_FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
TOLERANCE = 0.02  # mean difference from a processor that rounds to 8 bits after resizing, in normalised units


class Prepare(nn.Module):
    """A transformers image processor in torch: resize, centre crop, scale, normalise.

    Resized pixels are not rounded to 8 bits as the processors of PIL images do.
    """

    scale: Tensor
    shift: Tensor
    spread: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        size = dict(config.get("size") or {}) if config.get("do_resize") else {}
        self.filter = PIL_FILTERS.get(config.get("resample", 2), "bilinear")
        self.shortest = size.get("shortest_edge")
        self.size = (size["height"], size["width"]) if "height" in size else None
        crop = config.get("crop_size") if config.get("do_center_crop") else None
        self.crop = None if crop is None else (crop["height"], crop["width"])
        share = config.get("crop_pct")  # ConvNeXT: enlarge, then crop; from 384 pixels on, squash instead
        if share is not None and self.shortest:
            edge = self.shortest
            squash = edge >= 384
            self.size = (edge, edge) if squash else None
            self.shortest, self.crop = (None, None) if squash else (int(edge / share), (edge, edge))
        rescale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
        normalise = config.get("do_normalize", False)
        self.mean = tuple(config["image_mean"]) if normalise else (0.0, 0.0, 0.0)
        self.std = tuple(config["image_std"]) if normalise else (1.0, 1.0, 1.0)
        self.register_buffer("scale", torch.tensor(255 * rescale))
        self.register_buffer("shift", torch.tensor(self.mean).view(-1, 1, 1))
        self.register_buffer("spread", torch.tensor(self.std).view(-1, 1, 1))

    @classmethod
    def of(cls, processor: Any) -> Prepare:
        return cls(processor.to_dict())

    @property
    def own(self) -> Size | None:
        """The size of what comes out; None where it is that of what goes in, or follows its aspect."""
        return self.crop or self.size

    def without_resizing(self) -> Prepare:
        """For images that come at that size already: scale and normalise."""
        other = copy.deepcopy(self)
        other.shortest = other.size = other.crop = None
        return other

    def forward(self, x: Tensor) -> Tensor:
        size = self.size
        if self.shortest is not None:
            height, width = x.shape[-2:]
            short, long = min(height, width), max(height, width)
            other = int(self.shortest * long / short)
            size = (self.shortest, other) if height <= width else (other, self.shortest)
        if size is not None and size != tuple(x.shape[-2:]):
            smooth = self.filter in ("bilinear", "bicubic")
            x = F.interpolate(x, size, mode=self.filter, antialias=smooth)
            x = x.clamp(0, 1) if self.filter == "bicubic" else x
        if self.crop is not None:
            from torchvision.transforms.functional import center_crop

            x = center_crop(x, list(self.crop))
        return (x * self.scale - self.shift) / self.spread


def check_processor(prepare: Prepare, processor: Any) -> None:
    """Refuse a processor whose answer to a picture is not what `Prepare` makes of it."""
    import numpy as np
    from PIL import Image

    ramp = torch.linspace(0, 7, 480)[:, None] + torch.linspace(0, 3, 560)
    shades = torch.stack([ramp.sin(), (1.7 * ramp).cos(), (0.6 * ramp).sin()]) * 0.5 + 0.5
    pixels = (shades * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    theirs = np.asarray(processor(images=picture, return_tensors="np")["pixel_values"])
    with torch.no_grad():
        ours = prepare(pixels[None].float() / 255).numpy()
    off = float(np.abs(ours - theirs).mean()) if ours.shape == theirs.shape else float("inf")
    if not off <= TOLERANCE:
        raise CaromError(
            f"{type(processor).__name__} does more to images than resize, crop, scale and normalise "
            f"(mean difference {off:.3g}), so carom cannot do it in torch. Wrap the model in a module that does, and "
            "pass it with normalise=None and classes=[...]."
        )
