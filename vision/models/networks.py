"""Small image networks: residual and VGG-like CNNs, GRUs over rows or patches, vision transformer, MLP and Mixer.

All take images float[N, C, H, W] in [0, 1], normalise them themselves and answer logits float[N, classes]. None
modifies its input in place, and each is differentiable with respect to it in eval mode. Non-linearities, residual
branches and attention maps are modules of their own, so that hooks of model-side attacks can find them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]
"""(channels, height, width) of one image."""


class Normalise(nn.Module):
    """(x - mean) / std for each channel. The constants are the architecture's, so checkpoints do not store them."""

    mean: Tensor  # float[1, C, 1, 1], as is std
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def conv_norm(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the resolution (at stride 1) and the batch norm after it."""
    return [nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)]


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + residual(x)) with two 3 x 3 convolutions in the residual branch."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_norm(inputs, outputs, stride=stride), nn.ReLU(), *conv_norm(outputs, outputs)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_norm(inputs, outputs, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.shortcut(x) + self.residual(x))


class ResNet(nn.Module):
    """A residual CNN (He et al., arXiv:1512.03385): one stage for each width, each but the first halving the image.

    With `stem`, the width of the first convolution, the first stage halves it too: cheaper for larger images.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        normalise: Normalise,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        inputs = widths[0] if stem is None else stem
        self.stem = nn.Sequential(*conv_norm(shape[0], inputs), nn.ReLU())
        stages = []
        for depth, width in enumerate(widths):
            first = ResidualBlock(inputs, width, stride=2 if depth or stem is not None else 1)
            stages.append(nn.Sequential(first, *(ResidualBlock(width, width) for _ in range(blocks - 1))))
            inputs = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(self.normalise(x))).mean((2, 3)))


class VGG(nn.Module):
    """A plain CNN (Simonyan and Zisserman, arXiv:1409.1556): pairs of 3 x 3 convolutions, max pooling, dense head."""

    def __init__(
        self,
        shape: Shape,
        classes: int,
        normalise: Normalise,
        widths: Sequence[int] = (16, 32, 64),
        hidden: int = 96,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        layers, inputs = [], shape[0]
        for width in widths:
            layers += [*conv_norm(inputs, width), nn.ReLU(), *conv_norm(width, width), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = width
        self.features = nn.Sequential(*layers)
        pixels = (shape[1] >> len(widths)) * (shape[2] >> len(widths))
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(inputs * pixels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(self.normalise(x)))


class RowGRU(nn.Module):
    """A bidirectional GRU that reads an image as the sequence of its rows; their mean and maximum are classified."""

    def __init__(
        self, shape: Shape, classes: int, normalise: Normalise, hidden: int = 64, layers: int = 2, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.gru = nn.GRU(
            shape[0] * shape[2], hidden, layers, batch_first=True, bidirectional=True, dropout=dropout * (layers > 1)
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.normalise(x).transpose(1, 2).flatten(2)  # [N, H, C * W]
        states, _ = self.gru(rows)  # [N, H, 2 * hidden]
        return self.head(torch.cat([states.mean(1), states.amax(1)], 1))


class SweepGRU(nn.Module):
    """Bidirectional GRUs that sweep the grid of patches, along its rows and then along its columns, `layers` times
    (ReNet, Visin et al., arXiv:1505.00393); the mean and maximum over the grid are classified.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        normalise: Normalise,
        patch: int = 4,
        hidden: int = 64,
        layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.patches = nn.PixelUnshuffle(patch)
        widths = [shape[0] * patch**2] + [2 * hidden] * (2 * layers - 1)
        self.sweeps = nn.ModuleList(nn.GRU(w, hidden, batch_first=True, bidirectional=True) for w in widths)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        grid = self.patches(self.normalise(x)).permute(0, 2, 3, 1)  # [N, rows, columns, C * patch * patch]
        for sweep in self.sweeps:
            states, _ = sweep(grid.flatten(0, 1))
            grid = states.unflatten(0, grid.shape[:2]).transpose(1, 2)  # the next one sweeps the other way
        return self.head(torch.cat([grid.mean((1, 2)), grid.amax((1, 2))], 1))


class Attention(nn.Module):
    """Multi-head self-attention written out, so that the map itself passes through a module (`attn_drop`)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(dropout)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = self.attn_drop((q @ k.mT * (dim // self.heads) ** -0.5).softmax(-1))  # [N, heads, tokens, tokens]
        return self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, dim))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, each added to its input. Attribute names are those of timm's ViT blocks."""

    def __init__(self, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(expansion * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def patch_embedding(channels: int, dim: int, patch: int, stem: Sequence[int] = ()) -> nn.Module:
    """float[N, C, H, W] to float[N, dim, H / patch, W / patch], first by convolutions of stride 2 and widths `stem`."""
    side = patch >> len(stem)  # of a patch in what the stem answers
    layers: list[nn.Module] = []
    for width in stem:
        layers += [*conv_norm(channels, width, stride=2), nn.ReLU()]
        channels = width
    last = nn.Conv2d(channels, dim, side, side)
    return nn.Sequential(*layers, last) if layers else last


class ViT(nn.Module):
    """A vision transformer (Dosovitskiy et al., arXiv:2010.11929) over `patch` x `patch` pixels; tokens averaged.

    `stem` holds the widths of convolutions of stride 2 before the patches, which then see beyond their own pixels (Xiao
    et al., arXiv:2106.14881).
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        normalise: Normalise,
        patch: int = 7,
        dim: int = 96,
        depth: int = 4,
        heads: int = 4,
        expansion: int = 2,
        dropout: float = 0.1,
        stem: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.patch_embed = patch_embedding(shape[0], dim, patch, stem)
        tokens = (shape[1] // patch) * (shape[2] // patch)
        # Near the size of an embedded patch: from the usual 0.02 small data teaches the order of the patches late.
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim) * 0.2)
        self.blocks = nn.Sequential(*(TransformerBlock(dim, heads, expansion, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(self.normalise(x)).flatten(2).transpose(1, 2)  # [N, tokens, dim]
        return self.head(self.norm(self.blocks(tokens + self.pos_embed)).mean(1))


class MixerBlock(nn.Module):
    """An MLP across the tokens, then one across the channels, each added to its input."""

    def __init__(self, tokens: int, dim: int, expansion: int) -> None:
        super().__init__()

        def mlp(width: int) -> nn.Module:
            return nn.Sequential(nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width))

        self.norm1 = nn.LayerNorm(dim)
        self.token_mlp = mlp(tokens)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.token_mlp(self.norm1(x).mT).mT
        return x + self.mlp(self.norm2(x))


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al., arXiv:2105.01601) over `patch` x `patch` pixels; tokens averaged."""

    def __init__(
        self,
        shape: Shape,
        classes: int,
        normalise: Normalise,
        patch: int = 4,
        dim: int = 96,
        depth: int = 5,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.patch_embed = patch_embedding(shape[0], dim, patch)
        tokens = (shape[1] // patch) * (shape[2] // patch)
        self.blocks = nn.Sequential(*(MixerBlock(tokens, dim, expansion) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch_embed(self.normalise(x)).flatten(2).transpose(1, 2)  # [N, tokens, dim]
        return self.head(self.norm(self.blocks(tokens)).mean(1))


class MLP(nn.Module):
    """Dense layers over the flattened pixels, with batch norm and dropout."""

    def __init__(
        self,
        shape: Shape,
        classes: int,
        normalise: Normalise,
        widths: Sequence[int] = (192, 96),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = shape[0] * shape[1] * shape[2]
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.normalise(x))
