"""Texts: words exchanged for synonyms or misspellings, text models and data, and the embedded film-review study."""

from __future__ import annotations

from importlib.resources import files

from carom.common.core.batch import Access
from carom.common.modality.contract import Defaults, Modality
from carom.common.modality.jury import Jury
from carom.text.attacks import ATTACKS, THREATS
from carom.text.augment import augment_file
from carom.text.data.load import BUILTIN, load_data
from carom.text.data.logs import LOGS, load_log
from carom.text.data.tables import write_text
from carom.text.defences import DEFENCES
from carom.text.models.load import load_model
from carom.text.models.zoo import RECIPES
from carom.text.panels import panels
from carom.text.quality import METRICS
from carom.text.textattack.bridge import KINDS

SOURCES = ("zoo:text-cnn", "zoo:text-bilstm", "zoo:text-transformer", "zoo:text-forest")

MODALITY = Modality(
    name="text",
    summary="texts, stored as they are",
    attacks=ATTACKS,
    recipes=RECIPES,
    data=BUILTIN,
    threats=THREATS,
    defaults=Defaults(
        data="builtin:rotten-tomatoes",
        sources=SOURCES,
        targets=(*SOURCES, "zoo:text-linear"),
        attacks=("textbugger?until=0.3",),
        eps="0.5",
        threat="words",
        limit=256,
    ),
    load_model=load_model,
    load_data=load_data,
    panels=panels,
    defences=DEFENCES,
    metrics=METRICS,
    augment=augment_file,
    attack_kinds=KINDS,
    load_log=load_log,
    logs=LOGS,
    write_example=write_text,
    scales={"words": [f"{k / 50:g}" for k in range(1, 26)]},  # to half of the words: beyond, it is another sentence
    jury=Jury(
        # Each has its own words to choose from: what stands is what stands before all of them.
        adaptive=(("textbugger", "leap"), ("pwws",), ("deepwordbug",), ("greedy-unk",), ("beam?width=4",)),
        transfer=("textbugger?until=0.3",),
        counts=Access.LABEL | Access.SCORE | Access.GRADIENT,
    ),
    order=3,
    study=(files(__name__) / "templates" / "study.toml").read_text(encoding="utf-8"),
)
