"""What other tools crafted: TextAttack's CSV logs, OpenAttack's results, and any table of original and changed texts.

* TextAttack (`textattack attack --log-to-csv`, 2020 to 0.3.11): `original_text`, `perturbed_text`,
  `ground_truth_output`, `original_output`, `perturbed_output`, `num_queries`, `result_type`. Words that differ stand in
  brackets, [[so]], in terminal colours or in `<font>` tags; all of these marks are taken off.
* OpenAttack: the CSV of `AttackEval.eval(save_dir=...)` with `origin` and `attack`, empty where the attack failed, and
  without labels, which `data` has to give; or what `AttackEval.ieval` yields, as JSON lines or one JSON list:
  {"data": {"x", "y"}, "success", "result", "metrics"}.
* Any other CSV, TSV or JSONL: name its columns with `original`, `perturbed` and `label`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.specs import existing
from carom.common.core.adversarial_set import AdversarialSet
from carom.common.core.class_names import in_order
from carom.common.core.data import Dataset
from carom.common.core.problem import Cost, Status
from carom.common.loading.class_folders import Source, read_all
from carom.common.loading.facts import class_names
from carom.common.loading.labels import MAX_CLASSES, plain_label
from carom.text.candidates.base import Candidates, Union, options_of
from carom.text.candidates.characters import CharacterEdits
from carom.text.candidates.neighbours import Neighbours
from carom.text.candidates.synonyms import WordNet
from carom.text.data.load import find_column, read_text
from carom.text.data.tables import Table, read_text_file
from carom.text.language.wordnet import parts_of_speech
from carom.text.space import Words, changes
from carom.text.threats import AnyWords
from carom.text.words import STOP_WORDS, edits

LOGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")

NOISES: dict[str, Candidates] = {
    "synonyms": WordNet(),
    "misspellings": CharacterEdits(),
    "neighbours": Neighbours(),
    "mixed": Union((WordNet(), CharacterEdits())),
}
"""What the controls of a log may be drawn from."""

SPLITS = ("<SPLIT>", ">>>>")  # stand for line breaks in TextAttack's CSV files, and in those of 2020
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m|</font>|<font color = \w+>")
_BRACKETS = re.compile(r"\[\[((?:(?!\[\[|\]\])\S)+)\]\]")
_FIELD = re.compile(r"\[\[\[\[(\w+)\]\]\]\]: ")  # TextAttack's heading of one of several texts


@dataclass(frozen=True)
class Pair:
    """One row of a log, before anything in it is believed."""

    clean: Any
    changed: Any  # None: the attack found nothing
    label: Any
    said: tuple[Any, Any] | None = None  # by the source, to the one and to the other
    fooled: bool | None = None
    queries: Any = None


def load_log(
    path: Path,
    *,
    classes: Sequence[str] | str | None = None,
    data: Dataset | None = None,
    original: str | None = None,
    perturbed: str | None = None,
    label: str | None = None,
    noise: str | None = None,
    on_error: str = "raise",
) -> AdversarialSet:
    """The texts of a log with their labels and, where it has them, the source's answers and queries.

    `classes` in the order of the models; by default those of `data`, else as many as the labels need. `data` gives the
    label of rows that have none, by their text. `original`, `perturbed` and `label` name columns that are not called
    as above. `noise` is what controls are drawn from (`NOISES`); by default misspellings where most changed words are
    misspelt, else synonyms. Raises BadInput for a row that cannot be used; `on_error="skip"` leaves it out and names it
    in `clean.skipped`.
    """
    path = existing(path, "log")
    if noise is not None and noise not in NOISES:
        raise UnknownName("noise", noise, NOISES)
    pairs = list(_pairs(path, {"original": original, "perturbed": perturbed, "label": label}))
    by_text = {} if data is None else dict(zip(data.stored, data.labels.tolist(), strict=True))
    lost = [where for where, pair in pairs if plain_label(pair.label) is None and str(pair.clean) not in by_text]
    if lost and (on_error == "raise" or len(lost) == len(pairs)):
        looked = "" if data is None else f" and {data.name} no such text"
        remedy = "Pass --label NAME, or --data (and --split) with the same texts."
        raise BadInput(lost[0], f"no label{looked}, as in {len(lost)} of {len(pairs)} rows", remedy)
    names = _classes(classes, data, [pair for _, pair in pairs])
    sources = [Source(f"{path.stem}-{n:06d}", 0, where, pair) for n, (where, pair) in enumerate(pairs)]
    read, skipped = read_all(sources, partial(_read, names=names, by_text=by_text), None, on_error)
    rows: list[Pair] = [row for _, row in read]
    labels = torch.tensor([row.label for row in rows], dtype=torch.long)
    ids = [source.id for source, _ in read]
    clean = Dataset(path.name, "text", Words(), [r.clean for r in rows], labels, ids, names, skipped=skipped)
    answers = None
    if all(row.said is not None for row in rows):
        answers = tuple(torch.tensor(column) for column in zip(*(row.said for row in rows if row.said), strict=True))
    told = [row.fooled if row.said is None else row.said[1] != row.label for row in rows]
    chosen = noise or _noise(rows)
    queries = torch.tensor([row.queries or 0 for row in rows], dtype=torch.long)
    lacking = [_lacks(NOISES[chosen], row.changed, row.clean) for row in rows]
    return AdversarialSet(
        source=path.name,
        attack=f"log of {path.stem}",
        threat=f"words as recorded, {chosen} as control",
        modality="text",
        stored=[row.changed for row in rows],
        labels=labels,
        ids=ids,
        success=torch.tensor([bool(one) for one in told]),
        status=torch.full((len(rows),), int(Status.DONE)),
        cost=Cost(torch.zeros_like(queries), torch.zeros_like(queries), queries),
        clean=clean,
        answers=answers,  # type: ignore[arg-type]
        budget=AnyWords(1.0, NOISES[chosen]),
        notes={f"hold words that are none of the control's {chosen}": torch.tensor(lacking)},
    )


def plain(text: str) -> str:
    """A text of a TextAttack log without its marks, and with its line breaks."""
    text = _BRACKETS.sub(r"\1", _COLOURS.sub("", text))
    for split in SPLITS:
        text = text.replace(split, "\n")
    return text


def _pairs(path: Path, columns: Mapping[str, str | None]) -> Iterator[tuple[str, Pair]]:
    """(where, row) of every row, whichever tool wrote it."""
    for where, row in _rows(path):
        if {"data", "result"} <= row.keys():
            yield where, _openattack(row, where)
        elif columns["original"] is None and {"original_text", "perturbed_text"} <= row.keys():
            yield where, _textattack(row, columns["label"], where)
        else:
            usual = {"original": ("original_text", "origin"), "perturbed": ("perturbed_text", "attack", "adversarial")}
            clean, changed = (row[find_column(row, columns[what], usual[what], what, str(path))] for what in usual)
            named = columns["label"] or next((c for c in ("label", "ground_truth_output") if c in row), None)
            tag = None if named is None else row[find_column(row, named, (), "label", str(path))]
            yield where, Pair(clean, changed or None, tag)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix.lower() not in LOGS:
        raise CaromError(f"{path}: give a log that ends in {', '.join(LOGS)}, or a set that carom saved (.parquet).")
    if path.suffix.lower() != ".json":
        yield from Table(path).rows()
        return
    try:
        rows = json.loads(read_text_file(path))
    except (ValueError, RecursionError) as error:
        raise BadInput(str(path), f"not JSON ({error})", "Write a list of objects, or .jsonl.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(str(path), "not a list of objects", "Write what AttackEval.ieval yields as a list.")
    yield from ((f"{path}, item {number}", row) for number, row in enumerate(rows, 1))


def _textattack(row: Mapping[str, Any], label: str | None, where: str) -> Pair:
    clean, changed = row["original_text"], row["perturbed_text"]
    if isinstance(clean, str) and _FIELD.search(clean):
        raise BadInput(
            where,
            f"holds several texts ({', '.join(_FIELD.findall(clean)).lower()})",
            "Only logs of models of one text can be measured.",
        )
    clean, changed = (plain(text) if isinstance(text, str) else text for text in (clean, changed))
    said = (row.get("original_output"), row.get("perturbed_output"))
    named = label or "ground_truth_output"
    tag = row[find_column(row, named, (), "label", where)] if named in row or label else None
    return Pair(clean, changed, tag, said if None not in said else None, None, row.get("num_queries"))


def _openattack(row: Mapping[str, Any], where: str) -> Pair:
    data, result = row["data"], row["result"]
    if not isinstance(data, dict) or "x" not in data:
        raise BadInput(
            where, 'its "data" holds no "x"', 'Write OpenAttack\'s results whole: {"data": {"x", "y"}, ...}.'
        )
    metrics = row.get("metrics")
    queries = metrics.get("Victim Model Queries") if isinstance(metrics, dict) else None
    return Pair(data["x"], result, data.get("y"), None, bool(row.get("success")), queries)


def _classes(given: Any, data: Dataset | None, pairs: Sequence[Pair]) -> tuple[str, ...]:
    if given is not None:
        return class_names(given)
    if data is not None:
        return data.classes
    labels = [label for pair in pairs if (label := plain_label(pair.label)) is not None]
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) == len(labels):
        return tuple(str(n) for n in range(min(max([1, *numbers]), MAX_CLASSES) + 1))
    return in_order(map(str, labels))[0]


def _read(source: Source, names: Sequence[str], by_text: Mapping[str, int]) -> Pair:
    """A row in terms of the classes. Raises BadInput."""
    where, pair = source.where, source.content
    clean = read_text(Source(source.id, 0, where, pair.clean))
    changed = clean if pair.changed is None else read_text(Source(source.id, 0, where, pair.changed))
    label = plain_label(pair.label)
    if label is None:
        if clean not in by_text:
            raise BadInput(where, "the row has no label", "Name the column, or data with the same texts.")
        place = by_text[clean]
    else:
        place = _place(label, names, where, "label")
    said = None
    if pair.said is not None:
        one, other = (plain_label(answer) for answer in pair.said)
        if one is not None and other is not None:
            said = (_place(one, names, where, "answer"), _place(other, names, where, "answer"))
    queries = plain_label(pair.queries)
    return Pair(clean, changed, place, said, pair.fooled, queries if isinstance(queries, int) else None)


def _place(value: int | str, names: Sequence[str], where: str, what: str) -> int:
    if isinstance(value, int) and 0 <= value < len(names):
        return value
    if str(value) in names:
        return list(names).index(str(value))
    known = ", ".join(list(names)[:5]) + (", ..." if len(names) > 5 else "")
    raise BadInput(where, f"{what} {value!r} is no class of {known}", f"Correct the {what}, or pass --classes.")


def _changed_words(text: str, text0: str) -> list[tuple[str, str]]:
    return [(old.text, new) for _, old, new in changes(text, text0) or ()]


def _noise(rows: Sequence[Pair]) -> str:
    pairs = [pair for row in rows for pair in _changed_words(row.changed, row.clean)]
    misspelt = [edits(new, old) <= 2 and not _is_english(new) for old, new in pairs]
    return "misspellings" if sum(misspelt) > len(pairs) / 2 else "synonyms"


def _is_english(word: str) -> bool:
    return bool(parts_of_speech(word)) or word.lower() in STOP_WORDS


def _lacks(candidates: Candidates, text: str, text0: str) -> bool:
    """Whether a text holds anything that controls could not."""
    found = changes(text, text0)
    return found is None or any(new not in options_of(candidates, old.text) for _, old, new in found)
