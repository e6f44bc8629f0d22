"""Sounds for and of other tools: arrays of one row a sound, and WAV files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from carom.audio.space import WAVEFORM
from carom.common.base.errors import CaromError


def one_channel(array: np.ndarray, count: int, where: str) -> np.ndarray:
    """[N, L] of N = `count` sounds; a channel axis of 1 is taken off, one sound without a batch axis gets that.

    Raises CaromError for several channels.
    """
    if count == 1 and array.ndim == 1:
        array = array[None]
    if array.ndim == 3 and 1 in array.shape[1:]:
        array = array.squeeze(1 if array.shape[1] == 1 else 2)
    if array.ndim != 2:
        raise CaromError(
            f"{where} has shape {list(array.shape)}: sounds are [N, L], of one channel. Average their channels first."
        )
    return array


def write_wav(sound: Tensor, space: Any, path: Path) -> Path:
    """Write int16[L] as PATH.wav, sample for sample, at the rate of its space."""
    import soundfile

    file = path.with_name(f"{path.name}.wav")
    soundfile.write(file, sound.cpu().numpy(), (space or WAVEFORM).sample_rate, subtype="PCM_16")
    return file
