"""Text data: the built-in reviews, tables (CSV, TSV, JSONL), folders of text files, and Hugging Face's data sets.

Files are read strictly: what is not UTF-8, empty, enormous or without a label is an error that names file and line.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from carom.common.data import Dataset
from carom.common.errors import BadInput, CaromError, UnknownName
from carom.common.loading import class_names, known_facts
from carom.common.sources import Source, class_folders, hub_dataset, read_all
from carom.common.specs import existing, parse
from carom.text import reviews
from carom.text.space import Words

BUILTIN = {
    "rotten-tomatoes": "1 000 test sentences from film reviews, negative or positive (and 6 930 for training)",
    "imdb": "2 000 test film reviews of up to 2 000 words, negative or positive (and more for training)",
}
MAX_CHARACTERS = 200_000
MAX_CLASSES = 10_000
TEXT_COLUMNS = ("text", "sentence", "review", "content")
LABEL_COLUMNS = ("label", "labels", "class", "category", "sentiment")
TABLES = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None}


def load_data(
    spec: str, *, split: str = "test", limit: int | None = None, on_error: str = "raise", **facts: Any
) -> Dataset:
    """Labelled texts from `builtin:NAME`, `folder:PATH` or `hf:name[/config]:split[:500]`.

    `folder:` takes a CSV, TSV or JSONL file, a folder that holds SPLIT.csv (or .tsv, .jsonl), or one of class folders
    of .txt files. Facts, as keywords or as parameters of the spec: the columns `text` and `label`, found by their usual
    names otherwise; `classes` in the order of the models. Labels are class numbers or class names; without `classes`,
    names are put in alphabetical order.

    Raises BadInput for a text that cannot be used, and one error that names all where there are several; with
    `on_error="skip"` they are left out and listed in `Dataset.skipped`.
    """
    source = parse(spec, tuple(_LOADERS))
    facts = {**source.parameters, **facts}
    return _LOADERS[source.kind](source.rest, split, limit, on_error, facts)


@dataclass(frozen=True)
class Row:
    """One line of a table, before anything in it is believed."""

    where: str  # what an error about it names
    text: Any
    label: Any


def _builtin(name: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    if name not in BUILTIN:
        raise UnknownName("built-in text data", name, BUILTIN)
    known_facts(facts, (), f"builtin:{name}")
    texts, labels, ids = reviews.load(name, split)
    return _dataset(f"builtin:{name}", split, texts, labels.tolist(), ids, reviews.CLASSES).sample(limit)


def _folder(path: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    known_facts(facts, ("text", "label", "classes"), f"folder:{path}")
    found = existing(path, "file or folder")
    names = class_names(facts["classes"]) if "classes" in facts else None
    table = (
        next((t for ending in TABLES if (t := found / f"{split}{ending}").is_file()), None) if found.is_dir() else found
    )
    if table is None:
        classes, sources = class_folders(found, split, (".txt",), names)
    else:
        classes, sources = _labelled(list(_read_table(table, facts)), table.stem, str(table), names, on_error)
    return _read(f"folder:{path}", split, classes, sources, limit, on_error)


def _hub(rest: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    import datasets

    known_facts(facts, ("text", "label", "classes"), f"hf:{rest}")
    table, split = hub_dataset(rest, split)
    label = _column(table.column_names, facts.get("label"), LABEL_COLUMNS, "label", f"hf:{rest}")
    text = _column(table.column_names, facts.get("text"), TEXT_COLUMNS, "text", f"hf:{rest}")
    kind = table.features[label]
    names = class_names(facts["classes"]) if "classes" in facts else None
    if names is None and isinstance(kind, datasets.ClassLabel):
        names = tuple(kind.names)
    pairs = zip(table[text], table[label], strict=True)
    rows = [Row(f"hf:{rest} row {number}", *pair) for number, pair in enumerate(pairs)]
    stem = rest.partition(":")[0].rstrip("/").rpartition("/")[2]
    classes, sources = _labelled(rows, stem, f"hf:{rest}", names, on_error)
    return _read(f"hf:{rest}", split, classes, sources, limit, on_error)


def _read_table(path: Path, facts: Mapping[str, Any]) -> Iterator[Row]:
    if path.suffix.lower() not in TABLES:
        raise CaromError(
            f"{path}: give a table that ends in {', '.join(TABLES)}, or a folder of class folders of .txt files."
        )
    content = _decode(path)
    lines = _json_lines(path, content) if TABLES[path.suffix.lower()] is None else _separated(path, content)
    text = label = ""
    for number, row in lines:
        if not text:
            text = _column(row, facts.get("text"), TEXT_COLUMNS, "text", str(path))
            label = _column(row, facts.get("label"), LABEL_COLUMNS, "label", str(path))
        yield Row(f"{path}, line {number}", row.get(text), row.get(label))


def _decode(path: Path) -> str:
    """The file as text; a byte order mark is dropped."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "Check its permissions.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path}, line {line}", f"byte 0x{data[error.start]:02x} is not UTF-8", "Save the file as UTF-8."
        ) from error


def _separated(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a CSV or TSV file with a header."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=TABLES[path.suffix.lower()] or ",", strict=True)
    before = csv.field_size_limit(len(content) + 1)  # a field too long for us is refused by its row, not by the reader
    header: list[str] = []
    try:
        for row in reader:
            if not header:
                header = row
            elif len(row) != len(header) and row:
                raise BadInput(
                    f"{path}, line {reader.line_num}",
                    f"{len(row)} fields where the header has {len(header)}",
                    "Put fields that hold separators or line breaks in double quotes.",
                )
            elif row:
                yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}", str(error), "Correct the quotes.") from error
    finally:
        csv.field_size_limit(before)


def _json_lines(path: Path, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of a file with one JSON object a line."""
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}, line {number}", f"not JSON ({error})", "Write one object a line.") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path}, line {number}", f"a JSON {type(row).__name__}", "Write one object a line.")
        yield number, row


def _column(columns: Iterable[str], asked: str | None, usual: Sequence[str], what: str, where: str) -> str:
    columns = list(columns)
    if asked is not None:
        if asked not in columns:
            raise UnknownName(f"column of {where}", asked, columns)
        return asked
    for name in usual:
        for column in columns:
            if column.strip().lower() == name:
                return column
    raise CaromError(f"{where}: which column holds the {what}? Pass {what}= one of {', '.join(columns)}.")


def _labelled(
    rows: Sequence[Row], stem: str, where: str, names: Sequence[str] | None, on_error: str
) -> tuple[tuple[str, ...], list[Source]]:
    """(classes, one Source a row). A label that cannot be understood is left to the reader of its row to refuse."""
    given = [_plain(row.label) for row in rows]
    if names is None:
        stated = [label for label in given if label is not None]
        numbers = [label for label in stated if isinstance(label, int)]
        if len(numbers) == len(stated):
            names = [str(number) for number in range(min(max(numbers, default=-1), MAX_CLASSES) + 1)]
        else:
            names = sorted({str(label) for label in stated})
        if len(names) > MAX_CLASSES:
            raise CaromError(f"{where}: more than {MAX_CLASSES} classes. Which column holds the label? Pass label=.")
    places = {name: place for place, name in enumerate(names)}
    sources = []
    for number, (row, label) in enumerate(zip(rows, given, strict=True)):
        at = places.get(str(label), label if isinstance(label, int) and 0 <= label < len(names) else None)
        content = row.text if at is not None else _Unlabelled(row.label, tuple(names))
        sources.append(Source(f"{stem}-{number:06d}", at or 0, row.where, content))
    return tuple(names), sources


def _plain(label: Any) -> int | str | None:
    """A label as a class number or name; None if there is none."""
    if isinstance(label, bool | int):
        return int(label)
    if isinstance(label, float) and label.is_integer():
        return int(label)
    if not isinstance(label, str) or not label.strip():
        return None
    label = label.strip()
    return int(label) if label.lstrip("-").isdecimal() and label.isascii() else label


@dataclass(frozen=True)
class _Unlabelled:
    """In place of a text whose label is of no use."""

    label: Any
    classes: tuple[str, ...]


def read_text(source: Source) -> str:
    """The text of a source, if it can be used. Raises BadInput."""
    text = _decode(source.content) if isinstance(source.content, Path) else source.content
    if isinstance(text, _Unlabelled):
        known = ", ".join(text.classes[:5]) + (", ..." if len(text.classes) > 5 else "")
        raise BadInput(source.where, f"label {text.label!r} is no class of {known}", "Correct the label, or classes=.")
    if not isinstance(text, str):
        raise BadInput(source.where, f"holds a {type(text).__name__}, not a text", "Check which column holds the text.")
    if not text.strip():
        raise BadInput(source.where, "the text is empty", "Remove the row.")
    if len(text) > MAX_CHARACTERS:
        raise BadInput(
            source.where, f"{len(text)} characters, more than {MAX_CHARACTERS}", "Split the text into shorter ones."
        )
    if "\0" in text:
        raise BadInput(source.where, "holds a NUL character", "Remove it; a file in UTF-16 must be saved as UTF-8.")
    if Words().clamp([text]) != [text]:
        raise BadInput(source.where, "holds half of a surrogate pair", "Save the text with whole characters.")
    return text


def _read(
    name: str, split: str, classes: Sequence[str], sources: Sequence[Source], limit: int | None, on_error: str
) -> Dataset:
    read, skipped = read_all(sources, read_text, limit, on_error)
    texts, labels, ids = [t for _, t in read], [s.label for s, _ in read], [s.id for s, _ in read]
    return _dataset(name, split, texts, labels, ids, classes, skipped)


def _dataset(
    name: str,
    split: str,
    texts: list[str],
    labels: Sequence[int],
    ids: Sequence[str],
    classes: Sequence[str],
    skipped: tuple[str, ...] = (),
) -> Dataset:
    numbers = torch.tensor(labels, dtype=torch.long)
    facts: dict[str, object] = {"split": split}
    return Dataset(name, "text", Words(), texts, numbers, ids, tuple(classes), facts=facts, skipped=skipped)


_LOADERS = {"builtin": _builtin, "folder": _folder, "hf": _hub}
