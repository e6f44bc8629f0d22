"""The text zoo's networks: word ids or TF-IDF features in, logits over (negative, positive) out.

The networks over tokens share one interface, which is what gradient attacks on words need:

    network(ids int64[N, L]) -> logits float[N, C]; id 0 is padding, on the right, and changes nothing
    network.embedding(ids) -> embeddings float[N, L, d]
    network.from_embeddings(embeddings float[N, L, d], mask bool[N, L]) -> logits; mask is False at padding

Every row holds at least one token that is no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.common.base.environment import quiet_loading


class TokenNetwork(nn.Module):
    """What the networks over word ids have in common."""

    embedding: nn.Embedding

    def forward(self, ids: Tensor) -> Tensor:
        return self.from_embeddings(self.embedding(ids), ids != 0)

    def from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        raise NotImplementedError


class WordCnn(TokenNetwork):
    """Convolutions of several widths and the maximum over time: Kim, "Convolutional neural networks for sentence
    classification", EMNLP 2014."""

    def __init__(self, words: int, dim: int = 64, filters: int = 64, classes: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dim, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, filters, width, padding=width // 2) for width in (3, 4, 5))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(3 * filters, classes)

    def from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        # What stands at padding is set to zero, as beyond the ends of the text, so that its length cannot matter.
        x = (embeddings * mask[:, :, None]).transpose(1, 2)  # [N, d, L]
        maps = (F.relu(convolve(x))[:, :, : x.shape[2]] for convolve in self.convolutions)
        peaks = [m.masked_fill(~mask[:, None], 0).amax(2) for m in maps]
        return self.head(self.dropout(torch.cat(peaks, 1)))

    def moved(self, ids: Tensor, changes: Changes) -> Tensor:
        """Logits float[R, C] of rows that differ from `ids` int64[B, L] by one change each, in evaluation mode.

        Only windows over the change are computed; of the others their maximum is known. What a word adds to a window
        is computed once for all places that it stands in.
        """
        layers = [layer for layer in self.convolutions if isinstance(layer, nn.Conv1d)]
        widest = max(layer.weight.shape[2] for layer in layers)
        around = changes.around(ids, widest - 1)  # [R, most + 2 * (widest - 1)]
        vectors, at = torch.cat([ids.flatten(), around.flatten()]).unique(return_inverse=True)
        at, near = at[: ids.numel()].view_as(ids), at[ids.numel() :].view_as(around)
        embedded = self.embedding(vectors) * (vectors != 0)[:, None]
        zero = vectors.new_full((), int((vectors == 0).nonzero()[0]) if bool((vectors == 0).any()) else len(vectors))
        embedded = torch.cat([embedded, embedded.new_zeros(1, embedded.shape[1])])
        lengths, peaks = (ids != 0).sum(1), []
        after = lengths[changes.rows] - changes.stop + changes.start + changes.count
        for layer in layers:
            width, bias = layer.weight.shape[2], layer.bias
            assert bias is not None
            before = width // 2
            # What each word adds to a window in whose j-th place it stands: [words, width, filters].
            adds = (embedded @ layer.weight.permute(1, 2, 0).flatten(1)).view(len(embedded), width, -1)
            padded = F.pad(at, (before, width - 1 - before), value=int(zero))
            seen = _windows(adds, padded, bias) * (ids != 0)[:, :, None]  # 0 is the least a maximum can be
            none = seen.new_zeros(len(ids), 1, seen.shape[2])
            upto = torch.cat([none, running_maximum(seen)], 1)  # of the windows before p
            beyond = torch.cat([running_maximum(seen.flip(1)).flip(1), none], 1)  # of the windows from p on
            first = changes.start + before - width + 1  # the first window over the change
            behind = (changes.stop + before).clamp(max=ids.shape[1])
            peak = torch.maximum(upto[changes.rows, first.clamp(min=0)], beyond[changes.rows, behind])
            fresh = _windows(adds, near[:, widest - width : near.shape[1] - widest + width], bias)
            window = first[:, None] + torch.arange(fresh.shape[1])
            inside = (window >= 0) & (window < after[:, None]) & (window < (first + changes.count + width - 1)[:, None])
            peaks.append(torch.maximum(peak, (fresh * inside[:, :, None]).amax(1)))
        return self.head(torch.cat(peaks, 1))


def _windows(adds: Tensor, at: Tensor, bias: Tensor) -> Tensor:
    """float[N, L - width + 1, filters]: what windows of the words `at` int64[N, L] answer, rectified."""
    width = adds.shape[1]
    count = at.shape[1] - width + 1
    maps = bias + adds[at[:, :count], 0]
    for j in range(1, width):
        maps += adds[at[:, j : j + count], j]
    return maps.relu_()


def running_maximum(x: Tensor) -> Tensor:
    """The maximum over x[:, : p + 1] for every p: `cummax` without the indices, in a few passes."""
    step = 1
    while step < x.shape[1]:
        x = torch.cat([x[:, :step], torch.maximum(x[:, step:], x[:, :-step])], 1)
        step *= 2
    return x


@dataclass(frozen=True)
class Changes:
    """R rows, each one of some base rows in which the ids from `start` up to `stop` are exchanged for others."""

    rows: Tensor  # int64[R]: which base
    start: Tensor  # int64[R]
    stop: Tensor  # int64[R]
    new: Tensor  # int64[R, most], padded with 0 on the right
    count: Tensor  # int64[R]: how many of them

    def split(self, size: int) -> list[Changes]:
        parts = (tensor.split(size) for tensor in (self.rows, self.start, self.stop, self.new, self.count))
        return [Changes(*part) for part in zip(*parts, strict=True)]

    def applied(self, ids: Tensor) -> Tensor:
        """int64[R, W]: the rows, padded with 0 on the right as `ids` int64[B, L] are; W is the longest."""
        grown, most = self.count - self.stop + self.start, self.new.shape[1]
        lengths = (ids != 0).sum(1)[self.rows] + grown
        place = torch.arange(int(lengths.max()))
        behind = place >= (self.start + self.count)[:, None]
        source = torch.where(behind, place - grown[:, None], place).clamp(0, ids.shape[1] - 1)
        fresh = self.new.gather(1, (place - self.start[:, None]).clamp(0, most - 1))
        inside = ~behind & (place >= self.start[:, None])
        return torch.where(inside, fresh, ids[self.rows[:, None], source]) * (place < lengths[:, None])

    def around(self, ids: Tensor, margin: int) -> Tensor:
        """int64[R, margin + most + margin]: the new ids with the `margin` ids before and behind them; 0 beyond the ends
        and behind what is full."""
        place = torch.arange(-margin, self.new.shape[1] + margin).expand(len(self.rows), -1)
        fresh = (place >= 0) & (place < self.count[:, None])
        source = torch.where(place < 0, self.start[:, None] + place, self.stop[:, None] + place - self.count[:, None])
        known = (source >= 0) & (source < ids.shape[1]) & (place < (self.count + margin)[:, None])
        old = ids[self.rows[:, None], source.clamp(0, ids.shape[1] - 1)] * known
        return torch.where(fresh, self.new.gather(1, place.clamp(0, self.new.shape[1] - 1)), old)


def taken(x: Tensor, positions: Tensor) -> Tensor:
    return x.gather(1, positions[:, :, None].expand_as(x))


class Linear(nn.Module):
    """Logistic regression over the features of a `TfidfEncoder`: float[N, V] -> logits float[N, C]."""

    def __init__(self, features: int, classes: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(features, classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features)


class PooledBert(TokenNetwork):
    """A frozen BERT-like encoder, the means of its last `layers` layers over the tokens, and a head that is trained.

    MiniLM: Wang et al., NeurIPS 2020; pooled as in Sentence-BERT: Reimers and Gurevych, EMNLP 2019. The encoder's
    weights come from `folder`, in the layout of Hugging Face, and are no part of this module's state.
    """

    def __init__(self, folder: Path, layers: int = 4, classes: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        from transformers import AutoModel

        self.layers = layers
        with quiet_loading():
            self.encoder = AutoModel.from_pretrained(folder, local_files_only=True)
        self.encoder.requires_grad_(False)
        self.embedding = self.encoder.get_input_embeddings()
        dim = layers * self.encoder.config.hidden_size
        self.head = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, classes))
        self.register_state_dict_post_hook(_without_encoder)
        self.register_load_state_dict_post_hook(_encoder_may_miss)

    def train(self, mode: bool = True) -> PooledBert:
        super().train(mode)
        self.encoder.eval()  # it is never trained: no dropout
        return self

    def from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.pool(embeddings, mask))

    def pool(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """float[N, layers * d]: the sentence vector, before the head."""
        read = self.encoder(inputs_embeds=embeddings, attention_mask=mask.long(), output_hidden_states=True)
        states = torch.cat(read.hidden_states[-self.layers :], 2)
        return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def _without_encoder(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in [name for name in state if name.startswith((f"{prefix}encoder.", f"{prefix}embedding."))]:
        del state[name]


def _encoder_may_miss(module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [name for name in keys.missing_keys if "encoder." not in name and "embedding." not in name]
