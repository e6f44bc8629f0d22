"""Text data: the built-in reviews, tables (CSV, TSV, JSONL, Parquet), folders of text files, Hugging Face's data sets.

Files are read strictly: what is not UTF-8, empty, enormous or without a label is an error that names file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.files import readable
from carom.common.base.parameters import flag
from carom.common.base.specs import existing, parse
from carom.common.core.class_names import lookalikes
from carom.common.core.data import Dataset
from carom.common.loading.class_folders import Labelled, Source, check_links, class_folders, read_all
from carom.common.loading.facts import known_facts, stated_classes
from carom.common.loading.hub_tables import hub_dataset, own_names
from carom.common.loading.labels import labels_of
from carom.text.data.tables import ENDINGS, Table, is_table, read_text_file
from carom.text.language import reviews
from carom.text.pairs import SEPARATORS, is_pair, join
from carom.text.space import Words

BUILTIN = {
    "rotten-tomatoes": "1 000 test sentences from film reviews, negative or positive (and 6 930 for training)",
    "imdb": "2 000 test film reviews of up to 2 000 words, negative or positive (and more for training)",
}
MAX_CHARACTERS = 200_000
TEXT_COLUMNS = ("text", "sentence", "review", "content")
LABEL_COLUMNS = ("label", "labels", "class", "category", "sentiment")
PAIR_COLUMNS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
)
FACTS = ("text", "second", "label", "classes", "change")


def load_data(
    spec: str, *, split: str = "test", limit: int | None = None, on_error: str = "raise", **facts: Any
) -> Dataset:
    """Labelled texts from `builtin:NAME`, `folder:PATH` or `hf:name[/config]:split[:500]`.

    `folder:` takes a CSV, TSV, JSONL or Parquet file, a folder that holds SPLIT.csv (or .tsv ...), or one of class
    folders of .txt files. Facts, as keywords or as parameters of the spec: the columns `text` and `label`, found by
    their usual names otherwise; `classes` in the order of the models. Labels are class numbers or class names, which find
    their place among `classes` by name; without `classes`, names are put in alphabetical order.

    Pairs of texts (`carom.text.pairs`) are what two columns hold: `text` and `second`, or, where neither is named,
    columns that are called like a pair (premise and hypothesis, sentence1 and sentence2 ...). `change` says which side
    may be changed: "second" (the default), "first", or the name of its column. With `text` alone, that column is a
    single text.

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
    text: Any  # of a pair, an `Unjoined`
    label: Any


@dataclass(frozen=True)
class Unjoined:
    """Both texts of a pair, before they are believed."""

    first: Any
    second: Any
    change: str


@dataclass(frozen=True)
class Columns:
    """Which columns hold what."""

    text: str
    second: str | None  # of pairs
    change: str  # the side of a pair that may be changed
    label: str

    @classmethod
    def of(cls, names: Iterable[str], facts: Mapping[str, Any], where: str) -> Columns:
        names = list(names)
        texts = text_columns(names, facts, where)
        return cls(*texts, find_column(names, facts.get("label"), LABEL_COLUMNS, "label", where))

    @property
    def used(self) -> list[str]:
        return [name for name in (self.text, self.second, self.label) if name is not None]

    def row(self, where: str, values: Mapping[str, Any]) -> Row:
        text = values.get(self.text)
        if self.second is not None:
            text = Unjoined(text, values.get(self.second), self.change)
        return Row(where, text, values.get(self.label))


def text_columns(names: Iterable[str], facts: Mapping[str, Any], where: str) -> tuple[str, str | None, str]:
    """(column of the text or of the first of a pair, column of the second, the side that may be changed)."""
    names = list(names)
    folded = {name.strip().lower(): name for name in reversed(names)}
    second = facts.get("second")
    pair = next(((folded[a], folded[b]) for a, b in PAIR_COLUMNS if a in folded and b in folded), None)
    if "text" not in facts and second is None and pair is not None:
        text, second = pair
    else:
        text = find_column(names, facts.get("text"), TEXT_COLUMNS, "text", where)
        if second is not None:
            second = find_column(names, second, (), "second text", where)
    change = facts.get("change", "second")
    if second is None and "change" in facts:
        raise CaromError(f"{where}: change={change} is about pairs, and this is one text: name the other with second=.")
    change = {text: "first", second: "second"}.get(change, change)
    if change not in SEPARATORS:
        raise UnknownName(f"side of the pairs of {where}", str(change), (*SEPARATORS, text, str(second)))
    return text, second, change


def _builtin(name: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    if name not in BUILTIN:
        raise UnknownName("built-in text data", name, BUILTIN)
    known_facts(facts, (), f"builtin:{name}")
    texts, labels, ids = reviews.load(name, split)
    return _dataset(f"builtin:{name}", split, texts, labels.tolist(), ids, reviews.CLASSES).sample(limit)


def _folder(path: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    known_facts(facts, (*FACTS, "links"), f"folder:{path}")
    links = flag(facts, "links", f"folder:{path}")
    found = existing(path, "file or folder")
    names = stated_classes(facts)
    file = next((t for ending in ENDINGS if (t := found / f"{split}{ending}").is_file()), None)
    file = file if found.is_dir() else found
    if file is None:
        tables = [one.stem for one in sorted(found.iterdir()) if is_table(one) and one.is_file()]
        if tables:
            there = ", ".join(dict.fromkeys(map(readable, tables)))
            raise CaromError(
                f"{found}: it holds no table of split {split!r}, but of {there}. Name the one that is meant: "
                f"--split {readable(tables[0])}."
            )
        return _read(f"folder:{path}", split, class_folders(found, split, (".txt",), names, links), limit, on_error)
    if not is_table(file):
        raise CaromError(f"{file}: give a table that ends in {', '.join(ENDINGS)}, or class folders of .txt files.")
    if found.is_dir() and not links:
        check_links(found, [file])
    table = Table(file)
    columns, rows = None, []
    if header := table.columns():
        columns = Columns.of(header, facts, str(file))
        rows = [columns.row(*row) for row in table.rows(columns.used)]
    return _read(f"folder:{path}", split, _labelled(rows, file.stem, str(file), names), limit, on_error, columns)


def _hub(rest: str, split: str, limit: int | None, on_error: str, facts: Mapping[str, Any]) -> Dataset:
    known_facts(facts, FACTS, f"hf:{rest}")
    table, split = hub_dataset(rest, split)
    columns = Columns.of(table.column_names, facts, f"hf:{rest}")
    used = table.select_columns(columns.used)
    rows = [columns.row(f"hf:{rest} row {number}", row) for number, row in enumerate(used)]
    stem = rest.partition(":")[0].rstrip("/").rpartition("/")[2]
    found = _labelled(rows, stem, f"hf:{rest}", stated_classes(facts), own_names(table, columns.label))
    return _read(f"hf:{rest}", split, found, limit, on_error, columns)


def find_column(columns: Iterable[str], asked: str | None, usual: Sequence[str], what: str, where: str) -> str:
    """The column asked for, or the first of the usual names that there is."""
    columns = list(columns)
    if asked is not None:
        if asked not in columns:
            raise UnknownName(f"column of {where}", asked, columns)
        return asked
    for name in usual:
        for column in columns:
            if column.strip().lower() == name:
                return column
    name = "second" if what == "second text" else what
    raise CaromError(
        f"{where}: which column holds the {what}? Pass {name}= one of {', '.join(columns)} "
        f"({name} = in a study or from Python, ?{name}= behind the path in a spec). These are the words of the first line, "
        "which has to name the columns."
    )


def _labelled(
    rows: Sequence[Row], stem: str, where: str, stated: Sequence[str] | None, known: Sequence[str] | None = None
) -> Labelled:
    """One Source a row. A label that cannot be understood is left to the reader of its row to refuse."""
    labels = labels_of([row.label for row in rows], stated, where, known)
    sources = []
    for number, (row, at) in enumerate(zip(rows, labels.rows, strict=True)):
        content = row.text if at is not None else partial(labels.refuse, row.where, row.label)
        sources.append(Source(f"{stem}-{number:06d}", at or 0, row.where, content))
    remarks = lookalikes(labels.classes) if stated is None and known is None else ()
    return Labelled(labels.classes, sources, labels.guessed, remarks)


def label_number(label: Any, classes: Sequence[str]) -> int | None:
    """The class that a label names or numbers; None if it is none of them."""
    try:
        return labels_of([label], classes, "label").rows[0]
    except CaromError:
        return None


def read_text(source: Source) -> str:
    """The text of a source, or its pair as one text, if it can be used. Raises BadInput."""
    content = source.fetch()
    text = read_text_file(content) if isinstance(content, Path) else content
    if isinstance(text, Unjoined):
        first = usable_text(text.first, f"{source.where}, first text")
        return join(first, usable_text(text.second, f"{source.where}, second text"), text.change)
    return usable_text(text, source.where)


def usable_text(text: Any, where: str) -> str:
    """A text, if it can be used. Raises BadInput."""
    if not isinstance(text, str):
        raise BadInput(where, f"holds a {type(text).__name__}, not a text", "Check which column holds the text.")
    if not text.strip():
        raise BadInput(where, "the text is empty", "Remove the row.")
    if len(text) > MAX_CHARACTERS:
        raise BadInput(
            where, f"{len(text)} characters, more than {MAX_CHARACTERS}", "Split the text into shorter ones."
        )
    if "\0" in text:
        raise BadInput(where, "holds a NUL character", "Remove it; a file in UTF-16 must be saved as UTF-8.")
    if Words().clamp([text]) != [text]:
        raise BadInput(where, "holds half of a surrogate pair", "Save the text with whole characters.")
    if is_pair(text):
        raise BadInput(where, "holds U+001E or U+001F, which separate the texts of a pair", "Remove it.")
    return text


def _read(
    name: str,
    split: str,
    found: Labelled,
    limit: int | None,
    on_error: str,
    columns: Columns | None = None,
) -> Dataset:
    read, skipped = read_all(found.sources, read_text, limit, on_error)
    texts, labels, ids = [t for _, t in read], [s.label for s, _ in read], [s.id for s, _ in read]
    data = _dataset(name, split, texts, labels, ids, found.classes, skipped, columns)
    return replace(data, remarks=found.remarks, guessed=found.guessed)


def _dataset(
    name: str,
    split: str,
    texts: list[str],
    labels: Sequence[int],
    ids: Sequence[str],
    classes: Sequence[str],
    skipped: tuple[str, ...] = (),
    columns: Columns | None = None,
) -> Dataset:
    numbers = torch.tensor(labels, dtype=torch.long)
    facts: dict[str, object] = {"split": split}
    pairs = columns is not None and columns.second is not None
    if columns is not None and pairs:
        facts |= {"first": columns.text, "second": columns.second, "change": columns.change}
    return Dataset(name, "text", Words(pairs=pairs), texts, numbers, ids, tuple(classes), facts=facts, skipped=skipped)


_LOADERS = {"builtin": _builtin, "folder": _folder, "hf": _hub}
