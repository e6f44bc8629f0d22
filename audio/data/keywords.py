"""Ten spoken keywords at 16 kHz: the audio data that Carom ships.

Synthesised by `scripts/make_keywords.py` with eSpeak NG and Flite; `assets/LICENSE-keywords` says under what terms.
No voice speaks in two splits; for eSpeak NG this holds for the variant (the speaker), not only for its combination
with an accent. Each split is one FLAC file, its clips one after the other, and an index that says where each lies.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np

from carom.common.base.errors import UnknownName

CLASSES = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SAMPLE_RATE = 16_000
SAMPLES = SAMPLE_RATE
"""Every clip is padded with zeros, at its end, to one second."""
SPLITS = ("train", "calibration", "test")
FOLDER = Path(__file__).parents[1] / "assets"


def sound_file(split: str) -> Path:
    return FOLDER / f"keywords-{split}.flac"


def index_file(split: str) -> Path:
    return FOLDER / f"keywords-{split}.json"


def load(split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """`(waves int16[N, 16000], labels int64[N], lengths int64[N], ids)` of "train", "calibration" or "test".

    `lengths` counts the samples before the padding. An id is `engine/voice/word`. Clips of one voice are neighbours;
    the first n x 10 clips are the first n voices, each with all ten words.
    """
    if split not in SPLITS:
        raise UnknownName("keyword split", split, SPLITS)
    import soundfile

    sound, _ = soundfile.read(sound_file(split), dtype="int16")
    clips = json.loads(index_file(split).read_text(encoding="utf-8"))
    waves = np.zeros((len(clips), SAMPLES), dtype=np.int16)
    for wave, clip in zip(waves, clips, strict=True):
        wave[: clip["length"]] = sound[clip["offset"] : clip["offset"] + clip["length"]]
    labels = np.array([clip["label"] for clip in clips], dtype=np.int64)
    lengths = np.array([clip["length"] for clip in clips], dtype=np.int64)
    return waves, labels, lengths, [clip["id"] for clip in clips]


def voices(ids: list[str]) -> list[str]:
    """The voice that speaks each clip."""
    return [name.rpartition("/")[0] for name in ids]


@cache
def digest() -> str:
    """sha256 over the files of all three splits."""
    content = hashlib.sha256()
    for split in SPLITS:
        content.update(sound_file(split).read_bytes())
        content.update(index_file(split).read_bytes())
    return content.hexdigest()
