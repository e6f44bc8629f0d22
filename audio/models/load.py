"""Audio models from anywhere: the zoo, Hugging Face, checkpoints, estimators, and modules that you hold.

Every model is called with float[N, L] in [-1, 1] at its sample rate, padded with zeros at the end, and with the
lengths of the sounds where it can use them. Normalisation and spectra are computed inside, in torch, so that gradients
reach the samples as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.audio.models.zoo import RECIPES
from carom.audio.space import Waveform
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.identity import digest_of
from carom.common.base.parameters import flag
from carom.common.base.specs import Spec, parse
from carom.common.core.batch import Family
from carom.common.core.model import Model
from carom.common.loading.dispatch import Load, dispatch, load_python, own_loaders, wrapped
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
    side_names,
    stated_classes,
    threshold_fact,
    whole_fact,
)
from carom.common.loading.pretrained import check_pipeline, load_pretrained, load_processor, pipeline_parts
from carom.common.loading.zoo import load_body
from carom.common.models.answers import check_probabilities
from carom.common.models.functions import FunctionModel
from carom.common.models.networks import TorchModel
from carom.common.models.trees import TreeEnsemble, TreeModel

KNOWN = (
    *("name", "family", "classes", "sample_rate", "bounds", "samples", "takes_lengths"),
    *("features", "answers", "processor", "trusted", "threshold"),
)
"""The facts that a user may state, as keywords or as parameters of the spec."""

RATE = Fact("sample_rate", "sample rate", "sample_rate=16000", "sample_rate=16000")
FEATURES = Fact("features", "features", "features=MODULE, from float[N, L] to float[N, D]", "features=py:module:name")


def load_model(source: Any, **facts: Any) -> Model:
    """An audio model from a spec, or around a module, a Hugging Face model, an estimator or a function that you hold.

    Facts that Carom may ask for: `classes` in the order of the outputs; `sample_rate` in Hz; `bounds` that -1 and 1
    stand for, (-1, 1) unless stated; `samples`, the only length it takes, if there is one; `takes_lengths` for modules
    called with (waves, lengths); for estimators the `features` they were fitted on, a torch module or a function of
    float32[N, L] (`py:pkg.module:name` in a spec); for functions what they answer, logits or probabilities.
    """
    return dispatch(source, facts, _LOADERS, KNOWN, wrap)


def wrap(thing: Any, facts: Mapping[str, Any]) -> Model:
    """A model around an object."""
    refusal = (
        f"{called(thing, facts)} is not a model: give a torch module, a Hugging Face model, a fitted scikit-learn "
        "estimator, or a function from waveforms to scores."
    )
    return wrapped(thing, facts, _network, _estimator, _function, refusal, _pipeline)


def _network(module: nn.Module, facts: Mapping[str, Any]) -> Model:
    if "processor" in facts and hasattr(module, "config"):
        return hugging_face(module, facts["processor"], facts)
    return _module(module, facts)


def _zoo(spec: Spec, facts: Mapping[str, Any]) -> Model:
    if spec.rest not in RECIPES:
        raise UnknownName("audio model in the zoo", spec.rest, RECIPES)
    from carom.audio.data import keywords
    from carom.audio.models.frontends import MfccStatistics

    known_facts({**spec.parameters, **facts}, ("name", "weights"), f"zoo:{spec.rest}")
    recipe = RECIPES[spec.rest]
    body = load_body(recipe, spec.parameters.get("weights"))
    shared: dict[str, Any] = {
        "name": facts["name"],
        "modality": "audio",
        "space": Waveform(sample_rate=keywords.SAMPLE_RATE),
        "classes": keywords.CLASSES,
        "shape": (keywords.SAMPLES,),
    }
    if isinstance(body, TreeEnsemble):
        return TreeModel(body, front_end=MfccStatistics().eval(), **shared)
    return TorchModel(body, family=recipe.family, **shared)


def _torchaudio(spec: Spec, facts: Mapping[str, Any]) -> Model:
    """torchaudio ships no classifiers: say what the bundle is, and how to make one of it."""
    from torchaudio import pipelines

    bundles = [name for name in pipelines.__all__ if name.isupper() or not name.endswith("Bundle")]
    if spec.rest not in bundles:
        raise UnknownName("torchaudio bundle", spec.rest, bundles)
    bundle = getattr(pipelines, spec.rest)
    kind = type(bundle).__name__
    does = {
        "Wav2Vec2ASRBundle": "transcribes speech, letter by letter (CTC)",
        "Wav2Vec2FABundle": "aligns speech with a transcript",
        "Wav2Vec2Bundle": "turns speech into features and has no classes",
        "RNNTBundle": "transcribes speech (RNN-T)",
        "Tacotron2TTSBundle": "synthesises speech",
        "SourceSeparationBundle": "separates sources",
    }.get(kind, "estimates the quality of speech")
    raise CaromError(
        f"torchaudio:{spec.rest} {does}; carom attacks classifiers. Put a head on it in a factory of your own "
        f"(torchaudio.pipelines.{spec.rest}.get_model() inside) and load that with py:package.module:factory"
        f"?sample_rate={int(getattr(bundle, 'sample_rate', 16000))}, or use a fine-tuned classifier: hf:org/name."
    )


def _hub(spec: Spec, facts: Mapping[str, Any]) -> Model:
    return hugging_face(
        load_pretrained("AutoModelForAudioClassification", spec), load_processor("AutoFeatureExtractor", spec), facts
    )


def _pipeline(pipeline: Any, facts: Mapping[str, Any]) -> Model:
    """A transformers pipeline for audio classification, by its network and its feature extractor."""
    who = called(pipeline, facts)
    network, extractor = pipeline_parts(pipeline, "audio-classification", "feature_extractor", facts)
    model = hugging_face(network, extractor, {"name": who, **facts})
    rate = int(extractor.sampling_rate)
    wave = torch.rand(1, rate, generator=torch.Generator().manual_seed(0)) - 0.5
    waves = [wave[:, :length] for length in (rate, rate // 2)]
    given = [{"raw": one[0].numpy(), "sampling_rate": rate} for one in waves]
    remedy = "Hand in its network with the extractor: load_model(pipe.model, processor=pipe.feature_extractor)."
    check_pipeline(
        pipeline, given, lambda: torch.cat([model(one.to(model.device)).logits for one in waves]), who, remedy
    )
    return model


def hugging_face(model: Any, processor: Any, facts: Mapping[str, Any]) -> Model:
    """A transformers audio classifier with its feature extractor done in torch: waveforms as they are, or AST's."""
    front = (ASTFeatures if hasattr(processor, "num_mel_bins") else Standardise)(processor)
    check_extractor(front, processor)
    labels = model.config.id2label
    stated = {"classes": [labels[k] for k in sorted(labels)], "sample_rate": processor.sampling_rate, **facts}
    if whole_fact(stated, "sample_rate", None) != processor.sampling_rate:
        raise CaromError(
            f"{called(model, facts)} takes sounds at {processor.sampling_rate} Hz, not {stated['sample_rate']}. "
            "Leave sample_rate out."
        )
    return _torch_model(Heard(front, model), model, {**stated, "takes_lengths": True})


class Heard(nn.Module):
    """A front end and a transformers model behind it: (waves float[N, L], lengths int64[N] or None) -> logits."""

    def __init__(self, front: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.front, self.model = front, model

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.model(**self.front(waves, lengths)).logits


class Standardise(nn.Module):
    """Wav2Vec2FeatureExtractor in torch: each sound to mean 0 and variance 1, padding to 0, with a mask if it has one.

    Models that normalise over time and take no mask (wav2vec2-base among them) see the padding, as they do in
    transformers.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.normalise = bool(getattr(extractor, "do_normalize", False))
        self.masks = bool(getattr(extractor, "return_attention_mask", False))

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        if lengths is None:
            lengths = torch.full((len(waves),), waves.shape[1], device=waves.device)
        inside = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]
        if self.normalise:
            count = lengths[:, None].clamp_min(1)
            centred = (waves - (waves * inside).sum(1, keepdim=True) / count) * inside
            waves = centred / (centred.square().sum(1, keepdim=True) / count + 1e-7).sqrt()
        return {"input_values": waves, **({"attention_mask": inside.long()} if self.masks else {})}

    def extra_repr(self) -> str:
        return f"normalise={self.normalise}, masks={self.masks}"


class ASTFeatures(nn.Module):
    """ASTFeatureExtractor in torch: Kaldi's log-mel filter bank of the whole batch, cut or padded, then scaled.

    Frames of 25 ms every 10 ms, mean removed, pre-emphasis .97, Hann window, power spectrum, log mel energies
    (Povey et al., Kaldi; torchaudio.compliance.kaldi.fbank computes the same one sound at a time).
    """

    banks: Tensor
    shape: Tensor

    def __init__(self, extractor: Any) -> None:
        from torchaudio.compliance.kaldi import get_mel_banks

        super().__init__()
        rate = extractor.sampling_rate
        self.frames, self.normalise = int(extractor.max_length), bool(extractor.do_normalize)
        self.mean, self.std = float(extractor.mean), float(extractor.std)
        self.window, self.hop = int(rate * 0.025), int(rate * 0.010)
        self.size = 1 << (self.window - 1).bit_length()
        banks, _ = get_mel_banks(extractor.num_mel_bins, self.size, float(rate), 20.0, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("banks", F.pad(banks, (0, 1)).T.contiguous())  # [size / 2 + 1, bins]
        self.register_buffer("shape", torch.hann_window(self.window, periodic=False))

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        if waves.shape[1] < self.window:
            waves = F.pad(waves, (0, self.window - waves.shape[1]))
        frames = waves.unfold(1, self.window, self.hop)[:, : self.frames]
        frames = frames - frames.mean(2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        spectrum = torch.fft.rfft((frames - 0.97 * before) * self.shape, self.size)
        energy = (spectrum.real.square() + spectrum.imag.square()) @ self.banks
        mel = energy.clamp_min(torch.finfo(torch.float32).eps).log()  # [N, T, bins]
        if lengths is not None:  # a sound ends with its last whole frame; what follows is 0, as after padding
            count = ((lengths - self.window) // self.hop + 1).clamp_min(0)
            mel = mel * (torch.arange(mel.shape[1], device=mel.device) < count[:, None])[..., None]
        mel = F.pad(mel, (0, 0, 0, self.frames - mel.shape[1]))
        return {"input_values": (mel - self.mean) / (2 * self.std) if self.normalise else mel}

    def extra_repr(self) -> str:
        return f"frames={self.frames}, mean={self.mean}, std={self.std}, normalise={self.normalise}"


def check_extractor(front: nn.Module, extractor: Any) -> None:
    """Refuse a feature extractor whose answer to a sound is not what the front end in torch makes of it."""
    time = torch.arange(extractor.sampling_rate // 2) / extractor.sampling_rate
    wave = 0.3 * (2 * torch.pi * (300 + 900 * time) * time).sin() + 0.05 * (2 * torch.pi * 2100 * time).cos()
    try:
        theirs = extractor([wave.numpy()], sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_values"]
        with torch.no_grad():
            ours = front(wave[None])["input_values"]
        off = float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")
    except (KeyError, TypeError, ValueError):
        off = float("inf")
    if not off <= 1e-3:
        raise CaromError(
            f"{type(extractor).__name__} makes other features than carom can compute in torch (difference {off:.3g}). "
            "Wrap the model in a module that computes them from waveforms; pass it with sample_rate= and classes=."
        )


def _module(module: nn.Module, facts: Mapping[str, Any]) -> Model:
    facts = {**side_names(facts), **facts}
    need(facts, [RATE, CLASSES], called(module, facts))
    low, high = bounds_fact(facts, (-1, 1))
    if (low, high) == (-1, 1):
        return _torch_model(module, module, facts)
    return _torch_model(Rescaled(module, low, high, _takes_lengths(facts, module)), module, facts)


def _takes_lengths(facts: Mapping[str, Any], module: nn.Module) -> bool:
    return flag(facts, "takes_lengths", called(module, facts))


class Rescaled(nn.Module):
    """A module that was trained on samples in other bounds, such as those of 16-bit integers."""

    factor: Tensor
    offset: Tensor

    def __init__(self, module: nn.Module, low: float, high: float, takes_lengths: bool) -> None:
        super().__init__()
        self.module, self.takes_lengths = module, takes_lengths
        self.register_buffer("factor", torch.tensor((high - low) / 2))
        self.register_buffer("offset", torch.tensor((high + low) / 2))

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> Any:
        waves = waves * self.factor + self.offset
        return self.module(waves, lengths) if self.takes_lengths else self.module(waves)


def _torch_model(module: nn.Module, core: nn.Module, facts: Mapping[str, Any]) -> Model:
    model = TorchModel(
        module,
        name=called(core, facts),
        modality="audio",
        family=family_fact(facts, core),
        space=_space(facts),
        classes=class_names(facts["classes"]),
        shape=(whole_fact(facts, "samples", None),),
        takes_lengths=_takes_lengths(facts, core),
        threshold=threshold_fact(facts, called(core, facts)),
    )
    model.remedy = (
        "Sounds come as [N, samples]: choose sounds as long as the model takes them, or wrap it in a module that makes "
        "of them what it takes."
    )
    return model


def _space(facts: Mapping[str, Any]) -> Waveform:
    try:
        return Waveform(sample_rate=int(facts["sample_rate"]))
    except (TypeError, ValueError):
        raise CaromError(f"sample_rate={facts['sample_rate']!r}: write it in Hz: sample_rate=16000.") from None


def _estimator(estimator: Any, facts: Mapping[str, Any]) -> Model:
    who = called(estimator, facts)
    need(facts, [RATE, FEATURES], who)
    low, high = bounds_fact(facts, (-1, 1))
    features = facts["features"]
    if isinstance(features, str):
        features = load_python(parse(features, ("py",)))
    classes = fitted_classes(estimator, stated_classes(facts), who)
    shared: dict[str, Any] = {"name": who, "modality": "audio", "space": _space(facts), "classes": classes}
    trees = tree_ensemble(estimator)
    if trees is not None and isinstance(features, nn.Module):
        front = features.eval() if (low, high) == (-1, 1) else Rescaled(features, low, high, False).eval()
        return TreeModel(trees, front_end=front, **shared)

    def seen(waves: Any) -> Any:
        waves = (waves + 1) * ((high - low) / 2) + low
        if isinstance(features, nn.Module):
            with torch.no_grad():
                return features(torch.from_numpy(waves)).numpy()
        return features(waves)

    silence = np.zeros((1, shared["space"].sample_rate), dtype=np.float32)
    scores, probabilities, access = scores_of(estimator, seen(silence), who)

    def answer(waves: Any) -> Any:
        return scores(seen(waves))

    model = FunctionModel(
        answer,
        family=family_fact(facts, estimator),
        digest=digest_of(estimator, low, high, features),
        probabilities=probabilities,
        **shared,
    )
    model.access = access
    return model


def _function(function: Callable[..., Any], facts: Mapping[str, Any]) -> Model:
    who = called(function, facts)
    threshold, facts = threshold_fact(facts, who), {**side_names(facts), **facts}
    need(facts, [RATE, CLASSES] if threshold is not None else [RATE, ANSWERS, CLASSES], who)
    answers = "logits" if threshold is not None else choice(facts, "answers", ("logits", "probabilities"))
    low, high = bounds_fact(facts, (-1, 1))

    def asked(waves: Any) -> Any:
        return function(waves if (low, high) == (-1, 1) else (waves + 1) * ((high - low) / 2) + low)

    return FunctionModel(
        partial(check_probabilities, asked, who) if answers == "probabilities" else asked,
        name=called(function, facts),
        modality="audio",
        family=family_fact({"family": Family.OTHER, **facts}, function),
        space=_space(facts),
        classes=class_names(facts["classes"]),
        digest=digest_of(function, low, high, answers, *([] if threshold is None else [threshold])),
        probabilities=answers == "probabilities",
        threshold=threshold,
    )


_LOADERS: dict[str, Load] = {
    "zoo": _zoo,
    "torchaudio": _torchaudio,
    "hf": _hub,
    **own_loaders(wrap, KNOWN),
}
