"""What all text models share: token ids known for each text, and what an encoder has to offer.

Every model is called with list[str]; tokenising happens inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from carom.common.core.batch import Batch, Output
from carom.common.core.model import Model
from carom.text.models.hub import HubTokens
from carom.text.models.pairs import PairTokens
from carom.text.words import Span

T = TypeVar("T")


class Encoder(Protocol):
    """From texts to token ids, each token with the characters that it came from."""

    pad_id: int

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, list[list[Span]]]:
        """ids int64[N, L], padded on the right, and the span of every token that is no padding: at least one in each
        text. Tokens that come from no characters have spans of no width."""


class TextModel(Model):
    """A model of texts that knows what it reads of each (`Reads` of the search engine)."""

    def codes(self, inputs: Sequence[str]) -> list[Any]:
        """What is read of each text, as a tuple. Texts with equal codes have equal logits."""
        raise NotImplementedError

    def read(self, codes: Sequence[Any]) -> Tensor:
        """Logits float[N, C]."""
        raise NotImplementedError

    def __call__(self, inputs: Sequence[str], lengths: Tensor | None = None) -> Output:
        return Output(self.read(self.codes(inputs)))

    def ask(
        self, batch: Batch, read: Callable[[Output], T], size: int = 64, width: int | None = None, stream: str = ""
    ) -> list[tuple[Tensor, T]]:
        """As `Model.ask`; texts of like length are read together, so that little is padding."""
        order = torch.tensor(sorted(range(len(batch)), key=lambda i: len(batch.inputs[i])), dtype=torch.long)
        return [(order[rows], part) for rows, part in super().ask(batch.take(order), read, size, width, stream)]


def encoder_facts(encoder: Any) -> Any:
    """What tells one encoder from another, as part of a model's digest: of tokenizers what they are saved as, without
    what they remember."""
    if isinstance(encoder, HubTokens | PairTokens):
        known = encoder.tokenizer.backend_tokenizer.to_str()
        return type(encoder).__qualname__, getattr(encoder, "typed", False), getattr(encoder, "limit", None), known
    return encoder
