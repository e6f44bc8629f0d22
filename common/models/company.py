"""The company in which a network answers an example: a user asks it for one input, an attack asks for batches.

What an example is padded with, and what stands beside it, must not change its answer. Where they would, examples of
equal length are asked together, or each is asked alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.notices import notice
from carom.common.core.batch import Batch, Output
from carom.common.core.model import MISFITS, Model, check_shape
from carom.common.core.spaces import Inputs

APART = 1e-3
"""By how much logits differ, as a share of the largest, that are not the same up to rounding."""

Ask = Callable[[Any, Tensor | None], Tensor]
"""(inputs[N, ..., L] or N texts, lengths or None) -> logits[N, C]"""


def differ(one: Tensor, other: Tensor) -> bool:
    """Whether logits of the same examples are apart by more than rounding."""
    if one.shape != other.shape or not bool((one.isfinite() & other.isfinite()).all()):
        return one.shape != other.shape
    return float((one - other).abs().max()) > APART * max(1.0, float(one.abs().max())) if one.numel() else False


def in_groups(ask: Ask, inputs: Inputs, lengths: Tensor | None, groups: Sequence[Tensor]) -> Tensor:
    """Logits[N, C], asked group by group. With lengths, each group is cut to its own, which all of it have."""
    answers = []
    for rows in groups:
        part: Any = inputs[rows] if isinstance(inputs, Tensor) else [inputs[row] for row in rows.tolist()]
        if lengths is not None:
            part = part[..., : int(lengths[rows[0]])]
        answers.append(ask(part, None if lengths is None else lengths[rows]))
    order = torch.cat(list(groups)).argsort()
    return torch.cat(answers)[order.to(answers[0].device)]


def of_equal_length(lengths: Tensor) -> list[Tensor]:
    """Rows grouped by their length, in the order of lengths."""
    return [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]


def one_by_one(count: int) -> list[Tensor]:
    return [torch.tensor([row]) for row in range(count)]


COMPANY, CHANCE = "company", "chance"


def what_moves(together: Tensor, alone: Callable[[int], Tensor]) -> str | None:
    """What makes the answer[N, C] to some row in company another than to the row alone: COMPANY, or CHANCE, where the row
    alone is answered otherwise each time; None where nothing does."""
    for row in range(len(together)):
        own = alone(row)
        if differ(together[row : row + 1], own):
            return CHANCE if differ(own, alone(row)) else COMPANY
    return None


def tell(model: Model, what: str | None) -> bool:
    """Say what moves a model's answers; whether each of its inputs has to be asked alone."""
    if what == CHANCE:
        model.facts["chance"] = "it answers the same input otherwise each time"
        notice(
            f"model {model.name} answers the same input otherwise each time, so its numbers are of one draw. If that is not "
            "meant, look for dropout or noise that evaluation mode does not turn off."
        )
    if what == COMPANY:
        model.facts["company"] = "statistics of the batch change its answers: each input is asked alone"
        notice(
            f"model {model.name} answers an input otherwise when others stand beside it: it uses statistics of the "
            "batch. Each input is asked alone, which is slow; give it running statistics to have its own answers."
        )
    return what == COMPANY


class CompanyModel(Model):
    """A model of inputs that may be padded to one length, kept from company where it would change the answers."""

    shape: tuple[int | None, ...] | None = None  # of one input, None where any size goes
    takes_lengths = False
    alone = False  # whether each input is asked by itself, because company changes the answers
    cuts: bool | None = None  # whether padding is cut off; None: not known yet

    def together(self, inputs: Any, lengths: Tensor | None) -> Tensor:
        """float[N, C]: of inputs that are asked in one call."""
        raise NotImplementedError

    def single(self, inputs: Any, lengths: Tensor | None) -> Tensor:
        """float[1, C]: of one input, with nothing beside it."""
        return self.together(inputs, lengths)

    def __call__(self, inputs: Inputs, lengths: Tensor | None = None) -> Output:
        if isinstance(inputs, Tensor):
            check_shape(self, inputs)
        cut = lengths is not None and isinstance(inputs, Tensor) and self._cut(inputs, lengths)
        if self.alone and len(inputs) > 1:
            ends = lengths if cut or self.takes_lengths else None
            return Output(in_groups(self.single, inputs, ends, one_by_one(len(inputs))))
        if cut and lengths is not None:
            return Output(in_groups(self.together, inputs, lengths, of_equal_length(lengths)))
        return Output((self.single if self.alone else self.together)(inputs, lengths))

    def _cut(self, inputs: Tensor, lengths: Tensor) -> bool:
        """Whether padding is cut off, so that each input is asked as its owner asks it. A model that cannot take the
        shortest of them has to be given them padded."""
        one_length = self.shape is not None and self.shape[-1] is not None
        # A model that takes lengths is seen to make something of padding all the same, or not.
        if one_length or self.cuts is False or (self.takes_lengths and self.cuts is None):
            return False
        if bool((lengths == inputs.shape[-1]).all()):  # last: on a GPU the host waits for it
            return False
        if self.takes_lengths:
            return True
        if self.cuts is None:
            self.cuts = self._takes(inputs, lengths, int(lengths.argmin())) is None
            if not self.cuts:
                self.facts["padding"] = "inputs are padded to one length, which the module asks for"
        return self.cuts

    def _takes(self, inputs: Tensor, lengths: Tensor, row: int) -> str | None:
        """Why a row cannot be asked without its padding; None if it can."""
        try:
            with self.frozen(), torch.inference_mode():
                self.together(inputs[row : row + 1, ..., : int(lengths[row])], lengths[row : row + 1])
        except MISFITS as error:
            return (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None

    def settle(self, batch: Batch, width: int | None) -> None:
        """Find out, on a few inputs, whether padding or company changes the answers, as statistics of the batch do."""
        super().settle(batch, width)
        inputs, lengths = batch.inputs, batch.lengths
        if isinstance(inputs, Tensor) and lengths is not None:
            self._check_lengths(batch)
            if self.takes_lengths or self._cut(inputs, lengths):
                inputs, lengths = inputs[..., : int(lengths.min())], lengths.clamp(max=int(lengths.min()))

        def alone(row: int) -> Tensor:
            return self.single(inputs[row : row + 1], None if lengths is None else lengths[row : row + 1])

        with self.frozen(), torch.inference_mode():
            self.alone = tell(self, what_moves(self.together(inputs, lengths), alone))

    def _check_lengths(self, batch: Batch) -> None:
        """Whether a model that takes lengths makes something of padding; a model that takes sounds of any length, but not
        the shortest, is not given that one padded."""
        inputs, lengths = batch.inputs, batch.lengths
        assert isinstance(inputs, Tensor)
        assert lengths is not None
        fixed = self.shape is not None and self.shape[-1] is not None
        if fixed or bool((lengths == inputs.shape[-1]).all()):
            return
        if not self.takes_lengths and self.cuts is False:
            fits = [row for row in range(len(lengths)) if int(lengths[row]) < inputs.shape[-1]]
            why = {row: self._takes(inputs, lengths, row) for row in fits}
            if short := [
                row for row in fits if why[row] is not None and len(set(why.values())) > 1 and None in why.values()
            ]:
                row = min(short, key=lambda row: int(lengths[row]))
                self.cuts = None  # nothing is settled
                raise CaromError(
                    f"model {self.name} cannot take {batch.ids[row]}, which is {int(lengths[row])} samples long ({why[row]}), "
                    "and takes longer ones. Leave out what is too short for it, or wrap it in a module that takes it."
                )
        if self.takes_lengths and not self.cuts:
            with self.frozen(), torch.inference_mode():
                padded = self.together(inputs, lengths)
                own = in_groups(self.single, inputs, lengths, one_by_one(len(inputs)))
            if differ(padded, own):
                self.cuts = True
                self.facts["padding"] = (
                    "padding moves its answers: inputs of equal length are asked together, without any"
                )
