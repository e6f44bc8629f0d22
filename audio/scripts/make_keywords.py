"""Make `assets/keywords-*.flac` and their indexes: ten words, spoken by eSpeak NG and Flite voices.

    python audio/scripts/make_keywords.py

Needs the programs `espeak-ng` (made with 1.51) and `flite` (made with 2.2). Everything random is seeded, per clip by
its id, so that the same versions of both programs give the same samples.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import tempfile
from dataclasses import dataclass

import numpy as np
import soundfile
from scipy.signal import resample_poly

from carom.audio.data import keywords

ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-029")

# Variants that are no speaker: robots, whispers, and those that sound exactly like another one.
NO_SPEAKER = {"announcer", "anikaRobot", "Demonic", "UniRobot", "Tweaky", "whisper", "whisperf", "croak"}
NO_SPEAKER |= {"robosoft", *(f"robosoft{k}" for k in range(2, 9))}
SAME_AS_ANOTHER = {"fast", "Mr", "klatt", "klatt6"}

# split: (eSpeak NG variants, voices made of them, Flite voices)
PLAN = {
    "train": (46, 149, ("kal16", "rms")),
    "calibration": (13, 29, ("slt",)),
    "test": (22, 55, ("awb",)),
}
LONGEST = 0.95  # seconds of speech; slower speakers are asked to hurry
MARGIN = 0.02  # seconds kept around the word
THRESHOLD = 0.01  # of the peak, below which the ends are silence


@dataclass(frozen=True)
class Voice:
    engine: str
    name: str

    def say(self, word: str, pace: float, pitch: float) -> tuple[np.ndarray, int]:
        """Samples and their rate; `pace` 1 is the usual one, `pitch` from 0 to 1 has .5 for the usual one."""
        if self.engine == "espeak":
            options = ["-v", self.name, "-s", str(round(165 * pace)), "-p", str(round(100 * pitch))]
            spoken = subprocess.run(["espeak-ng", *options, "--stdout", word], capture_output=True, check=True).stdout
            return soundfile.read(io.BytesIO(spoken))
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            options = ["-voice", self.name, "--setf", f"duration_stretch={1 / pace:.3f}"]
            subprocess.run(["flite", *options, "-t", word, "-o", file.name], capture_output=True, check=True)
            return soundfile.read(file.name)


def speaker_names() -> list[str]:
    listing = subprocess.run(["espeak-ng", "--voices=variant"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[4].removeprefix("!v/") for line in listing.splitlines()[1:]}
    return sorted(names - NO_SPEAKER - SAME_AS_ANOTHER)


def cast(rng: random.Random) -> dict[str, list[Voice]]:
    """Who speaks in which split."""
    names = speaker_names()
    rng.shuffle(names)
    voices = {}
    for split, (variants, count, flite) in PLAN.items():
        mine, names = names[:variants], names[variants:]
        accents = {name: rng.sample(ACCENTS, len(ACCENTS)) for name in mine}
        # every variant once, each with an accent of its own, before any comes again
        pairs = [f"{accents[name][turn]}+{name}" for turn in range(len(ACCENTS)) for name in mine]
        voices[split] = [Voice("espeak", pair) for pair in pairs[:count]] + [Voice("flite", name) for name in flite]
    return voices


def trim(wave: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(np.abs(wave) > THRESHOLD * np.abs(wave).max())
    margin = int(MARGIN * keywords.SAMPLE_RATE)
    return wave[max(0, loud[0] - margin) : loud[-1] + margin]


def record(voice: Voice, word: str) -> np.ndarray:
    """int16[L], L <= 16000: one clip, with its own pace, pitch, loudness and faint background noise."""
    seed = f"{voice.engine}/{voice.name}/{word}"
    rng = random.Random(seed)
    pace, pitch = rng.uniform(0.8, 1.3), rng.uniform(0.3, 0.7)
    peak, noise = rng.uniform(0.15, 0.6), 10 ** rng.uniform(-4.3, -3.7)
    while True:
        wave, rate = voice.say(word, pace, pitch)
        wave = trim(resample_poly(wave, keywords.SAMPLE_RATE, rate))
        if len(wave) <= LONGEST * keywords.SAMPLE_RATE:
            break
        pace *= 1.1
    wave = peak * wave / np.abs(wave).max()
    wave = wave + noise * np.random.default_rng(list(seed.encode())).standard_normal(len(wave))
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)


def main() -> None:
    for split, voices in cast(random.Random("keywords")).items():
        clips, sound, offset = [], [], 0
        for voice in voices:
            for label, word in enumerate(keywords.CLASSES):
                wave = record(voice, word)
                name = f"{voice.engine}/{voice.name}"
                clips.append(
                    {"id": f"{name}/{word}", "label": label, "voice": name, "offset": offset, "length": len(wave)}
                )
                sound.append(wave)
                offset += len(wave)
        soundfile.write(keywords.sound_file(split), np.concatenate(sound), keywords.SAMPLE_RATE, compression_level=1.0)
        lines = ",\n".join(json.dumps(clip) for clip in clips)
        keywords.index_file(split).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
