"""Audio: waveforms, keyword models and data, the SNR threat, and the embedded keyword study."""

from __future__ import annotations

from functools import partial
from importlib.resources import files

from carom.audio.attacks import ATTACKS, THREATS
from carom.audio.data.layout import one_channel, write_wav
from carom.audio.data.load import BUILTIN, load_data
from carom.audio.defences import DEFENCES
from carom.audio.models.load import load_model
from carom.audio.models.zoo import RECIPES
from carom.audio.panels import panels
from carom.audio.space import WAVEFORM
from carom.common.core.metrics import distance
from carom.common.loading.array_files import ENDINGS
from carom.common.loading.arrays import load_arrays
from carom.common.modality.contract import Defaults, Modality
from carom.common.modality.jury import Jury

SOURCES = ("zoo:audio-melcnn", "zoo:audio-gru", "zoo:audio-kwt", "zoo:audio-forest")

MODALITY = Modality(
    name="audio",
    summary="waveforms in [-1, 1), stored as 16 bits",
    attacks=ATTACKS,
    recipes=RECIPES,
    data=BUILTIN,
    threats=THREATS,
    defaults=Defaults(
        data="builtin:keywords",
        sources=SOURCES,
        targets=(*SOURCES, "zoo:audio-m5"),
        attacks=("pgd", "soft-leaf-path"),
        eps="20",
        threat="snr",
        limit=200,
    ),
    load_model=load_model,
    load_data=load_data,
    panels=panels,
    defences=DEFENCES,
    load_log=partial(load_arrays, modality="audio", space=WAVEFORM, layout=one_channel, read=load_data),
    logs=ENDINGS,
    log_folders=True,
    write_example=write_wav,
    metrics=(
        distance("snr_db", "SNR", "energy of the sound over that of the change, dB"),
        distance("linf", "Linf", "largest change of a sample, of 1"),
        distance("l2", "L2", "Euclidean length of the change, samples in [-1, 1)"),
    ),
    scales={
        "snr": [str(60 - decibels) for decibels in range(61)],  # to noise as loud as the sound
        "linf": [f"{k}/32768" for k in sorted({round(2 ** (k / 4)) for k in range(53)})],  # to a quarter of full scale
        "l2": [f"{0.01 * 1.15**k:.3g}" for k in range(60)],
    },
    model_kinds=("torchaudio",),
    jury=Jury(
        adaptive=(("auto?steps=20&targets=4&queries=300", "apgd"), ("leaf-path",), ("soft-leaf-path",)),
        random=(("pgd?steps=40",),),
        query=(("square?queries=1000", "hopskipjump"),),
        transfer=("mi-fgsm", "soft-leaf-path"),
        one_step=("fgsm",),
        many_steps=("pgd?steps=20",),
        longer=("apgd?steps=100&loss=margin",),
        black_box=("square?queries=200",),
    ),
    order=2,
    study=(files(__name__) / "templates" / "study.toml").read_text(encoding="utf-8"),
)
