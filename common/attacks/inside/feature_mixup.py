"""Feature mixing: clean features of other examples that compete with the attack inside the source model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.oracle import Oracle
from carom.common.models.evaluation.row_blocks import ROWS_TOGETHER
from carom.common.models.layers import layers, watching


@dataclass(frozen=True)
class FeatureMix:
    """A surgery: with probability `p`, a linear layer, or a convolution whose features are at most a share `width` as
    wide as the input, hands on its features mixed with those of a clean example, channel by channel in shares of up to
    `most` (clean feature mixup, Byun et al. 2023, section 3.2, with the constants of its released code).

    The paper mixes with the other images of the batch, one draw for all of it. Here every example has `partners` of its
    own among `Problem.others`, whose features are computed once (as many forward passes, counted) and kept; which is
    mixed in, whether and in which shares is drawn for each example, layer and step. What is kept is that many times the
    outputs of all these layers: fewer partners where memory is short.
    """

    p: float = 0.1
    most: float = 0.75
    partners: int = 3
    width: float = 0.25

    def __post_init__(self) -> None:
        if self.partners < 1:
            raise CaromError(f"partners={self.partners}: features are mixed with those of one example at least.")

    @contextlib.contextmanager
    def __call__(self, oracle: Oracle) -> Iterator[Callable[[Rng], None]]:
        modules = layers(oracle.problem.model, *KINDS)
        mixing = Mixing(self, modules, self.clean(oracle, modules), max(1, len(oracle.batch)))
        with watching(modules, mixing.see):
            yield mixing.announce

    def clean(self, oracle: Oracle, modules: dict[str, nn.Module]) -> dict[str, Tensor]:
        """Layer -> [partners, N, ...]: what it answers to every example's partners."""
        others, n = oracle.problem.others, len(oracle.batch)
        if others is None or not len(others):
            raise CaromError("feature mixing needs clean examples that are not under attack; none were given.")
        # By the example alone, whatever the seed: a surgery has no stream of its own.
        stream = Rng.of(0, oracle.batch.ids, oracle.batch.labels.device).fold("partner")
        kept: dict[str, list[Tensor]] = {name: [] for name in modules}
        widest = self.width * others.inputs.shape[-1]

        def keep(name: str, out: Tensor) -> None:
            if fits(out, n) and (isinstance(modules[name], nn.Linear) or out.shape[-1] <= widest):
                kept[name].append(out[:n].detach())

        with watching(modules, keep):
            for chosen in stream.integers(len(others), self.partners).unbind(1):
                oracle.logits(others.inputs[chosen], pays=False)
        # A layer that is passed twice in one answer has no one place to mix at.
        return {name: torch.stack(outs) for name, outs in kept.items() if len(outs) == self.partners}


KINDS = (nn.Conv1d, nn.Conv2d, nn.Linear)


def fits(out: Tensor, rows: int) -> bool:
    """Whether a layer's output has one row for each of the model's, beside those that the model adds."""
    return 0 <= len(out) - rows < ROWS_TOGETHER and out.dim() > 1


class Mixing:
    """FeatureMix for the N examples of one batch."""

    def __init__(self, mix: FeatureMix, modules: dict[str, nn.Module], clean: dict[str, Tensor], n: int) -> None:
        self.mix, self.modules, self.clean, self.n = mix, modules, clean, n
        self.rng: Rng | None = None  # of the rows that come next

    def announce(self, rng: Rng) -> None:
        self.rng = rng

    def see(self, name: str, out: Tensor) -> Tensor | None:
        rng, clean = self.rng, self.clean.get(name)
        if rng is None or clean is None or not torch.is_grad_enabled() or not fits(out, len(rng)):
            return None
        rng = rng.fold("mix", name)
        rows = (rng.fold("whether").uniform() < self.mix.p).nonzero().squeeze(1)
        if not len(rows):
            return None
        rng = rng[rows]
        partner = rng.fold("who").integers(len(clean))
        axis = out.dim() - 1 if isinstance(self.modules[name], nn.Linear) else 1  # of the channels
        share = self.mix.most * rng.fold("share").uniform(out.shape[axis]).to(out.dtype)
        share = share.view(len(rows), *[-1 if at == axis else 1 for at in range(1, out.dim())])
        return out.index_put((rows,), torch.lerp(out[rows], clean[partner, rows % self.n], share))
