"""Keyword networks: float[N, 16000] in [-1, 1], zero padded at the end -> logits float[N, classes].

Each owns its front end, so that attacks work on the waveform. They are small on purpose: forward and input gradient of
32 clips take well under 200 ms on one thread.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.audio.models.frontends import LogMel, SpecAugment


class M5(nn.Module):
    """Convolutions on the raw waveform, after Dai et al., "Very deep convolutional neural networks for raw
    waveforms" (2016): a wide first filter bank, then pairs of short convolution and pooling.
    """

    def __init__(self, classes: int = 10, channels: int = 40):
        super().__init__()
        layers: list[nn.Module] = []
        # (channels before, after, kernel, stride, pooling)
        plan = [(1, channels, 80, 8, 4), (channels, channels, 3, 1, 4)]
        plan += [(channels, 2 * channels, 3, 1, 2), (2 * channels, 4 * channels, 3, 1, 2)]
        for before, after, kernel, stride, pool in plan:
            convolution = nn.Conv1d(before, after, kernel, stride, kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm1d(after), nn.ReLU(), nn.MaxPool1d(pool)]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(8 * channels, classes)

    def forward(self, wave: Tensor) -> Tensor:
        sound = self.layers(wave[:, None])  # [N, C, 31]
        return self.head(self.dropout(torch.cat([sound.mean(2), sound.amax(2)], 1)))


class MelCnn(nn.Module):
    """Six 3 x 3 convolutions on the log-mel spectrogram, seen as an image."""

    def __init__(self, classes: int = 10, channels: int = 16):
        super().__init__()
        self.front = LogMel()
        layers: list[nn.Module] = []
        before = 1
        for after in (channels, 2 * channels, 4 * channels):
            for width, stride in ((before, 2), (after, 1)):
                layers += [nn.Conv2d(width, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(before, classes)

    def forward(self, wave: Tensor) -> Tensor:
        image = self.layers(self.front(wave)[:, None])  # [N, C, 5, 13]
        return self.head(self.dropout(image.mean((2, 3))))


def stem(channels: int) -> nn.Module:
    """One convolution that halves time and frequency: [N, 1, 40, 100] -> [N, channels, 20, 50]."""
    convolution = nn.Conv2d(1, channels, 5, 2, 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout2d(0.1))


class AttentionGru(nn.Module):
    """One convolution on the log-mel spectrogram, two bidirectional GRU layers and attention over time.

    After de Andrade et al., "A neural attention model for speech command recognition" (2018).
    """

    def __init__(self, classes: int = 10, width: int = 64, channels: int = 8):
        super().__init__()
        self.front = LogMel()
        self.stem = stem(channels)
        self.gru = nn.GRU(20 * channels, width, 2, batch_first=True, bidirectional=True, dropout=0.3)
        self.attention = nn.Linear(2 * width, 1)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, wave: Tensor) -> Tensor:
        image = self.stem(self.front(wave)[:, None])  # [N, channels, 20, 50]
        states, _ = self.gru(image.flatten(1, 2).transpose(1, 2))  # [N, 50, 2 * width]
        weights = self.attention(states).softmax(1)
        return self.head(self.dropout((states * weights).sum(1)))


class Block(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        # [N, T, 3 * width] -> three times [N, heads, T, width / heads]
        query, key, value = (
            self.qkv(self.before_attention(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.dropout(self.out(mixed))
        return tokens + self.dropout(self.mlp(self.before_mlp(tokens)))


class KeywordTransformer(nn.Module):
    """Pairs of convolved log-mel frames, 40 ms each, as tokens of a transformer trained with SpecAugment.

    After Berg et al., "Keyword transformer" (2021), with a convolution before the patches (Xiao et al., "Early
    convolutions help transformers see better", 2021) and the mean of the tokens in place of a class token.
    """

    def __init__(
        self,
        classes: int = 10,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        channels: int = 8,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.front = nn.Sequential(LogMel(), SpecAugment())
        self.stem = stem(channels)
        self.embed = nn.Linear(2 * 20 * channels, width)
        self.position = nn.Parameter(0.02 * torch.randn(25, width))
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, wave: Tensor) -> Tensor:
        image = self.stem(self.front(wave)[:, None])  # [N, channels, 20, 50]
        patches = image.flatten(1, 2).transpose(1, 2).unflatten(1, (25, 2)).flatten(2)  # [N, 25, 2 * 20 * channels]
        tokens = self.blocks(self.embed(patches) + self.position)
        return self.head(self.norm(tokens).mean(1))
