"""Augmentation: copies of texts with some words changed, at random or against a model, for training and for tests.

Model-free recipes draw a share of the words at random and exchange each for a random option of one source (Wei and Zou
2019, EDA, synonym replacement; Belinkov and Bisk 2018, Synthetic and natural noise both break neural machine
translation, for characters). Any other recipe is an attack of the registry and needs a model: its adversarial texts are
the copies (as in Yoo and Qi 2021, A2T, without the training). What a copy holds follows from seed, text, its place and
the number of the copy: neither from batches nor from what other texts there are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.rng import Rng
from carom.common.base.specs import split_parameters
from carom.common.core.batch import Access, Batch, Goal
from carom.common.core.model import Model
from carom.common.core.problem import Problem, Status
from carom.text.candidates.base import Candidates
from carom.text.candidates.characters import LookAlikes, Misspellings
from carom.text.candidates.forms import Inflections, LeaveOut
from carom.text.candidates.invariances import Invariances
from carom.text.candidates.neighbours import Neighbours
from carom.text.candidates.synonyms import WordNet
from carom.text.data.load import Columns, label_number, text_columns, usable_text
from carom.text.data.tables import Table, write_rows
from carom.text.pairs import is_pair, join, sides
from carom.text.space import Words
from carom.text.threats import WordBudget

RANDOM: dict[str, tuple[Candidates, str]] = {
    "synonyms": (WordNet(), "WordNet synonyms"),
    "neighbours": (Neighbours(), "words of like vectors, by MiniLM"),
    "inflections": (Inflections(), "other forms of the same words"),
    "characters": (Misspellings(), "letters swapped, left out, or hit on a neighbouring key"),
    "invariances": (Invariances(), "other names, places and numbers; contractions; typos"),
    "look-alikes": (LookAlikes(), "letters of other alphabets that look the same"),
    "leave-out": (LeaveOut(), "words left out"),
}
"""Model-free recipes: name -> (where new words come from, one line)."""

NOTHING = "in which nothing can be replaced"
UNFOOLED = "for which the attack found no change that helps"
UNREADABLE = "that cannot be used"
WHY = {Status.SKIPPED.value: "that the model gets wrong already", Status.INFEASIBLE.value: NOTHING}
"""Why a text has no copies, behind a number of texts; by how its attack ended."""

SHARE = 0.1
"""Of the words that model-free recipes change, by default."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Augmenter:
    """A recipe, made: from texts to their copies."""

    recipe: str
    budget: WordBudget
    copies: int = 1
    seed: int = 0
    model: Model | None = None
    attack: Any = None
    fooled: bool = False  # keep only copies that the model gets wrong

    def __call__(self, texts: Sequence[str], labels: Sequence[int] | None = None, first: int = 0) -> list[list[str]]:
        """Up to `copies` of each text, without those that are the text itself or one another; `first` is the place of
        the first text among all. Labels are classes of the model, by default its own answers."""
        return self.explained(texts, labels, first)[0]

    def explained(
        self, texts: Sequence[str], labels: Sequence[int] | None = None, first: int = 0
    ) -> tuple[list[list[str]], list[str]]:
        """The copies, and why a text has none, in words that follow a number of texts: "" for one that has some."""
        ids = [str(first + i) for i in range(len(texts))]
        found: list[dict[str, None]] = [{} for _ in texts]
        whys = [NOTHING] * len(texts)
        for copy in range(self.copies):
            rng = Rng.of(self.seed, ids).fold("copy", copy)
            if self.model is None:
                made: Sequence[str | None] = self._drawn(texts, rng)
            else:
                made, whys = self._attacked(texts, labels, ids, rng)
            for text, new, own in zip(texts, made, found, strict=True):
                if new is not None and new != text:
                    own[new] = None
        return [list(own) for own in found], ["" if own else why for own, why in zip(found, whys, strict=True)]

    def _drawn(self, texts: Sequence[str], rng: Rng) -> list[str]:
        sentences = [self.budget.editable(text) for text in texts]
        return self.budget.draw(sentences, [sentence.limit for sentence in sentences], rng)

    def _attacked(
        self, texts: Sequence[str], labels: Sequence[int] | None, ids: Sequence[str], rng: Rng
    ) -> tuple[list[str | None], list[str]]:
        """(of each text the copy, None where it is not kept; why there is none, where there is none)"""
        assert self.model is not None
        check_side(self.model, all(map(is_pair, texts)), self.recipe)
        if labels is None:
            with self.model.frozen(), torch.inference_mode():
                wanted = self.model(list(texts)).logits.argmax(1).cpu()
        else:
            wanted = torch.tensor(_checked_labels(labels, texts, self.model), dtype=torch.long)
        batch = Batch(list(texts), wanted, ids)
        result = self.attack(Problem(self.model, Goal(wanted), self.budget), batch, rng)
        made = self.model.space.round(result.inputs)
        if not bool(self.budget.allows(made, batch.inputs).all()):
            raise AssertionError(f"{self.recipe}: an augmented text is outside the budget")
        reached = result.success.tolist()
        kept = [text if hit or not self.fooled else None for text, hit in zip(made, reached, strict=True)]
        return kept, [WHY.get(status, UNFOOLED) for status in result.status.tolist()]


def check_side(model: Model, pairs: bool, where: str) -> None:
    """Refuse pairs for a model of single texts, and the other way round."""
    if model.space != Words(pairs=pairs):
        remedy = getattr(model.space, "remedy", "")
        raise CaromError(f"model {model.name} takes {model.space}, {where} has {Words(pairs=pairs)}. {remedy}")


def _checked_labels(labels: Sequence[int], texts: Sequence[str], model: Model) -> list[int]:
    if len(labels) != len(texts):
        raise CaromError(f"{len(texts)} texts and {len(labels)} labels: give one label for each text.")
    for label in labels:
        if not 0 <= label < len(model.classes):
            raise CaromError(f"label {label} is none of the {len(model.classes)} classes of {model.name}.")
    return list(labels)


def augmenter(
    recipe: str | None = None,
    *,
    copies: int = 1,
    eps: float | None = None,
    model: Model | str | None = None,
    seed: int = 0,
    fooled: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Augmenter:
    """A recipe by name: one of `RANDOM`, or an attack with its parameters ("textfooler?similarity=0.7") on a model. By
    default synonyms, or, with a model, `fast`; `greedy-unk`, which `fast` ends with, where it grants no gradient.

    `eps` is the share of a text's words that may be changed: for model-free recipes, that are changed (.1 by default);
    of attacks .5.
    """
    from carom.common.api import load_model
    from carom.common.modality.installed import get_modality
    from carom.common.modality.registry import choose_attack

    if copies < 1:
        raise CaromError(f"copies={copies}: at least one copy of each text is needed.")
    text = get_modality("text")
    if model is None:
        recipe = recipe or "synonyms"
        head, _ = split_parameters(recipe)
        if head in text.attacks and head not in RANDOM:
            raise CaromError(
                f"recipe {head} attacks a model: pass one (--source SPEC), or take a model-free recipe: "
                f"{', '.join(RANDOM)}."
            )
        if recipe not in RANDOM:
            raise UnknownName("model-free recipe", recipe, RANDOM)
        if fooled:
            raise CaromError(f"recipe {recipe} asks no model, so no copy can be one that fools it: pass a model.")
        budget = WordBudget(SHARE if eps is None else eps, RANDOM[recipe][0])
        return Augmenter(recipe, budget, copies, seed)
    if recipe in RANDOM and recipe not in text.attacks:
        raise CaromError(
            f"recipe {recipe} asks no model: leave the model out (--source), or take an attack as the recipe, such as "
            "fast. See `carom list attacks --modality text`."
        )
    asked = None if recipe is None else choose_attack(text, recipe, "words")
    loaded = model if isinstance(model, Model) else load_model(model, "text", **(facts or {}))
    if recipe is None:
        recipe = "fast" if Access.GRADIENT in loaded.access else "greedy-unk"
    chosen = asked or choose_attack(text, recipe, "words")
    if not chosen.runs_on(loaded) or chosen.needs_others:
        raise CaromError(
            f"attack {recipe} cannot run on {loaded.name}: it needs {' and '.join(chosen.info.needs.words())}."
        )
    threat = chosen.threat(WordBudget(float(text.defaults.eps) if eps is None else eps))
    assert isinstance(threat, WordBudget)
    return Augmenter(recipe, threat, copies, seed, loaded, chosen.attack, fooled)


def stream(
    texts: Iterable[str], make: Augmenter, labels: Iterable[int] | None = None, batch: int = 64
) -> Iterator[list[str]]:
    """The copies of one text after another, `batch` texts at a time."""
    texts, rest, first = iter(texts), None if labels is None else iter(labels), 0
    while part := list(islice(texts, batch)):
        yield from make(part, None if rest is None else list(islice(rest, len(part))), first)
        first += len(part)


def augment(
    texts: Iterable[str],
    recipe: str | None = None,
    *,
    copies: int = 1,
    eps: float | None = None,
    model: Model | str | None = None,
    labels: Iterable[int] | None = None,
    seed: int = 0,
    fooled: bool = False,
    batch: int = 64,
) -> list[list[str]]:
    """For each text its copies with some words changed: at random, or, with a `model`, by an attack on it.

    Model-free recipes are synonyms, by default, neighbours, inflections, characters, invariances, look-alikes and
    leave-out; with a model, every text attack is one, by default `fast`, or `greedy-unk` without gradients. Up to
    `copies` of each text: those that equal it or one another are left out, so a text in which nothing can be changed
    has none. `eps`: the share of words that is (may be) changed, by default .1 (of attacks .5). `labels` are the true
    classes, by default the model's answers; `fooled` keeps only copies that the model gets wrong. Texts may be pairs
    (`carom.text.pairs.join`).

    Args:
        texts: any number of texts, or of pairs (`carom.text.pairs.join`).
        recipe: by name: "synonyms", "fast?steps=2".
        copies: how many of each text, at most.
        eps: the share of the words, in (0, 1].
        model: what the copies are made against: a text Model or a spec.
        labels: classes int of the model, one a text.
        seed: of everything random.
        fooled: keep only copies that the model gets wrong.
        batch: how many texts at once.

    Returns:
        For each text the list of its copies, perhaps empty.

    Raises:
        CaromError: no such recipe, or a text or label that cannot be used, by its number.

    >>> augment(["a good film", "of the"], "leave-out", eps=0.5)
    [['a film'], []]
    """
    make = augmenter(recipe, copies=copies, eps=eps, model=model, seed=seed, fooled=fooled)
    return list(stream([checked_pair(text, f"text {i}") for i, text in enumerate(texts)], make, labels, batch))


def checked_pair(text: Any, where: str) -> str:
    """A text or a pair, if it can be used. Raises BadInput."""
    pair = sides(text) if isinstance(text, str) else None
    if pair is None:
        return usable_text(text, where)
    for side in pair:
        usable_text(side, where)
    return text


@dataclass(frozen=True)
class _Reader:
    """The rows of a table as texts and labels."""

    columns: tuple[str, str | None, str]  # of the text, of the second of a pair, which side is open
    label: str | None
    classes: Sequence[str] | None  # of the model: labels are needed

    def text(self, where: str, row: Mapping[str, Any]) -> str:
        first, second, change = self.columns
        text = usable_text(row.get(first), where)
        return text if second is None else join(text, usable_text(row.get(second), where), change)

    def number(self, where: str, row: Mapping[str, Any]) -> int | None:
        if self.classes is None or self.label is None:
            return None
        found = label_number(row.get(self.label), self.classes)
        if found is None:
            raise BadInput(
                where, f"label {row.get(self.label)!r} is no class of {', '.join(self.classes)}", "Pass classes=."
            )
        return found

    def with_text(self, row: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The row with another text; every other column as it is."""
        first, second, _ = self.columns
        pair = sides(text)
        return {**row, first: text} if pair is None or second is None else {**row, first: pair[0], second: pair[1]}


def augment_file(
    path: Path,
    out: Path,
    recipe: str | None = None,
    *,
    facts: Mapping[str, Any] | None = None,
    copies: int = 1,
    eps: float | None = None,
    model: Model | str | None = None,
    seed: int = 0,
    fooled: bool = False,
    originals: bool = True,
    on_error: str = "raise",
    batch: int = 64,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Augment a CSV, TSV, JSONL or Parquet file into another, row by row: each row (unless `originals` is False), then
    its copies, with every other column as it is. What was done, as counts.

    `facts` name the columns `text`, `second`, `label` and the open side, `change`, as in `load_data`; labels are only
    read where a model is attacked, and `classes` are the model's. A row whose text cannot be used stops everything
    before anything is written, or, with `on_error="skip"`, stays as it is, without copies.
    """
    if on_error not in ("raise", "skip"):
        raise UnknownName("way to treat rows that cannot be used", on_error, ("raise", "skip"))
    started, given = time.perf_counter(), dict(facts or {})
    if not path.is_file():
        raise CaromError(f"{path}: no such file. Check the path.")
    if path.resolve() == out.resolve():
        raise CaromError(f"{out}: that is the file to read. Name another to write.")
    source, _ = Table(path), Table(out)
    names = source.columns()
    if not names:
        raise CaromError(f"{path}: no rows. Check the file.")
    of_model = {"classes": given["classes"]} if "classes" in given else {}
    make = augmenter(recipe, copies=copies, eps=eps, model=model, seed=seed, fooled=fooled, facts=of_model)
    reader = _reader(names, given, make.model, str(path))
    counts = {"rows": 0, "copies": 0, "without_copies": 0}
    reasons: Counter[str] = Counter()
    skipped: list[str] = []
    total = sum(1 for where, row in source.rows() if _usable(reader, where, row, on_error, skipped))

    def rows() -> Iterator[Mapping[str, Any]]:
        every = source.rows()
        while part := list(islice(every, batch)):
            good = [i for i, (where, row) in enumerate(part) if _usable(reader, where, row, "skip", [])]
            texts = [reader.text(*part[i]) for i in good]
            labels = [reader.number(*part[i]) for i in good]
            known = None if None in labels else [label for label in labels if label is not None]
            copies_of, why = make.explained(texts, known, counts["rows"]) if texts else ([], [])
            made, whys = dict(zip(good, copies_of, strict=True)), dict(zip(good, why, strict=True))
            for i, (_, row) in enumerate(part):
                if originals:
                    yield row
                for text in made.get(i, ()):
                    yield reader.with_text(row, text)
                counts["copies"] += len(made.get(i, ()))
                if not made.get(i):
                    counts["without_copies"] += 1
                    reasons[whys.get(i, UNREADABLE)] += 1
            counts["rows"] += len(part)
            if progress is not None:
                progress(counts["rows"], total + len(skipped), f"augmenting {path.name}")

    written = write_rows(out, rows(), names, source.schema() if out.suffix.lower() == ".parquet" else None)
    return {
        "file": str(path),
        "out": str(out),
        "recipe": make.recipe,
        "seed": seed,
        **counts,
        "reasons": dict(reasons.most_common()),  # why texts have no copies: how many
        "written": written,
        "skipped": skipped,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _reader(names: Sequence[str], facts: Mapping[str, Any], model: Model | None, where: str) -> _Reader:
    columns = {name: value for name, value in facts.items() if name != "classes"}
    texts = text_columns(names, columns, where)
    if model is not None:
        check_side(model, texts[1] is not None, where)
    label = None
    if model is not None:
        try:
            label = Columns.of(names, columns, where).label
        except CaromError:
            if "label" in columns:
                raise
    return _Reader(texts, label, None if model is None else model.classes)


def _usable(reader: _Reader, where: str, row: Mapping[str, Any], on_error: str, skipped: list[str]) -> bool:
    try:
        reader.text(where, row)
        reader.number(where, row)
    except BadInput as error:
        if on_error == "raise":
            raise
        skipped.append(str(error))
        return False
    return True
