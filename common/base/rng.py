"""Randomness keyed by example, so that no result depends on batch size, order, device or scheduling.

A counter-based generator: the i-th number of an example is a hash of (seed, example id, stream, i), computed with the
same 64-bit integer arithmetic on every device. The mixer is splitmix64's finaliser (Steele, Lea and Flood, 2014).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
SECOND = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own is arithmetic."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """A new tensor, mixed in place: whole waveforms are drawn at once, and memory is what takes the time."""
    x = (x ^ _shift(x, 30)).mul_(FIRST)
    x = x.bitwise_xor_(_shift(x, 27)).mul_(SECOND)
    return x.bitwise_xor_(_shift(x, 31))


def _hash(*parts: object) -> int:
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


@dataclass(frozen=True)
class Rng:
    """One independent stream for each of N examples."""

    keys: Tensor  # int64[N]

    @classmethod
    def of(cls, seed: int, ids: Sequence[str], device: torch.device | str = "cpu") -> Rng:
        """The streams of the examples called `ids` under a root seed."""
        return cls(torch.tensor([_hash(seed, name) for name in ids], dtype=torch.long).to(device))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: Tensor | slice) -> Rng:
        """The streams of some of the examples, or of repeated ones."""
        return Rng(self.keys[rows])

    def fold(self, *names: str | int) -> Rng:
        """A stream of its own for a purpose and step: `rng.fold("start")`, `rng.fold("square", step)`."""
        return Rng(_mix(self.keys ^ _hash(*names)))

    def numbered(self, numbers: Tensor) -> Rng:
        """A stream of its own for each example's own number, int64[N]: how often it was asked, say."""
        return Rng(_mix(self.keys ^ _mix(numbers * GOLDEN)))

    def bits(self, *shape: int) -> Tensor:
        """int64[N, *shape]: 64 random bits each."""
        count = math.prod(shape)
        counter = torch.arange(1, count + 1, device=self.keys.device) * GOLDEN
        return _mix(self.keys[:, None] + counter).view(len(self), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """float32[N, *shape] in [0, 1)."""
        return _shift(self.bits(*shape), 40).float().div_(1 << 24)

    def signs(self, *shape: int) -> Tensor:
        """float32[N, *shape] of -1 and 1."""
        return 1.0 - 2.0 * _shift(self.bits(*shape), 63).float()

    def normal(self, *shape: int) -> Tensor:
        """float32[N, *shape] of standard normal numbers (Box and Muller)."""
        bits = self.bits(*shape)
        radius = (_shift(bits, 40).float() + 1) / (1 << 24)
        angle = (bits & 0xFFFFFF).float() / (1 << 24)
        return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()

    def integers(self, high: Tensor | int, *shape: int) -> Tensor:
        """int64[N, *shape] in [0, high); `high` broadcasts."""
        return _shift(self.bits(*shape), 1) % high
