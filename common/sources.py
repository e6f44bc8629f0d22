"""Where examples come from: class folders, and tables of the `datasets` library, with errors that name the file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from carom.common.data import sampling_order
from carom.common.errors import BadInput, CaromError, UnknownName
from carom.common.facts import stated_classes
from carom.common.specs import local_folder


@dataclass(frozen=True)
class Source:
    """One example before it is read."""

    id: str
    label: int
    where: str  # what an error about it names: a path, or a row of a table
    content: Any  # a path, the file itself, or a function that gets one of these

    def fetch(self) -> Any:
        """What is to be read: nothing is fetched before its turn."""
        return self.content() if callable(self.content) else self.content


def class_folders(
    root: Path, split: str, endings: Sequence[str], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Source]]:
    """The files of `root/CLASS/...`, or of `root/SPLIT/CLASS/...` where there is such a folder; ids are their paths
    relative to `root`. Classes are the names of the folders in alphabetical order, or `classes` in theirs.
    """
    inner = root / split
    top = inner if inner.is_dir() and any(p.is_dir() for p in inner.iterdir()) else root
    folders = sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    names = tuple(folders if classes is None else classes)
    for folder in folders:
        if folder not in names:
            raise UnknownName("class", folder, names)
    found, others = [], set()
    for folder in folders:
        for path in sorted((top / folder).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                if path.suffix.lower() in endings:
                    identity = path.relative_to(root).as_posix()
                    found.append(Source(identity, names.index(folder), str(path), path))
                else:
                    others.add(path.suffix or path.name)
    if not found:
        seen = f" It holds files ending in {', '.join(sorted(others))}." if others else ""
        raise CaromError(
            f"{top}: no class folders with files ending in {', '.join(endings)}.{seen} "
            "Lay the files out as FOLDER/CLASS/FILE."
        )
    return names, found


Read = TypeVar("Read")


def read_all(
    sources: Sequence[Source], read: Callable[[Source], Read], limit: int | None, on_error: str
) -> tuple[list[tuple[Source, Read]], tuple[str, ...]]:
    """Read sources until there are `limit`: (what was read, in the sources' order; what was left out and why).

    `on_error` "raise" reads on to name everything that cannot be used, then raises; "skip" leaves it out.
    """
    if on_error not in ("raise", "skip"):
        raise UnknownName("way to treat files that cannot be used", on_error, ("raise", "skip"))
    good: dict[int, Read] = {}
    bad: list[BadInput] = []
    for at in sampling_order([s.id for s in sources], limit).tolist():
        if len(good) == limit:
            break
        try:
            good[at] = read(sources[at])
        except BadInput as error:
            bad.append(error)
    if bad and on_error == "raise":
        raise_all(bad)
    return [(sources[at], good[at]) for at in sorted(good)], tuple(str(error) for error in bad)


LISTED = 10  # errors in one message; the first say what to look for
SKIPPED = '--on-error skip, in a study or from Python on_error = "skip",'


def raise_all(bad: Sequence[BadInput]) -> None:
    """Raise the one error, or one that lists them."""
    if len(bad) == 1:
        raise bad[0]
    listed = [str(error) for error in bad[:LISTED]]
    listed += [f"... and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
    raise CaromError("\n  ".join([f"{len(bad)} inputs cannot be used ({SKIPPED} leaves them out):", *listed]))


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
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "dataset_info.json").exists():
            stored = datasets.load_from_disk(str(folder))
            if isinstance(stored, datasets.DatasetDict):
                if plain not in stored:
                    raise UnknownName(f"split of {folder}", plain, stored)
                stored = stored[plain]
            return _rows(stored, split), split
        with _no_bars():
            if folder.is_dir():
                return _from_folder(folder, split), split
            name, mark, revision = name.partition("@")
            return _from_hub(name, split, revision if mark else None), split
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

    plain = split.partition("[")[0]
    try:
        return datasets.load_dataset(str(folder), split=split)
    except ValueError:
        file = next((found for ending in TABLES if (found := folder / f"{plain}{ending}").is_file()), None)
        if file is None:
            raise
    return datasets.load_dataset(str(folder), data_files={plain: file.name}, split=split)


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


def hub_sources(
    table: Any, name: str, kind: type, facts: Mapping[str, Any], media: str
) -> tuple[tuple[str, ...], list[Source]]:
    """(classes, one Source a row) of a table with one column of `kind` and one of class labels.

    The facts `media` (image, audio) and label name the columns where there are several; the fact `classes` names the
    classes otherwise than the table does.
    """
    import datasets

    column = _column(
        table, facts.get(media), [c for c, f in table.features.items() if isinstance(f, kind)], name, media
    )
    labels = [c for c, f in table.features.items() if isinstance(f, datasets.ClassLabel)]
    label = _column(table, facts.get("label"), labels, name, "label")
    table = table.cast_column(column, kind(decode=False))
    values = table[label][:]
    names = getattr(table.features[label], "names", None) or [str(v) for v in sorted(set(values))]
    if not isinstance(table.features[label], datasets.ClassLabel):
        values = [names.index(str(v)) for v in values]
    stem = name.partition(":")[0].rstrip("/").rpartition("/")[2]
    stated = stated_classes(facts)
    return tuple(names) if stated is None else stated, [
        Source(f"{stem}-{row:06d}", int(value), f"{name} row {row}", partial(_cell, table, column, row))
        for row, value in enumerate(values)
    ]


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
