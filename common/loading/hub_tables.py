"""Where examples come from: class folders, and tables of the `datasets` library, with errors that name the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import local_folder
from carom.common.loading.class_folders import Labelled, Source
from carom.common.loading.data_folders import check_data_folder, confined
from carom.common.loading.facts import stated_classes
from carom.common.loading.labels import labels_of

TABLES = (".csv", ".jsonl", ".json", ".parquet")
"""Endings of the files that one split of a folder may be."""


def hub_dataset(rest: str, split: str) -> tuple[Any, str]:
    """(the table, its split) of `hf:name[/config]:split[:500]`, `hf:name@revision:split` or a folder on disk.

    A folder is one that `save_to_disk` wrote, or holds files that `load_dataset` reads: a table a split, named after it
    (train.csv, validation_matched.parquet). `hf:glue/sst2` is the data set
    sst2 of glue, or, where there is none, configuration sst2 of the data set glue.
    """
    import datasets

    name, mark, wanted = rest.partition(":")
    split = wanted if mark else split
    folder = local_folder(name, "data") or Path(name)
    plain = split.partition("[")[0]
    if folder.is_dir():
        check_data_folder(folder)
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists():
            stored = datasets.load_from_disk(str(folder))
            if isinstance(stored, datasets.DatasetDict):
                if plain not in stored:
                    raise UnknownName(f"split of {folder}", plain, stored)
                stored = stored[plain]
            return confined(_rows(stored, split), f"hf:{rest}", [folder]), split
        with _no_bars():
            if folder.is_dir():
                own = [folder, Path(datasets.config.EXTRACTED_DATASETS_PATH)]
                return confined(_from_folder(folder, split), f"hf:{rest}", own), split
            name, mark, revision = name.partition("@")
            table = _from_hub(name, split, revision if mark else None)
            return confined(table, f"hf:{rest}", [Path(datasets.config.HF_CACHE_HOME)]), split
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        remedy = "Check the name, the split and the network; write hf:NAME:SPLIT or hf:./folder:SPLIT."
        if folder.is_dir():
            remedy = f"A folder holds a table a split: {folder}/{plain}.csv (or {', '.join(TABLES[1:])})."
        raise CaromError(f"hf:{rest}: {reason}. {remedy}") from error


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars that `datasets` prints, whoever asked for quiet."""
    import datasets

    before = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            datasets.enable_progress_bars()


def _from_folder(folder: Path, split: str) -> Any:
    """`load_dataset` looks for train, validation and test in the names of files. Other splits are the files themselves."""
    import datasets

    plain, offline = split.partition("[")[0], datasets.DownloadConfig(local_files_only=True)
    try:
        return datasets.load_dataset(str(folder), split=split, download_config=offline)
    except ValueError:
        file = next((found for ending in TABLES if (found := folder / f"{plain}{ending}").is_file()), None)
        if file is None:
            raise
    return datasets.load_dataset(str(folder), data_files={plain: file.name}, split=split, download_config=offline)


def _from_hub(name: str, split: str, revision: str | None) -> Any:
    import datasets

    parts = name.split("/")
    if len(parts) == 3:
        return datasets.load_dataset(f"{parts[0]}/{parts[1]}", parts[2], split=split, revision=revision)
    try:
        return datasets.load_dataset(name, split=split, revision=revision)
    except FileNotFoundError:
        if len(parts) != 2:
            raise
    return datasets.load_dataset(parts[0], parts[1], split=split, revision=revision)


def _rows(table: Any, split: str) -> Any:
    """The rows that split[a:b] asks for."""
    _, mark, bounds = split.partition("[")
    if not mark:
        return table
    start, colon, stop = bounds.rstrip("]").partition(":")
    if not colon or not all(part.strip().isdigit() or not part.strip() for part in (start, stop)):
        raise CaromError(f"{split!r}: write rows as split[:500] or split[100:200].")
    return table.select(range(*slice(int(start or 0), int(stop) if stop else None).indices(len(table))))


def hub_sources(table: Any, name: str, kind: type, facts: Mapping[str, Any], media: str) -> Labelled:
    """One Source a row of a table with one column of `kind` and one of class labels.

    The facts `media` (image, audio) and label name the columns where there are several; among the fact `classes` each
    of the table's own classes finds its place by name, or by number where they have none.
    """
    import datasets

    column = _column(
        table, facts.get(media), [c for c, f in table.features.items() if isinstance(f, kind)], name, media
    )
    known = [c for c, f in table.features.items() if isinstance(f, datasets.ClassLabel)]
    label = _column(table, facts.get("label"), known, name, "label")
    table = table.cast_column(column, kind(decode=False))
    values = table[label][:]
    labels = labels_of(values, stated_classes(facts), f"{name}, column {label}", own_names(table, label))
    stem = name.partition(":")[0].rstrip("/").rpartition("/")[2]
    sources = []
    for row, (value, at) in enumerate(zip(values, labels.rows, strict=True)):
        where = f"{name} row {row}"
        fetch = partial(_cell, table, column, row) if at is not None else partial(labels.refuse, where, value)
        sources.append(Source(f"{stem}-{row:06d}", at or 0, where, fetch))
    return Labelled(labels.classes, sources, labels.guessed)


def own_names(table: Any, column: str) -> tuple[str, ...] | None:
    """The names that a table has for the class numbers in a column; None where it has none."""
    return getattr(table.features[column], "names", None)


def _cell(table: Any, column: str, row: int) -> Path | bytes:
    cell = table[row][column]
    return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])


def _column(table: Any, asked: str | None, found: Iterable[str], name: str, what: str) -> str:
    found = list(found)
    if asked is not None:
        if asked not in table.features:
            raise UnknownName(f"column of {name}", asked, table.features)
        return asked
    if len(found) != 1:
        raise CaromError(
            f"{name}: {len(found)} columns could be the {what}. Name one of {', '.join(table.features)}: {what}=COLUMN."
        )
    return found[0]
