"""Audio data: the ten keywords as they ship, class folders of sound files, Hugging Face's data sets.

Files are read by libsndfile, without trust: what is truncated, empty, stereo, clipped or not finite is an error that
names the file.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.audio.data import keywords
from carom.audio.space import Waveform
from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.parameters import flag
from carom.common.base.specs import existing, number, parse
from carom.common.core.data import Dataset
from carom.common.loading.class_folders import Labelled, Source, class_folders, raise_all, read_all
from carom.common.loading.facts import known_facts, stated_classes, whole_fact
from carom.common.loading.hub_tables import hub_dataset, hub_sources

BUILTIN = {
    "keywords": "ten spoken words (yes no up down left right on off stop go), 16 kHz, voices not heard in training"
}
ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au")
MAX_SECONDS = 60.0


def load_data(
    spec: str, *, split: str = "test", limit: int | None = None, on_error: str = "raise", **facts: Any
) -> Dataset:
    """Labelled sounds from `builtin:keywords`, `folder:PATH` or `hf:name:split[:500]`, padded with zeros at the end.

    Facts, as keywords or as parameters of the spec: `sample_rate` in Hz (else all files must have the same), with
    `resample=true` where files have others; `mono=true` to average channels; `clip=true` to clip what is louder than full
    scale (MP3, Vorbis and Opus are, as players do); `max_seconds`; `classes` in the order of
    the models; hf: the columns `audio` and `label`.

    Raises BadInput for a file that cannot be used, and one error that names all where there are several; with
    `on_error="skip"` they are left out and listed in `Dataset.skipped`.
    """
    source = parse(spec, tuple(_LOADERS))
    facts = {**source.parameters, **facts}
    return _LOADERS[source.kind](source.rest, split, limit, on_error, facts)


def _builtin(name: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    if name not in BUILTIN:
        raise UnknownName("built-in audio data", name, BUILTIN)
    known_facts(facts, (), f"builtin:{name}")
    waves, labels, lengths, ids = keywords.load(split)
    data = Dataset(
        f"builtin:{name}",
        "audio",
        Waveform(sample_rate=keywords.SAMPLE_RATE),
        torch.from_numpy(waves),
        torch.from_numpy(labels),
        ids,
        keywords.CLASSES,
        torch.from_numpy(lengths),
        {"split": split, "sample_rate": keywords.SAMPLE_RATE},
    )
    return data.sample(limit)


READING = ("sample_rate", "resample", "mono", "clip", "max_seconds", "classes")


def _folder(path: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    known_facts(facts, (*READING, "links"), f"folder:{path}")
    links = flag(facts, "links", f"folder:{path}")
    found = class_folders(existing(path, "folder"), split, ENDINGS, stated_classes(facts), links)
    return _read(f"folder:{path}", split, found, limit, on_error, facts)


def _hub(rest: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    from datasets import Audio

    known_facts(facts, (*READING, "audio", "label"), f"hf:{rest}")
    table, split = hub_dataset(rest, split)
    return _read(f"hf:{rest}", split, hub_sources(table, rest, Audio, facts, "audio"), limit, on_error, facts)


_LOADERS: dict[str, Callable[..., Dataset]] = {"builtin": _builtin, "folder": _folder, "hf": _hub}


def _read(
    name: str, split: str, found: Labelled, limit: int | None, on_error: str, facts: Mapping[str, Any]
) -> Dataset:
    most = number(facts.get("max_seconds", MAX_SECONDS))
    mono, clip = (flag(facts, fact, name) for fact in ("mono", "clip"))
    wanted = whole_fact(facts, "sample_rate", None)
    resample = wanted is not None and flag(facts, "resample", name)
    clipped: list[str] = []

    def read_one(source: Source) -> tuple[Tensor, int]:
        """(samples as they are stored, their rate): nothing is kept larger than it is used"""
        wave, rate = read_sound(source.fetch(), source.where, most, mono, clip, clipped)
        if wanted is not None and rate != wanted:
            if not resample:
                raise BadInput(source.where, f"is at {rate} Hz, not {wanted} Hz", "Pass resample=true to convert it.")
            from torchaudio.functional import resample as convert

            wave, rate = convert(torch.from_numpy(wave), rate, wanted).clamp(-1, 1).numpy(), wanted
        return Waveform(sample_rate=rate).encode(torch.from_numpy(wave)), rate

    read, skipped = read_all(found.sources, read_one, limit, on_error)
    if not read:
        raise CaromError(f"{name}: none of {len(found.sources)} files can be used: {skipped[0]}")
    rates = Counter(rate for _, (_, rate) in read)
    usual = rates.most_common(1)[0][0]
    if len(rates) > 1:
        remedy = f"Pass sample_rate={usual} and resample=true to convert all."
        raise_all(
            [
                BadInput(source.where, f"is at {rate} Hz where others are at {usual} Hz", remedy)
                for source, (_, rate) in read
                if rate != usual
            ]
        )
    lengths = torch.tensor([len(wave) for _, (wave, _) in read])
    padded = torch.zeros(len(read), int(lengths.max()), dtype=torch.int16)
    for row, (_, (wave, _)) in zip(padded, read, strict=True):
        row[: len(wave)] = wave
    loud = f"clipped {len(clipped)} sounds louder than full scale to it, such as {clipped[0]}" if clipped else ""
    return Dataset(
        name,
        "audio",
        Waveform(sample_rate=usual),
        padded,
        torch.tensor([source.label for source, _ in read]),
        [source.id for source, _ in read],
        found.classes,
        lengths,
        {"split": split, "sample_rate": usual},
        skipped,
        remarks=(*found.remarks, *filter(None, [loud])),
        guessed=found.guessed,
    )


LOSSY = ("MPEG", "VORBIS", "OPUS")
"""Begin the names of formats whose decoded samples overshoot full scale where the master is loud. Players clip them."""

OTHER_UNIT = 16
"""Peak beyond which a sound is not loud, but in another unit: clipping would leave its signs alone."""

MAX_RATE = 1_000_000
BLOCK = 1 << 22  # samples read at once: what is allocated follows what there is, not what a header promises


def read_sound(
    content: Path | bytes,
    where: str,
    max_seconds: float = MAX_SECONDS,
    mono: bool = False,
    clip: bool = False,
    clipped: list[str] | None = None,
) -> tuple[np.ndarray, int]:
    """(float32[L] in [-1, 1], sample rate) of a sound file; `mono` averages its channels.

    MP3, Vorbis and Opus are clipped to [-1, 1] as players do, other formats with `clip`; `clipped` gets the names of
    those that went beyond. Raises BadInput for what is no sound, is empty, truncated or too long, has several channels,
    or holds samples that are not finite or, unless they are clipped, outside [-1, 1].
    """
    import soundfile

    data = content if isinstance(content, bytes) else _bytes_of(content, where)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if not file.frames:
                raise BadInput(where, "holds no samples", "Replace or remove it.")
            if not 1 <= file.samplerate <= MAX_RATE:
                raise BadInput(where, f"says {file.samplerate} Hz", "Replace it: its header is damaged.")
            if file.frames > max_seconds * file.samplerate:
                raise BadInput(
                    where,
                    f"lasts {file.frames / file.samplerate:.0f} s, more than max_seconds={max_seconds:g}",
                    "Cut it, or pass a larger max_seconds.",
                )
            if file.channels != 1 and not mono:
                raise BadInput(where, f"has {file.channels} channels", "Pass mono=true to average them.")
            promised, rate, lossy = file.frames, file.samplerate, file.subtype.startswith(LOSSY)
            wave, block = np.empty(0, np.float32), max(1, BLOCK // file.channels)
            while len(part := file.read(block, dtype="float32", always_2d=True)):
                wave = np.concatenate([wave, part.mean(1, dtype=np.float32)])
    except soundfile.LibsndfileError as error:
        raise BadInput(
            where, f"is not a sound that libsndfile reads to its end ({error.error_string})", "Replace or remove it."
        ) from error
    if len(wave) < promised or _cut_short(data):
        raise BadInput(where, f"is truncated after {len(wave)} samples", "Replace or remove it.")
    if not np.isfinite(wave).all():
        raise BadInput(where, "holds samples that are not finite", "Export it again as 16-bit WAV or FLAC.")
    peak = float(np.abs(wave).max())
    if peak > OTHER_UNIT:
        raise BadInput(
            where,
            f"peaks at {peak:.4g}: its samples are in another unit than -1 to 1",
            "Divide them by the full scale of that unit (32768 for 16 bits) and save it again.",
        )
    if peak > 1:
        if not (lossy or clip):
            remedy = f"Scale it by {1 / peak:.3g} or less and save it again, or pass clip=true to clip what is louder."
            raise BadInput(where, f"peaks at {peak:.3g}, outside [-1, 1]", remedy)
        wave = wave.clip(-1, 1)
        if clipped is not None:
            clipped.append(where)
    return wave, rate


def _bytes_of(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(where, f"cannot be read ({error.strerror})", "Check the path and its permissions.") from error


def _cut_short(data: bytes) -> bool:
    """Whether a WAV promises more bytes than it has; libsndfile reads such files without a word."""
    return (
        data[:4] == b"RIFF"
        and LEAST_RIFF <= int.from_bytes(data[4:8], "little") < STREAMED
        and (int.from_bytes(data[4:8], "little") + 8 > len(data))
    )


LEAST_RIFF, STREAMED = 36, 0xFFFF_0000
"""Sizes in the header of a WAV file that mean something; programs that stream write 0 or the largest."""
