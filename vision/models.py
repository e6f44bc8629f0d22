"""Image models from anywhere: the zoo, torchvision, Hugging Face, checkpoints, estimators, and modules that you hold.

Every model is called with float[N, C, H, W] in [0, 1]. What its weights were trained with (resizing, cropping,
normalisation, other bounds) happens inside, in torch, so that gradients reach the pixels as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.errors import CaromError, UnknownName
from carom.common.loading import (
    CLASSES,
    Fact,
    Load,
    bounds_fact,
    called,
    choice,
    class_names,
    digest_of_object,
    dispatch,
    family_fact,
    fitted_classes,
    is_estimator,
    known_facts,
    load_pretrained,
    load_processor,
    load_python,
    load_safetensors,
    load_skops,
    need,
    numbers,
    scores_of,
    tree_ensemble,
)
from carom.common.models import FunctionModel, Model, TorchModel, TreeModel
from carom.common.problem import Access, Family
from carom.common.specs import Spec, call_with
from carom.common.trees import TreeEnsemble
from carom.common.zoo import load_body
from carom.vision.space import PIXELS
from carom.vision.zoo import RECIPES, pictures_of

KNOWN = ("name", "family", "classes", "bounds", "normalise", "shape", "layout", "answers", "processor", "trusted")
"""The facts that a user may state, as keywords or as parameters of the spec."""

NORMALISE = Fact("normalise", "normalisation", "normalise=(mean, std) or normalise=None")
BOUNDS = Fact("bounds", "pixel bounds", "bounds=(0, 1) or bounds=(0, 255)")
SHAPE_OF = Fact("shape", "input shape", "shape=(channels, height, width)")
LAYOUT = Fact("layout", "order of its features", 'layout="chw" or layout="hwc"')
ANSWERS = Fact("answers", "kind of scores", 'answers="logits" or answers="probabilities"')


def load_model(source: Any, **facts: Any) -> Model:
    """An image model from a spec, or around a module, a Hugging Face model, an estimator or a function that you hold.

    Facts that Carom may ask for: `classes` in the order of the outputs; `normalise`, (mean, std) in units of `bounds`,
    or None where the module does it itself; `bounds` of the pixels it expects, (0, 1) unless stated; `shape` of one
    image; for estimators the `layout` in which they saw images flattened; for functions what they answer, logits or
    probabilities, to float32[N, C, H, W] as numpy. `name` and `family` override what Carom picks.
    """
    return dispatch(source, facts, _LOADERS, KNOWN, wrap)


def wrap(thing: Any, facts: Mapping[str, Any]) -> Model:
    """A model around an object."""
    if isinstance(thing, Model):
        return thing
    if isinstance(thing, nn.Module):
        if "processor" in facts and hasattr(thing, "config"):
            return hugging_face(thing, facts["processor"], facts)
        return _module(thing, facts)
    if is_estimator(thing):
        return _estimator(thing, facts)
    if callable(thing):
        return _function(thing, facts)
    raise CaromError(
        f"{called(thing, facts)} is not a model: give a torch module, a Hugging Face model, a fitted scikit-learn "
        "estimator, or a function from images to scores."
    )


def _zoo(spec: Spec, facts: Mapping[str, Any]) -> Model:
    if spec.rest not in RECIPES:
        raise UnknownName("image model in the zoo", spec.rest, RECIPES)
    known_facts({**spec.parameters, **facts}, ("name",), f"zoo:{spec.rest}")
    recipe, pictures = RECIPES[spec.rest], pictures_of(spec.rest)
    body = load_body(recipe)
    shared: dict[str, Any] = {
        "name": facts["name"],
        "modality": "image",
        "space": PIXELS,
        "classes": pictures.classes,
        "shape": pictures.shape,
    }
    if isinstance(body, TreeEnsemble):
        return TreeModel(body, **shared)
    return TorchModel(body, family=recipe.family, **shared)


def _torchvision(spec: Spec, facts: Mapping[str, Any]) -> Model:
    """`torchvision:resnet50@IMAGENET1K_V2`: with the resizing, cropping and normalisation of these weights inside."""
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
    if wanted == "none":
        module = call_with(get_model_builder(name), {"weights": None, **spec.parameters}, f"torchvision:{name}")
        return _module(module, {"bounds": (0, 1), **facts})
    if wanted not in pinned:
        raise UnknownName(f"set of weights of torchvision's {name}", wanted, [*pinned, "none"])
    weights = get_model_weights(name)[wanted]
    try:
        module = call_with(get_model_builder(name), {"weights": weights, **spec.parameters}, f"torchvision:{name}")
    except OSError as error:
        raise CaromError(
            f"torchvision:{spec.rest}: the weights cannot be fetched ({error}). Check the network, or put the file of "
            f"{weights.url} into {torch.hub.get_dir()}/checkpoints."
        ) from error
    stated = {"classes": weights.meta["categories"], "shape": (3, None, None), **facts}
    return _torch_model(nn.Sequential(weights.transforms(), module), module, stated)


def _hub(spec: Spec, facts: Mapping[str, Any]) -> Model:
    return hugging_face(
        load_pretrained("AutoModelForImageClassification", spec), load_processor("AutoImageProcessor", spec), facts
    )


def hugging_face(model: Any, processor: Any, facts: Mapping[str, Any]) -> Model:
    """A transformers image classifier with its image processor done in torch."""
    prepare = Prepare.of(processor)
    check_processor(prepare, processor)
    labels = model.config.id2label
    channels = 1 if len(prepare.mean) == 1 else 3
    stated = {"classes": [labels[k] for k in sorted(labels)], "shape": (channels, None, None), **facts}
    return _torch_model(nn.Sequential(prepare, Logits(model)), model, {**stated})


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


def _checkpoint(spec: Spec, facts: Mapping[str, Any]) -> Model:
    return wrap(load_safetensors(spec), facts)


def _python(spec: Spec, facts: Mapping[str, Any]) -> Model:
    return wrap(load_python(spec), facts)


def _sklearn(spec: Spec, facts: Mapping[str, Any]) -> Model:
    known_facts(spec.parameters, KNOWN, f"sklearn:{spec.rest}")
    return wrap(load_skops(spec.rest, facts.get("trusted", ())), facts)


def _module(module: nn.Module, facts: Mapping[str, Any]) -> Model:
    need(facts, [NORMALISE, CLASSES], called(module, facts))
    low, high = bounds_fact(facts, (0, 1))
    normalise = _normalise(facts["normalise"])
    if (low, high) == (0, 1) and normalise is None:
        return _torch_model(module, module, facts)
    return _torch_model(nn.Sequential(Rescale(low, high, normalise), module), module, facts)


class Rescale(nn.Module):
    """From [0, 1] to the bounds that a module was trained on, then (x - mean) / std in their units."""

    factor: Tensor
    offset: Tensor

    def __init__(self, low: float, high: float, normalise: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        mean, std = normalise or (torch.zeros(1), torch.ones(1))
        # (low + x (high - low) - mean) / std as one product and one sum
        self.register_buffer("factor", ((high - low) / std).view(-1, 1, 1))
        self.register_buffer("offset", ((low - mean) / std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.offset


def _torch_model(module: nn.Module, core: nn.Module, facts: Mapping[str, Any]) -> Model:
    return TorchModel(
        module,
        name=called(core, facts),
        modality="image",
        family=family_fact(facts, core),
        space=PIXELS,
        classes=class_names(facts["classes"]),
        shape=_shape(facts.get("shape")),
    )


def _estimator(estimator: Any, facts: Mapping[str, Any]) -> Model:
    who = called(estimator, facts)
    shape = _shape(facts.get("shape"))
    wanted = [BOUNDS, SHAPE_OF, *([LAYOUT] if shape and shape[0] != 1 else [])]
    need(facts, wanted, who)
    low, high = bounds_fact(facts, (0, 1))
    layout = choice(facts, "layout", ("chw", "hwc"), "chw")
    sizes = tuple(side for side in shape or () if side is not None)
    if len(sizes) != 3:
        raise CaromError(f"{who}: shape={facts['shape']!r} must be three sizes: shape=(channels, height, width).")
    size = math.prod(sizes)
    if getattr(estimator, "n_features_in_", size) != size:
        raise CaromError(
            f"{who} was fitted on {estimator.n_features_in_} features, an image of shape "
            f"{'x'.join(map(str, sizes))} has {size}. Correct shape=."
        )
    classes = fitted_classes(estimator, class_names(facts["classes"]) if "classes" in facts else None, who)
    shared: dict[str, Any] = {"name": called(estimator, facts), "modality": "image", "space": PIXELS}
    order = torch.arange(size).view(sizes)
    order = order.permute(1, 2, 0).flatten() if layout == "hwc" else order.flatten()  # where each feature's pixel lies
    trees = tree_ensemble(estimator)
    if trees is not None:
        return TreeModel(_on_pixels(trees, low, high, order), classes=classes, shape=shape, **shared)
    scores, probabilities, access = scores_of(estimator)

    def answer(images: Any) -> Any:
        if images.shape[1:] != sizes:
            given = "x".join(map(str, images.shape[1:]))
            raise CaromError(f"model {who} takes images of shape {'x'.join(map(str, sizes))}, the data has {given}.")
        return scores(images.reshape(len(images), -1)[:, order.numpy()] * (high - low) + low)

    digest = digest_of_object(estimator, low, high, layout, shape)
    model = FunctionModel(
        answer,
        family=family_fact(facts, estimator),
        classes=classes,
        digest=digest,
        probabilities=probabilities,
        **shared,
    )
    model.access = access
    return model


def _on_pixels(trees: TreeEnsemble, low: float, high: float, order: Tensor) -> TreeEnsemble:
    """The trees over flattened pixels in [0, 1], asked of every 8-bit image what they were asked before."""
    if (low, high) == (0, 1):
        cuts = trees.threshold
    else:
        # Between the last stored pixel that goes left and the next: no rounding can tip a comparison.
        levels = torch.arange(256, dtype=torch.float64) / 255 * (high - low) + low
        goes_left = torch.searchsorted(levels.float(), trees.threshold, right=True)
        cuts = (goes_left.float() - 0.5) / 255
    return TreeEnsemble(trees.left, trees.right, order[trees.feature], cuts, trees.value)


def _function(function: Callable[..., Any], facts: Mapping[str, Any]) -> Model:
    need(facts, [ANSWERS, CLASSES], called(function, facts))
    answers = choice(facts, "answers", ("logits", "probabilities"))
    low, high = bounds_fact(facts, (0, 1))
    model = FunctionModel(
        function if (low, high) == (0, 1) else lambda images: function(images * (high - low) + low),
        name=called(function, facts),
        modality="image",
        family=family_fact({"family": Family.OTHER, **facts}, function),
        space=PIXELS,
        classes=class_names(facts["classes"]),
        digest=digest_of_object(function, low, high, answers),
        probabilities=answers == "probabilities",
    )
    model.access = Access.LABEL | Access.SCORE
    return model


def _normalise(value: Any) -> tuple[Tensor, Tensor] | None:
    """(mean, std) from a pair of numbers or sequences, or from "0.5,0.4,0.4;0.2,0.2,0.2"."""
    if value is None:
        return None
    try:
        mean, std = (torch.tensor(numbers(v)) for v in (value.split(";") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        raise CaromError(
            f"normalise={value!r}: write normalise=(mean, std), each a number or one per channel, or MEAN;STD in a "
            "spec: 0.5,0.4,0.4;0.2,0.2,0.2."
        ) from None
    if len(mean) != len(std) or not (std > 0).all():
        raise CaromError(f"normalise={value!r}: mean and std need as many numbers, and every std must be positive.")
    return mean, std


def _shape(value: Any) -> tuple[int | None, ...] | None:
    """(C, H, W) from a sequence or "3x32x32"."""
    if value is None:
        return None
    parts = value.split("x") if isinstance(value, str) else value
    try:
        shape = tuple(None if part is None else int(part) for part in parts)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) != 3:
        raise CaromError(f"shape={value!r}: write shape=(channels, height, width), or 3x32x32 in a spec.")
    return shape


_LOADERS: dict[str, Load] = {
    "zoo": _zoo,
    "torchvision": _torchvision,
    "hf": _hub,
    "safetensors": _checkpoint,
    "sklearn": _sklearn,
    "py": _python,
}
