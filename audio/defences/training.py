"""Defences that train audio networks."""

from __future__ import annotations

from carom.audio.attacks import ATTACKS, THREATS
from carom.audio.space import WAVEFORM
from carom.common.core.model import Model
from carom.common.defences.training.inner import Ground
from carom.common.defences.training.trainers import trainers
from carom.common.modality.installed import get_modality
from carom.common.modality.load import load_model_of


def _load(spec: str) -> Model:
    return load_model_of(get_modality("audio"), spec, {})


TRAINING = trainers(
    Ground(
        modality="audio",
        space=WAVEFORM,
        threats=THREATS,
        attacks=ATTACKS,
        load=_load,
        threat="snr",
        eps=20.0,
        static="zoo:audio-m5+zoo:audio-kwt",
    )
)
