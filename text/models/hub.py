"""Tokenizers of transformers and tokenizers as encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from carom.common.base.errors import CaromError
from carom.text.language.tokenizers import pad
from carom.text.words import Span


class HubTokens:
    """A fast tokenizer of transformers as an `Encoder`. Texts are cut after `limit` tokens."""

    def __init__(self, tokenizer: Any, limit: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise CaromError(
                f"{type(tokenizer).__name__} does not say which characters its tokens came from. Use the fast "
                "tokenizer: AutoTokenizer.from_pretrained(..., use_fast=True)."
            )
        self.tokenizer, self.limit = tokenizer, limit
        known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.pad_id = next(number for number in known if number is not None)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, list[list[Span]]]:
        encoded = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.limit,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        # A text without a single token is one padding token that is read.
        rows = [row or [self.pad_id] for row in encoded["input_ids"]]
        spans = [[tuple(span) for span in own] or [(0, 0)] for own in encoded["offset_mapping"]]
        return pad(rows, self.pad_id), spans
