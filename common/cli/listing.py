"""What `carom list` says. Lists of what is registered are remembered: they import no torch, unless something changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.notices import notice
from carom.common.base.received import read_json
from carom.common.base.requirements import Requirement, Requires
from carom.common.cli.remembered import Memory, Rows
from carom.common.modality.installed import modality_names

COLUMNS = {
    "attacks": ("name", "modality", "needs", "threats", "cost", "paper", "summary"),
    "transforms": ("name", "modality", "needs", "summary"),
    "metrics": ("name", "modality", "summary", "missing"),
    "models": ("name", "modality", "family", "clean_accuracy", "summary"),
    "data": ("name", "modality", "summary"),
    "defences": ("name", "modality", "kind", "adaptation", "cost", "paper", "summary"),
    "runs": ("folder", "finished", "modalities", "seconds"),
}
NONE = {
    "attacks": "no attacks",
    "transforms": "no transforms",
    "metrics": "no metrics",
    "models": "no models",
    "data": "no data",
    "defences": "no defences",
    "runs": "no finished runs below runs/ or in carom-demo/",
}


def registered(what: str, modality: str | None = None) -> Rows:
    """The rows of `carom.common.cli.rows.<what>`, of one modality or all, remembered or computed."""
    if modality is not None and modality not in modality_names():
        raise UnknownName("modality", modality, modality_names())
    memory = Memory()
    if (every := memory.read(what)) is not None:
        return [row for row in every if modality in (None, row["modality"])]
    name = what if modality is None else f"{what} {modality}"
    if (own := memory.read(name)) is not None:
        return own
    found = computed(what, modality)
    if memory.covers(row["card"] for row in found if "card" in row):
        memory.keep(name, found)
    return found


def computed(what: str, modality: str | None = None) -> Rows:
    from carom.common.cli import rows

    return getattr(rows, what)(modality)


def attacks(modality: str | None = None) -> Rows:
    return registered("attacks", modality)


def transforms(modality: str | None = None) -> Rows:
    return registered("transforms", modality)


def metrics(modality: str | None = None) -> Rows:
    """`missing` says why a metric cannot be had here. What a machine has may change from one call to the next."""
    found = registered("metrics", modality)
    for row in found:
        lacking = None if row["needs"] is None else Requires(tuple(Requirement(*one) for one in row["needs"]))()
        if row["needs"] is None or (lacking is None and row["try_out"]):
            found = computed("metrics", modality)
            break
        row["missing"] = lacking
    return [{key: row[key] for key in row if key not in ("needs", "try_out")} for row in found]


def models(modality: str | None = None) -> Rows:
    return [{key: row[key] for key in row if key != "card"} for row in registered("models", modality)]


def data(modality: str | None = None) -> Rows:
    return registered("data", modality)


def defences(modality: str | None = None) -> Rows:
    return registered("defences", modality)


def runs(modality: str | None = None) -> list[dict[str, Any]]:
    """Finished runs below the working directory, newest last."""
    from carom.common.runs.run import load_run

    rows = []
    for path in sorted(Path().glob("*/manifest.json")) + sorted(Path("runs").glob("*/manifest.json")):
        if not (path.parent / "study.json").exists():  # another program's
            continue
        try:
            study, manifest = load_run(path.parent)
        except CaromError as error:
            notice(f"left out: {error}")
            continue
        if modality is None or modality in study.modalities:
            rows.append(
                {
                    "folder": str(path.parent),
                    "finished": manifest["finished"],
                    "modalities": list(study.modalities),
                    "seconds": _seconds(path.parent),
                }
            )
    return rows


def _seconds(folder: Path) -> float | None:
    """How long a run took, as its result says."""
    try:
        seconds = read_json(folder / "result.json")["seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(seconds) if isinstance(seconds, int | float) else None
