"""The text zoo's transformer over words, and how it answers many rows that are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.text.models.networks import Changes, TokenNetwork

LANES = 16
"""Tokens are attended to in multiples of so many: what torch does with the rest, one by one, takes as long as all."""

TOKENS = 2048
"""Tokens that rows worked out from others go on with at once: what is made of them stays near the processor."""


class WordTransformer(TokenNetwork):
    """A transformer encoder over words, normalised before each block, its output averaged over time: Vaswani et al.,
    "Attention is all you need", NeurIPS 2017."""

    def __init__(
        self,
        words: int,
        dim: int = 64,
        heads: int = 4,
        layers: int = 2,
        limit: int = 256,
        classes: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dim, padding_idx=0)
        self.position = nn.Parameter(torch.randn(limit, dim) * 0.02)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        x = self.dropout(embeddings + self.position[: embeddings.shape[1]])
        for block in self.blocks:
            x = block(x, mask)
        return self._pooled(x, mask)

    def _pooled(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm(x) * mask[:, :, None]
        return self.head(self.dropout(x.sum(1) / mask.sum(1, keepdim=True)))

    def pays(self, rows: int) -> bool:
        """Whether working rows out from others is less work than computing them whole."""
        return rows >= 256

    def moved(self, ids: Tensor, changes: Changes) -> Tensor:
        """Logits float[R, C] of rows that differ from `ids` int64[B, L] by one change each, in evaluation mode.

        What the first block makes of a token before it attends to others, its query, key and value, is computed once
        for all rows in which the same token stands at the same place. From there on everything depends on the change.
        """
        rows = changes.applied(ids)
        lengths = (rows != 0).sum(1)
        words, at = numbered(rows, self.embedding.num_embeddings)
        width = rows.shape[1]
        pairs, at = numbered(at * width + torch.arange(width), len(words) * width)
        first, *others = (block for block in self.blocks if isinstance(block, EncoderBlock))
        tokens = self.embedding(words[pairs // width]) + self.position[pairs % width]
        query, read = (part.contiguous() for part in first.reads(tokens))
        at = F.pad(at, (0, LANES))  # places behind a row are masked
        order = lengths.argsort(descending=True, stable=True)
        found = []
        for part in of_like_length(order, lengths):
            most = int(lengths[part[0]])
            mask = torch.arange(most + -most % LANES) < lengths[part, None]
            places = at[part, : mask.shape[1]]
            own = places[:, :most]
            x = first.attended(F.embedding(own, tokens), F.embedding(own, query), F.embedding(places, read), mask)
            mask = mask[:, :most]
            for block in others:
                x = block(x, mask)
            found.append(self._pooled(x, mask))
        return torch.cat(found)[order.argsort()]


def numbered(codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """As codes.unique(return_inverse=True) for codes below `size`, without sorting them."""
    seen = torch.zeros(size, dtype=torch.bool)
    seen[codes] = True
    return seen.nonzero().squeeze(1), (seen.cumsum(0) - 1)[codes]


def of_like_length(order: Tensor, lengths: Tensor) -> Iterator[Tensor]:
    """Rows in this order, the longest first, about `TOKENS` tokens at a time."""
    while len(order):
        count = max(1, TOKENS // int(lengths[order[0]]))
        yield order[:count]
        order = order[count:]


class EncoderBlock(nn.Module):
    """Self-attention and a feed-forward layer, each added to what it reads."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.norm_forward = nn.LayerNorm(dim)
        self.forward_in = nn.Linear(dim, 2 * dim)
        self.forward_out = nn.Linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x float[N, L, d], mask bool[N, L] -> float[N, L, d]."""
        query, read = self.reads(x)
        rest = -x.shape[1] % LANES
        return self.attended(x, query, F.pad(read, (0, 0, 0, rest)), F.pad(mask, (0, rest)))

    def reads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(queries float[..., d], keys and values float[..., 2 * d]) of tokens float[..., d]."""
        query, read = self.qkv(self.norm_attention(x)).split((x.shape[-1], 2 * x.shape[-1]), -1)
        return query, read

    def attended(self, x: Tensor, query: Tensor, read: Tensor, mask: Tensor) -> Tensor:
        """float[N, L, d] of x and its queries float[N, L, d], which attend to `read` float[N, K, 2 * d] where `mask`
        bool[N, K] is True."""
        query = query.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [N, heads, L, d / heads]
        key, value = read.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, mask[:, None, None])
        x = x + self.dropout(self.mix(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.forward_out(F.gelu(self.forward_in(self.norm_forward(x)))))

    def attention(self, x: Tensor, mask: Tensor) -> Tensor:
        """float[N, heads, L, L]: how much each token (third) reads of each (last), at the block's input x."""
        split = self.qkv(self.norm_attention(x)).unflatten(2, (3, self.heads, -1))
        query, key, _ = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        return scores.masked_fill(~mask[:, None, None], -torch.inf).softmax(3)
