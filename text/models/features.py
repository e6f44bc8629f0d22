"""Text models on counted features, such as TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from carom.common.base.identity import digest_of
from carom.common.core.batch import Family
from carom.common.models.trees import TreeEnsemble
from carom.text.language.tokenizers import TfidfEncoder, tokens
from carom.text.models.base import TextModel, encoder_facts
from carom.text.space import Words


class FeatureModel(TextModel):
    """A linear model, tree or forest over TF-IDF features: scores only."""

    def __init__(
        self,
        body: nn.Module | TreeEnsemble,
        encoder: TfidfEncoder,
        *,
        name: str,
        family: Family | str,
        classes: Sequence[str],
    ) -> None:
        holder = nn.Module() if isinstance(body, TreeEnsemble) else body
        if isinstance(body, TreeEnsemble):
            for key, tensor in body.tensors().items():
                holder.register_buffer(key, tensor)
        digest = digest_of(holder, encoder_facts(encoder))
        super().__init__(name, "text", family, Words(), classes, digest)
        self.body, self.encoder = body, encoder
        self._known = frozenset(encoder.words)

    def to(self, device: torch.device | str) -> FeatureModel:
        self.body = self.body.to(device)
        super().to(device)
        return self

    def codes(self, inputs: Sequence[str]) -> list[tuple[str, ...]]:
        """The known words of each text, sorted: their order does not count."""
        return [tuple(sorted(w for w, _ in tokens(text) if w in self._known)) for text in self.space.clamp(inputs)]

    def read(self, codes: Sequence[tuple[str, ...]]) -> Tensor:
        features = self.encoder.encode([" ".join(code) for code in codes]).to(self.device)
        if isinstance(self.body, TreeEnsemble):
            return self.body.logits(features)
        return self.body(features)
