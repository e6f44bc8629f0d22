"""Rows of a table as a modality: what a row is, which data and models there are, how it is attacked and shown."""

from carom.common.attacks.catalogue.base import attacks_within
from carom.common.attacks.catalogue.gradient import GRADIENT
from carom.common.attacks.catalogue.query import QUERY
from carom.common.attacks.catalogue.trees import EXACT, SOFT
from carom.common.core.metrics import distance
from carom.common.core.threats import L2, Linf
from carom.common.modality.contract import Defaults, Modality
from carom_tables.models import load_model
from carom_tables.rows import CLASSES, load_data, panels

THREATS = {"linf": Linf, "l2": L2}
TREES = (
    "py:carom_tables.models:fitted?kind=forest&name=forest",
    "py:carom_tables.models:fitted?kind=boosted&name=boosted",
)

MODALITY = Modality(
    name="table",
    summary="rows of numbers, each column scaled to [0, 1]",
    attacks=attacks_within(THREATS, GRADIENT, EXACT, SOFT, QUERY),
    recipes={},  # no checkpoint ships
    data={"tumours": f"569 rows of 30 measurements of cell nuclei, {' or '.join(CLASSES)}"},
    threats=THREATS,
    defaults=Defaults(
        data="builtin:tumours",
        sources=TREES,
        targets=(*TREES, "py:carom_tables.models:fitted?kind=logistic&name=logistic"),
        attacks=("leaf-path",),
        eps="0.1",
        threat="linf",
        limit=200,
    ),
    load_model=load_model,
    load_data=load_data,
    panels=panels,
    metrics=(distance("l0", "columns", "number of columns that changed"),),
    scales={"linf": [f"{k / 100:g}" for k in range(1, 51)]},
)
