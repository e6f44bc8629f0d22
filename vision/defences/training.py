"""Defences that train image networks."""

from __future__ import annotations

from carom.common.core.model import Model
from carom.common.defences.training.inner import Ground
from carom.common.defences.training.trainers import trainers
from carom.common.modality.installed import get_modality
from carom.common.modality.load import load_model_of
from carom.vision.attacks import ATTACKS, THREATS
from carom.vision.space import PIXELS


def _load(spec: str) -> Model:
    return load_model_of(get_modality("image"), spec, {})


TRAINING = trainers(
    Ground(
        modality="image",
        space=PIXELS,
        threats=THREATS,
        attacks=ATTACKS,
        load=_load,
        threat="linf",
        eps=8 / 255,
        static="zoo:image-vgg+zoo:image-mlp+zoo:image-vit",
    )
)
