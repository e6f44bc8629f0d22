"""What models read of pairs: a tokenizer's own call with two texts, and functions of (first, second) tuples."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.parameters import flag
from carom.text.language.tokenizers import pad
from carom.text.pairs import is_pair, sides
from carom.text.words import Span

TYPE_BITS = 32  # of a number in a code, those above tell the token's type

_OF_PAIRS = re.compile("entail|contradict|equivalen|duplicate|paraphras", re.IGNORECASE)


def reads_pairs(facts: Mapping[str, Any], classes: Sequence[str]) -> bool:
    """Whether a model takes pairs: as the user says, else by its classes, such as entailment."""
    return flag(facts, "pairs", "a text model", any(map(_OF_PAIRS.search, classes)))


def check_pairs(texts: Sequence[str], who: str) -> None:
    """Refuse single texts."""
    if not all(map(is_pair, texts)):
        raise CaromError(
            f"model {who} takes pairs of texts, and was given a single one: join both with carom.text.pairs.join, or "
            "load the model with pairs=False."
        )


def on_pairs(function: Callable[[list[tuple[str, str]]], Any], who: str, texts: Sequence[str]) -> Any:
    """A function of tuples, asked about pairs."""
    check_pairs(texts, who)
    return function([found for text in texts if (found := sides(text)) is not None])


class PairTokens:
    """A fast tokenizer of transformers as an `Encoder` of pairs: called with both texts, as the model was trained.

    A pair that is too long loses tokens at the end of its longer side first. Where the model tells the two texts apart
    by token types, they stand in the upper bits of the ids (`split`).
    """

    pairs = True

    def __init__(self, hub: Any, typed: bool) -> None:
        """`hub` is the `HubTokens` of single texts; `typed` says that the model takes token types."""
        self.hub, self.tokenizer = hub, hub.tokenizer
        self.limit, self.pad_id = hub.limit, hub.pad_id
        self.typed = typed and "token_type_ids" in self.tokenizer.model_input_names

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, list[list[Span]]]:
        """ids int64[N, L] and spans in the whole pair. A text that is no pair is read alone: a word, say."""
        found = [sides(text) for text in texts]
        both = [pair for pair in found if pair is not None]
        if len(both) < len(found):
            return self.hub.encode(texts)
        encoded = self.tokenizer(
            [first for first, _ in both],
            [second for _, second in both],
            truncation="longest_first",
            max_length=self.limit,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=self.typed,
            verbose=False,
        )
        rows, spans = encoded["input_ids"], []
        if self.typed:
            types = encoded["token_type_ids"]
            rows = [[i | t << TYPE_BITS for i, t in zip(*own, strict=True)] for own in zip(rows, types, strict=True)]
        for row, (first, _) in enumerate(both):
            shifts = [len(first) + 1 if of == 1 else 0 for of in encoded.sequence_ids(row)]
            own = encoded["offset_mapping"][row]
            spans.append([(a + shift, b + shift) for (a, b), shift in zip(own, shifts, strict=True)])
        return pad(rows, self.pad_id), spans

    def split(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """(ids, token types or None), int64[N, L] each."""
        return (ids & (1 << TYPE_BITS) - 1, ids >> TYPE_BITS) if self.typed else (ids, None)
