"""Candidates that a masked language model puts at a place of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.ties import falling, tie
from carom.text.candidates.base import Merged
from carom.text.language.models import language_model, token_limit
from carom.text.words import Word, match_case

ROWS = 16  # texts at once: always as many, so that what is answered does not depend on what else is asked


PLACES = ("replace", "insert", "merge")


def named(lm: str | None, who: str) -> str:
    """The language model that an attack was given; an error that names the parameter if it was given none."""
    if not lm:
        raise CaromError(
            f"{who} needs a masked language model: pass lm=hf:NAME or lm=hf:./FOLDER, for example "
            f"'{who}?lm=hf:bert-base-uncased'. None is shipped or downloaded unasked."
        )
    return lm


@dataclass(frozen=True)
class MaskedLm:
    """Words that a masked language model puts at a place of the clean text.

    `place`: "replace" the word, "insert" one behind it, "merge" it and the word behind into one. `masked=False` lets
    the model read the word that it replaces (Li et al. 2020, BERT-Attack); otherwise a mask stands there (Garg and
    Ramakrishnan 2020, BAE). Only predictions that are one piece and made of letters count, at least `least` likely.
    Places are read in the clean text, not again after each change.
    """

    lm: str
    place: str = "replace"
    most: int = 12
    masked: bool = True
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise UnknownName("place", self.place, PLACES)
        if not self.masked and self.place != "replace":
            raise CaromError("only a word that is replaced can be read: masked=false needs place=replace.")

    @property
    def free(self) -> bool:
        return self.place != "replace"

    def options(self, word: str) -> tuple[str, ...]:
        return ()

    def options_in(self, text: str, words: Sequence[Word]) -> list[tuple[str, ...]]:
        found = _predicted(self.lm, text, tuple(words), self.place, self.masked, self.most, self.least)
        return [tuple(self._put(word.text, new) for new in own) for word, own in zip(words, found, strict=True)]

    def _put(self, word: str, new: str) -> str:
        if self.place == "insert":
            return f"{word} {new}"
        new = match_case(new, word)
        return Merged(new) if self.place == "merge" else new


@lru_cache(maxsize=1 << 12)
def _predicted(
    lm: str, text: str, words: tuple[Word, ...], place: str, masked: bool, most: int, least: float
) -> list[tuple[str, ...]]:
    """For each word of a text, what the model puts there, the likeliest first."""
    model, tokenizer = language_model("AutoModelForMaskedLM", lm)
    if tokenizer.mask_token is None:
        raise CaromError(f"{lm} has no mask token: choose a masked language model.")
    mask, found = tokenizer.mask_token, []
    for start in range(0, len(words), ROWS):
        part = range(start, min(start + ROWS, len(words)))
        asked, places = [], []
        for i in part:
            begin, end = words[i].start, words[i].stop
            if place == "insert":
                begin, put = end, f" {mask}"
            else:
                put = mask if masked else words[i].text
                if place == "merge" and i + 1 < len(words):
                    end = words[i + 1].stop
            # Long texts are cut around the place.
            left, right = text[max(0, begin - 600) : begin], text[end : end + 600]
            asked.append(left + put + right)
            places.append(len(left) + len(put) - (1 if place == "insert" or not masked else len(mask)))
        rows = asked + [asked[0]] * (ROWS - len(asked))
        encoded = tokenizer(
            rows,
            return_tensors="pt",
            return_token_type_ids=False,
            padding=True,
            truncation=True,
            max_length=token_limit(model, tokenizer),
        )
        with torch.inference_mode():
            logits = model(**encoded).logits.float()
        for row, character in enumerate(places):
            token = encoded.char_to_token(row, character)
            if masked:
                own = (encoded["input_ids"][row] == tokenizer.mask_token_id).nonzero().flatten().tolist()
                token = own[0] if own else None
            found.append(() if token is None else _words_of(tokenizer, logits[row, token], most, least))
    return found


def _words_of(tokenizer: Any, logits: Tensor, most: int, least: float) -> tuple[str, ...]:
    """The likeliest predictions that are whole words."""
    (ids,) = falling(logits[None], tie(logits[None]))
    ids, found = ids[: 4 * most], []
    for value, number in zip(logits.softmax(0)[ids].tolist(), ids.tolist(), strict=True):
        piece = tokenizer.convert_ids_to_tokens(number)
        word = tokenizer.decode([number]).strip()
        if value >= least and word.isalpha() and not piece.startswith("##") and number not in tokenizer.all_special_ids:
            found.append(word)
    return tuple(dict.fromkeys(found))[:most]
