"""Boosted trees by what they are given as: a file of one of three libraries, or a fitted object."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.received import json_of
from carom.common.base.specs import existing
from carom.common.loading.boosters import catboost_trees, lightgbm_trees, xgboost_trees
from carom.common.loading.boosters.estimator import BoostedTrees
from carom.common.loading.boosters.ubjson import ubjson_of
from carom.common.loading.weights import refuse_pickle

SAVE = {
    "xgboost": "model.save_model('name.json'), or 'name.ubj'",
    "lightgbm": "model.booster_.save_model('name.txt')",
    "catboost": "model.save_model('name.cbm'), or ('name.json', format='json')",
}
"""How each library writes a file that can be read: kinds of spec."""

LARGEST = 512 << 20
"""Bytes of a file."""

SECONDS = 120


def load_boosted(kind: str, path: str) -> BoostedTrees:
    """Trees from a file of the library that `kind` names. Its content is checked before the library sees any of it."""
    remedy = f"Save the fitted model with {SAVE[kind]}."
    refuse_pickle(path, remedy)
    found = existing(path, f"file of {kind}'s")
    if importlib.util.find_spec(kind) is None:
        raise CaromError(f"{found} needs {kind}: pip install 'carom[boosting]'")
    try:
        if not found.is_file() or found.stat().st_size > LARGEST:
            raise ValueError(f"no file of at most {LARGEST >> 20} MB")
        return READERS[kind](found, str(found))
    except CaromError:
        raise
    except Exception as error:  # of many types: a file of another structure fails at any step of reading it
        why = str(error).strip().splitlines() or [""]
        raise CaromError(
            f"{found}: not a model of {kind}'s that can be read ({type(error).__name__}: {why[0]:.200}). {remedy}"
        ) from error


def _xgboost(path: Path, who: str) -> BoostedTrees:
    data = path.read_bytes()
    # Both begin with a brace: behind it a JSON text has a quotation mark, UBJSON the length of a name.
    text = data[:1] == b"{" and data[1:].lstrip()[:1] in (b'"', b"}")
    return xgboost_trees.of_content(json_of(data) if text else ubjson_of(data), who)


def _lightgbm(path: Path, who: str) -> BoostedTrees:
    return lightgbm_trees.of_content(path.read_text(encoding="utf-8"), who)


def _catboost(path: Path, who: str) -> BoostedTrees:
    data = path.read_bytes()
    return catboost_trees.of_content(json_of(_as_json(path) if data[:4] == b"CBM1" else data), who)


AS_JSON = """
import sys, catboost
model = catboost.CatBoost()
model.load_model(sys.argv[1], format="cbm")
model.save_model(sys.argv[2], format="json")
"""


def _as_json(path: Path) -> bytes:
    """A cbm file as JSON, by CatBoost in a process of its own, which a damaged file can bring down."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "model.json")
        command = [sys.executable, "-c", AS_JSON, str(path.resolve()), str(out)]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"CatBoost had not read it after {SECONDS} seconds") from None
        if done.returncode or not out.exists():
            raise ValueError("CatBoost cannot read it")
        return out.read_bytes()


READERS: dict[str, Callable[[Path, str], BoostedTrees]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}

OBJECTS: dict[tuple[str, str], Callable[[Any, str], BoostedTrees]] = {
    ("xgboost", "XGBClassifier"): xgboost_trees.of_classifier,
    ("xgboost", "XGBRFClassifier"): xgboost_trees.of_classifier,
    ("xgboost", "Booster"): xgboost_trees.of_booster,
    ("lightgbm", "LGBMClassifier"): lightgbm_trees.of_classifier,
    ("lightgbm", "Booster"): lightgbm_trees.of_booster,
    ("catboost", "CatBoostClassifier"): catboost_trees.of_classifier,
}
"""(package, class) -> how its trees are read."""


def boosted_of(thing: Any) -> BoostedTrees | None:
    """The trees of a fitted object of one of the libraries; None for any other, and for one that is not fitted."""
    kind = type(thing)
    read = OBJECTS.get((kind.__module__.partition(".")[0], kind.__name__))
    if read is None or (kind.__name__ != "Booster" and not _fitted(thing)):
        return None
    return read(thing, kind.__name__)


def _fitted(estimator: Any) -> bool:
    """Whether an estimator has been: some of the three have no classes before, others have none of their trees."""
    if callable(told := getattr(estimator, "__sklearn_is_fitted__", None) or getattr(estimator, "is_fitted", None)):
        return bool(told())
    return hasattr(estimator, "classes_")
