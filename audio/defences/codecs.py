"""Defences that send a sound through a lossy codec and back: soundfile's own encoders and decoders."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from carom.audio.defences.transforms import RAJARATNAM
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.model import Model
from carom.common.defences.catalogue import Defences
from carom.common.defences.transforms import InputTransform, Transformed

CODECS = Defences(kind="transform", adaptation=("around",))

LATEST = 4000  # samples by which a decoder is late at most
ROOM = 4096  # samples of silence around a sound: encoders need some, and shorter ones than a block are lost

RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True)
class Encoded(InputTransform):
    """Encoded and decoded, brought back to its place: decoders come late, each by its own number of samples, which is
    where the two sounds agree most."""

    form: str  # as soundfile calls them
    subtype: str
    level: float
    rate: int

    def __call__(self, x: Tensor, *rng: Rng) -> Tensor:
        sounds = x.detach().double().cpu().numpy()
        return torch.from_numpy(np.stack([self._heard(sound) for sound in sounds])).to(x)

    def _heard(self, sound: np.ndarray) -> np.ndarray:
        import soundfile

        whole = np.pad(sound, ROOM)
        with io.BytesIO() as file:
            soundfile.write(
                file, whole, self.rate, format=self.form, subtype=self.subtype, compression_level=self.level
            )
            file.seek(0)
            found, _ = soundfile.read(file, dtype="float64")
        found = np.pad(found, (0, max(0, len(whole) + LATEST - len(found))))
        late = _lag(sound, found[: len(whole) + LATEST])
        return found[late : late + len(sound)]


def _lag(sound: np.ndarray, found: np.ndarray) -> int:
    """Where in what was decoded the sound begins: by the largest correlation, up to `LATEST` behind where it should."""
    if not sound.any():
        return ROOM
    size = 1 << (len(found) + len(sound) - 1).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(found, size) * np.fft.rfft(sound, size).conj(), size)
    return ROOM + int(likeness[ROOM : ROOM + LATEST].argmax())


@dataclass(frozen=True)
class Codec:
    """A codec at a compression level from 0, the best, to 1, the smallest file, told the sample rate of the model."""

    form: str
    subtype: str
    level: float

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise CaromError(f"{self.form.lower()}: a compression level of {self.level} is none of 0 to 1.")

    def wrap(self, model: Model) -> Model:
        rate = getattr(model.space, "sample_rate", None)
        if rate not in RATES:
            known = ", ".join(map(str, RATES))
            raise CaromError(
                f"{model.name} hears {rate} samples a second; codecs take {known}: choose another defence."
            )
        return Transformed(model, Encoded(self.form, self.subtype, self.level, rate))


@CODECS.defence("mp3", "MP3 compression", paper=RAJARATNAM)
def mp3(level: float = 0.7) -> Codec:
    """At a compression `level` from 0, the best, to 1."""
    return Codec("MP3", "MPEG_LAYER_III", level)


@CODECS.defence("vorbis", "Vorbis compression", paper=RAJARATNAM, departures="Vorbis, which the paper does not try")
def vorbis(level: float = 0.7) -> Codec:
    """At a compression `level` from 0, the best, to 1."""
    return Codec("OGG", "VORBIS", level)
