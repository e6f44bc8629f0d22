"""Image models from anywhere: the zoo, torchvision, Hugging Face, checkpoints, estimators, and modules that you hold.

Every model is called with float[N, C, H, W] in [0, 1]. What its weights were trained with (normalisation, bounds)
happens inside, in torch, so that gradients reach the pixels as they are stored; resizing only where it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.identity import digest_of
from carom.common.base.specs import Spec
from carom.common.core.batch import Family
from carom.common.core.model import Model
from carom.common.loading.dispatch import Load, dispatch, own_loaders, wrapped
from carom.common.loading.estimators import fitted_classes, scores_of, tree_ensemble
from carom.common.loading.facts import (
    ANSWERS,
    CLASSES,
    Fact,
    bounds_fact,
    called,
    choice,
    class_names,
    family_fact,
    known_facts,
    need,
    numbers,
    side_names,
    stated_classes,
    threshold_fact,
)
from carom.common.loading.pretrained import check_pipeline, load_pretrained, load_processor, pipeline_parts
from carom.common.loading.zoo import load_body
from carom.common.models.answers import check_probabilities
from carom.common.models.functions import FunctionModel
from carom.common.models.networks import TorchModel
from carom.common.models.trees import TreeEnsemble, TreeModel
from carom.vision.models.pretrained import Pretrained, hugging_face_classifier, resolution, torchvision_classifier
from carom.vision.models.zoo import RECIPES, pictures_of
from carom.vision.space import PIXELS

KNOWN = (
    *("name", "family", "classes", "bounds", "normalise", "shape", "resolution", "layout", "answers", "processor"),
    *("trusted", "threshold"),
)
"""The facts that a user may state, as keywords or as parameters of the spec."""

NORMALISE = Fact("normalise", "normalisation", "normalise=(mean, std) or normalise=None", "normalise=none")
BOUNDS = Fact("bounds", "pixel bounds", "bounds=(0, 1) or bounds=(0, 255)", "bounds=0,1")
SHAPE_OF = Fact("shape", "input shape", "shape=(channels, height, width)", "shape=3x32x32")
LAYOUT = Fact("layout", "order of its features", 'layout="chw" or layout="hwc"', "layout=chw")


def load_model(source: Any, **facts: Any) -> Model:
    """An image model from a spec, or around a module, a Hugging Face model, an estimator or a function that you hold.

    Facts that Carom may ask for: `classes` in the order of the outputs; `normalise`, (mean, std) in units of `bounds`,
    or None where the module does it itself; `bounds` of the pixels it expects, (0, 1) unless stated; `shape` of one
    image; `resolution`, "own" or the side N of images that a torch module resizes to its own size inside (see
    carom.vision.models.pretrained); for estimators the `layout` in which they saw images flattened; for functions what they
    answer, logits or probabilities, to float32[N, C, H, W] as numpy. `name` and `family` override what Carom picks.
    """
    return dispatch(source, facts, _LOADERS, KNOWN, wrap)


def wrap(thing: Any, facts: Mapping[str, Any]) -> Model:
    """A model around an object."""
    refusal = (
        f"{called(thing, facts)} is not a model: give a torch module, a Hugging Face model, a fitted scikit-learn "
        "estimator, or a function from images to scores."
    )
    return wrapped(thing, facts, _network, _estimator, _function, refusal, _pipeline)


def _network(module: nn.Module, facts: Mapping[str, Any]) -> Model:
    if "processor" in facts and hasattr(module, "config"):
        return hugging_face(module, facts["processor"], facts)
    return _module(module, facts)


def _zoo(spec: Spec, facts: Mapping[str, Any]) -> Model:
    if spec.rest not in RECIPES:
        raise UnknownName("image model in the zoo", spec.rest, RECIPES)
    known_facts({**spec.parameters, **facts}, ("name", "weights"), f"zoo:{spec.rest}")
    recipe, pictures = RECIPES[spec.rest], pictures_of(spec.rest)
    body = load_body(recipe, spec.parameters.get("weights"))
    shared: dict[str, Any] = {
        "name": facts["name"],
        "modality": "image",
        "space": PIXELS,
        "classes": pictures.classes,
        "shape": pictures.shape,
    }
    if isinstance(body, TreeEnsemble):
        size = math.prod(pictures.shape)
        model: Model = TreeModel(_on_pixels(body, 0, 1, torch.arange(size)), **shared)
    else:
        model = TorchModel(body, family=recipe.family, **shared)
    channels, size, _ = pictures.shape
    model.remedy = (
        f"Read the data as it takes them (in their spec: folder:PATH?channels={channels}&size={size}), choose others, or "
        "wrap the model with the resizing it needs."
    )
    return model


def _torchvision(spec: Spec, facts: Mapping[str, Any]) -> Model:
    """`torchvision:resnet50@IMAGENET1K_V2`: with the normalisation of these weights inside."""
    found = torchvision_classifier(spec)
    if isinstance(found, nn.Module):
        return _module(found, {"bounds": (0, 1), **facts})
    return _pretrained(found, found.core, facts)


def _hub(spec: Spec, facts: Mapping[str, Any]) -> Model:
    return hugging_face(
        load_pretrained("AutoModelForImageClassification", spec), load_processor("AutoImageProcessor", spec), facts
    )


def _pipeline(pipeline: Any, facts: Mapping[str, Any]) -> Model:
    """A transformers pipeline for image classification, by its network and its image processor."""
    who = called(pipeline, facts)
    network, processor = pipeline_parts(pipeline, "image-classification", "image_processor", facts)
    as_network = "load_model(pipe.model, processor=pipe.image_processor)"
    if "resolution" in facts:
        raise CaromError(f"{who}: resolution= is for networks. Leave it out, or hand in the network: {as_network}.")
    model = hugging_face(network, processor, {"name": who, **facts})
    shape = getattr(model, "shape", None) or (None, None, None)
    channels, height, width = (side or other for side, other in zip(shape, (3, 224, 224), strict=True))
    stored = torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(0)).mul(255).byte()
    given = [Image.fromarray(one.permute(1, 2, 0).squeeze(2).numpy()) for one in stored]
    remedy = (
        f"It resizes or cuts images of {height}x{width}, which is the size that its network takes. To attack the network "
        f"on images of that size, hand it in: {as_network}."
    )
    check_pipeline(pipeline, given, lambda: model(PIXELS.decode(stored).to(model.device)).logits, who, remedy)
    return model


def hugging_face(model: Any, processor: Any, facts: Mapping[str, Any]) -> Model:
    """A transformers image classifier with the normalisation of its image processor inside."""
    return _pretrained(hugging_face_classifier(model, processor), model, facts)


def _pretrained(found: Pretrained, core: nn.Module, facts: Mapping[str, Any]) -> Model:
    height, width = found.size or (None, None)
    stated = {"classes": found.classes, "shape": (found.channels, height, width), **facts}
    model = _torch_model(nn.Sequential(found.prepare, found.core), core, stated)
    model.facts = {**found.facts, **model.facts}
    return model


def _module(module: nn.Module, facts: Mapping[str, Any]) -> Model:
    facts = {**side_names(facts), **facts}
    need(facts, [NORMALISE, CLASSES], called(module, facts))
    low, high = bounds_fact(facts, (0, 1))
    normalise = _normalise(facts["normalise"])
    if normalise is not None:
        check_units(*normalise, low, high, called(module, facts))
        facts = _with_channels(facts, len(normalise[0]), called(module, facts))
    if (low, high) == (0, 1) and normalise is None:
        return _torch_model(module, module, facts)
    return _torch_model(nn.Sequential(Rescale(low, high, normalise), module), module, facts)


def _with_channels(facts: Mapping[str, Any], values: int, who: str) -> Mapping[str, Any]:
    """The facts with the channels that a normalisation of several values is for: it would make as many of one channel."""
    shape = _shape(facts.get("shape")) or (None, None, None)
    if values == 1 or shape[0] == values:
        return facts
    if shape[0] is not None:
        raise CaromError(
            f"{who}: normalise has {values} values for the mean, and shape= says {shape[0]} channels. Give one value, or "
            "one for each channel."
        )
    return {**facts, "shape": (values, *shape[1:])}


def check_units(mean: Tensor, std: Tensor, low: float, high: float, who: str) -> None:
    """Refuse a mean and deviation in another unit than the bounds: those of 0..1 where pixels go to 255, or the reverse.
    A deviation of 1 on 0..255 is as it should be for networks that only take the mean away."""
    span, ends = high - low, (float(mean.min()), float(mean.max()))
    said = f"{who}: normalise has mean {_listed(mean)} and deviation {_listed(std)}, and bounds are {low:g} to {high:g}"
    if ends[0] < low - span or ends[1] > high + span or float(std.min()) > 2 * span:
        raise CaromError(f"{said}: that is another unit. Give both for pixels in these bounds, or state bounds=0,255.")
    moved = bool((mean != low).any()) or bool((std != 1).any())
    if moved and span > 50 and float((mean - low).abs().max()) <= span / 50 and float(std.max()) <= span / 50:
        raise CaromError(f"{said}: that is another unit. Give both for pixels in these bounds, or leave bounds= out.")


def _listed(values: Tensor) -> str:
    return ",".join(f"{value:g}" for value in values.flatten().tolist())


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


READ_AS = (
    "Read the data as the model wants them (channels= and size= in their spec: folder:PATH?channels=1&size=28), or choose "
    "other data. A model's shape=CHANNELSxHEIGHTxWIDTH has this checked when it is loaded."
)
"""What to do about images that a model cannot take, where its size is not known."""


def _torch_model(module: nn.Module, core: nn.Module, facts: Mapping[str, Any]) -> Model:
    shape = _shape(facts.get("shape"))
    own = (shape[1], shape[2]) if shape is not None and shape[1] and shape[2] else None
    channels = None if shape is None else shape[0]
    at = resolution(facts.get("resolution", "own"), own, channels, called(core, facts))
    if shape is not None and at.taken is not None:
        shape = (shape[0], *at.taken)
    model = TorchModel(
        module if at.resize is None else nn.Sequential(at.resize, module),
        name=called(core, facts),
        modality="image",
        family=family_fact(facts, core),
        space=PIXELS,
        classes=class_names(facts["classes"]),
        shape=shape,
        threshold=threshold_fact(facts, called(core, facts)),
    )
    model.facts |= at.facts
    model.remedy = at.remedy or READ_AS
    return model


def _no_resolution(facts: Mapping[str, Any], who: str) -> None:
    if "resolution" in facts:
        raise CaromError(f"{who}: resolution= is for torch modules; this takes images of one shape. Leave it out.")


def _estimator(estimator: Any, facts: Mapping[str, Any]) -> Model:
    who = called(estimator, facts)
    _no_resolution(facts, who)
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
    classes = fitted_classes(estimator, stated_classes(facts), who)
    shared: dict[str, Any] = {"name": called(estimator, facts), "modality": "image", "space": PIXELS}
    order = torch.arange(size).view(sizes)
    order = order.permute(1, 2, 0).flatten() if layout == "hwc" else order.flatten()  # where each feature's pixel lies
    trees = tree_ensemble(estimator)
    if trees is not None:
        return TreeModel(_on_pixels(trees, low, high, order), classes=classes, shape=shape, **shared)
    scores, probabilities, access = scores_of(estimator, np.full((1, size), low), who)

    def answer(images: Any) -> Any:
        if images.shape[1:] != sizes:
            given = "x".join(map(str, images.shape[1:]))
            raise CaromError(f"model {who} takes images of shape {'x'.join(map(str, sizes))}, the data has {given}.")
        return scores(rescaled(images.reshape(len(images), -1)[:, order.numpy()], low, high))

    digest = digest_of(estimator, low, high, layout, shape)
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
    # Between the last stored pixel that goes left and the next: no rounding can tip a comparison.
    levels = torch.from_numpy(rescaled(np.arange(256) / 255, low, high)).to(trees.threshold.dtype)
    goes_left = torch.searchsorted(levels, trees.threshold.contiguous(), right=True)
    return replace(trees, feature=order[trees.feature], threshold=(goes_left.float() - 0.5) / 255)


def rescaled(images: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """float64: pixels in [0, 1] between other bounds. Pixel k of 8 bits becomes exactly what `stored / 255 * (high -
    low) + low` is in double precision, and exactly k between 0 and 255."""
    levels = images.astype(np.float64) * 255
    whole = np.rint(levels)
    levels = np.where(np.abs(levels - whole) < 1e-3, whole, levels)
    return levels if (low, high) == (0, 255) else levels / 255 * (high - low) + low


def _function(function: Callable[..., Any], facts: Mapping[str, Any]) -> Model:
    who = called(function, facts)
    threshold, facts = threshold_fact(facts, who), {**side_names(facts), **facts}
    _no_resolution(facts, who)
    need(facts, [CLASSES] if threshold is not None else [ANSWERS, CLASSES], who)
    answers = "logits" if threshold is not None else choice(facts, "answers", ("logits", "probabilities"))
    low, high = bounds_fact(facts, (0, 1))

    def asked(images: Any) -> Any:
        return function(rescaled(images, low, high).astype(np.float32))

    return FunctionModel(
        partial(check_probabilities, asked, who) if answers == "probabilities" else asked,
        name=called(function, facts),
        modality="image",
        family=family_fact({"family": Family.OTHER, **facts}, function),
        space=PIXELS,
        classes=class_names(facts["classes"]),
        digest=digest_of(function, low, high, answers, *([] if threshold is None else [threshold])),
        probabilities=answers == "probabilities",
        threshold=threshold,
    )


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
    **own_loaders(wrap, KNOWN),
}
