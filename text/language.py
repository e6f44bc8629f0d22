"""Language models as the attacker's own tools: words that fit a place, how alike two texts are, how likely one is.

None of them is the model under attack, and none is fetched unless it is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.specs import Spec, parse
from carom.common.loading.pretrained import load_pretrained, load_processor
from carom.text.candidates import Merged, match_case
from carom.text.words import Word

ROWS = 16  # texts at once: always as many, so that what is answered does not depend on what else is asked
TOGETHER = 16  # texts of like length whose vectors are made at once
PLACES = ("replace", "insert", "merge")


def named(lm: str | None, who: str) -> str:
    """The language model that an attack was given; an error that names the parameter if it was given none."""
    if not lm:
        raise CaromError(
            f"{who} needs a masked language model: pass lm=hf:NAME or lm=hf:./FOLDER, for example "
            f"'{who}?lm=hf:bert-base-uncased'. None is shipped or downloaded unasked."
        )
    return lm


def _spec(lm: str) -> Spec:
    return parse(lm, ("hf",)) if lm.startswith("hf:") else Spec("hf", lm)


@cache
def _loaded(auto: str, lm: str) -> tuple[Any, Any]:
    model, tokenizer = load_pretrained(auto, _spec(lm)), load_processor("AutoTokenizer", _spec(lm))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return model.requires_grad_(False), tokenizer


def _limit(model: Any, tokenizer: Any) -> int:
    known = (getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length)
    return min((n for n in known if n and n < 1 << 20), default=512) - 2


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
    model, tokenizer = _loaded("AutoModelForMaskedLM", lm)
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
            max_length=_limit(model, tokenizer),
        )
        with torch.inference_mode():
            logits = model(**encoded).logits.float()
        for row, character in enumerate(places):
            token = encoded.char_to_token(row, character)
            if masked:
                own = (encoded["input_ids"][row] == tokenizer.mask_token_id).nonzero().flatten().tolist()
                token = own[0] if own else None
            found.append(() if token is None else _words_of(tokenizer, logits[row, token].softmax(0), most, least))
    return found


def _words_of(tokenizer: Any, likely: Tensor, most: int, least: float) -> tuple[str, ...]:
    """The likeliest predictions that are whole words."""
    values, ids = likely.topk(min(4 * most, len(likely)))
    found = []
    for value, number in zip(values.tolist(), ids.tolist(), strict=True):
        piece = tokenizer.convert_ids_to_tokens(number)
        word = tokenizer.decode([number]).strip()
        if value >= least and word.isalpha() and not piece.startswith("##") and number not in tokenizer.all_special_ids:
            found.append(word)
    return tuple(dict.fromkeys(found))[:most]


@lru_cache(maxsize=1 << 16)
def _remembered(text: str) -> list[Tensor | None]:
    return [None]


def sentence_vectors(texts: Sequence[str]) -> Tensor:
    """float32[N, 384]: MiniLM's vectors of whole texts, of length 1 (Wang et al. 2020; Reimers and Gurevych 2019)."""
    cells = {text: _remembered(text) for text in dict.fromkeys(texts)}
    new = [text for text, cell in cells.items() if cell[0] is None]
    if new:
        for text, vector in zip(new, _sentence_vectors(new), strict=True):
            cells[text][0] = vector.clone()
    known = [vector for text in texts if (vector := cells[text][0]) is not None]
    return torch.stack(known) if known else torch.zeros(0, 384)


@lru_cache(maxsize=1 << 14)
def sentence_vector(text: str) -> Tensor:
    """float32[384]: the same of one text, read alone: to the last digit what it is whatever else is asked."""
    return _sentence_vectors([text])[0]


def _sentence_vectors(texts: Sequence[str]) -> Tensor:
    """Texts of like length go through the model together: what is padded is computed too."""
    model, encoder = _minilm()
    ids, spans = encoder.encode([text.encode("utf-8", "replace").decode("utf-8") for text in texts])
    lengths = torch.tensor([len(own) for own in spans])
    vectors = torch.zeros(len(texts), model.config.hidden_size)
    for part in lengths.argsort(stable=True).split(TOGETHER):
        width = int(lengths[part].max())
        mask = torch.arange(width) < lengths[part, None]
        with torch.inference_mode():
            states = model(input_ids=ids[part, :width], attention_mask=mask.long()).last_hidden_state
        vectors[part] = F.normalize((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True), dim=1)
    return vectors


@cache
def _minilm() -> tuple[Any, Any]:
    from transformers import AutoModel

    from carom.text.encoders import WordPieceEncoder
    from carom.text.zoo import minilm_folder

    folder = minilm_folder()
    return AutoModel.from_pretrained(folder, local_files_only=True).eval(), WordPieceEncoder(folder)


@lru_cache(maxsize=1 << 14)
def perplexity(lm: str, text: str, masked: bool = False) -> float:
    """exp of the mean negative log-likelihood of the tokens: by a causal model or, `masked`, by a masked one that reads
    the text as it is (a pseudo-perplexity in one pass, lower than that of masking each token). inf for no tokens."""
    model, tokenizer = _loaded("AutoModelForMaskedLM" if masked else "AutoModelForCausalLM", lm)
    encoded = tokenizer(
        text,
        return_tensors="pt",
        return_token_type_ids=False,  # some decoders would add them up
        truncation=True,
        max_length=_limit(model, tokenizer),
    )
    ids = encoded["input_ids"]
    if ids.shape[1] < 2:
        return float("inf")
    with torch.inference_mode():
        likely = model(**encoded).logits.float().log_softmax(2)
    if masked:
        inside = torch.tensor([number not in tokenizer.all_special_ids for number in ids[0].tolist()])
        own = likely[0].gather(1, ids[0, :, None]).squeeze(1)[inside]
    else:
        own = likely[0, :-1].gather(1, ids[0, 1:, None]).squeeze(1)
    return float((-own.mean()).exp()) if len(own) else float("inf")
