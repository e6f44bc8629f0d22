"""A bidirectional LSTM that goes on from where a changed word stands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carom.text.models.networks import Changes, TokenNetwork, taken

RUN = 512  # rows that a recurrent network goes on with at once: their gates stay near the processor


class BiLstm(TokenNetwork):
    """One LSTM from each end, and the mean and maximum of their states over time."""

    def __init__(self, words: int, dim: int = 64, hidden: int = 64, classes: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dim, padding_idx=0)
        self.ahead = nn.LSTM(dim, hidden, batch_first=True)
        self.back = nn.LSTM(dim, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * hidden, classes)

    def from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        turn = reversal(mask)
        x = self.dropout(embeddings)
        ahead, _ = self.ahead(x)
        back, _ = self.back(taken(x, turn))
        states = torch.cat([ahead, taken(back, turn)], 2)  # [N, L, 2 * hidden]
        mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        peak = states.masked_fill(~mask[:, :, None], -1).amax(1)  # an LSTM's states lie in (-1, 1)
        return self.head(self.dropout(torch.cat([mean, peak], 1)))

    def pays(self, rows: int) -> bool:
        """Whether working rows out from others is less work than computing them whole."""
        return rows >= 48  # fewer do not pay for what their bases cost

    @torch.no_grad()
    def moved(self, ids: Tensor, changes: Changes) -> Tensor:
        """Logits float[R, C] of rows that differ from `ids` int64[B, L] by one change each, in evaluation mode.

        Up to the change the states are those of the base, from each end: only the rest is computed.
        """
        lengths = (ids != 0).sum(1)
        at, most = changes.rows, changes.new.shape[1]
        place = torch.arange(most)
        turned = changes.new.gather(1, (changes.count[:, None] - 1 - place).clamp(min=0)) * (
            place < changes.count[:, None]
        )
        turn = reversal(ids != 0)
        ahead = _resumed(self.ahead, self.embedding, ids, changes)
        mirrored = Changes(at, lengths[at] - changes.stop, lengths[at] - changes.start, turned, changes.count)
        back = _resumed(self.back, self.embedding, ids.gather(1, turn), mirrored)
        total, peak = (torch.cat(pair, 1) for pair in zip(ahead, back, strict=True))
        after = lengths[at] - changes.stop + changes.start + changes.count
        return self.head(torch.cat([total / after[:, None], peak], 1))


def _resumed(lstm: nn.LSTM, embedding: nn.Embedding, ids: Tensor, changes: Changes) -> tuple[Tensor, Tensor]:
    """(sum, maximum) over time, float[R, hidden] each, of an LSTM's states over the rows that `changes` makes of `ids`
    int64[B, L]: what it reads before the change is read once for each base."""
    cell, lengths, at = _Cell(lstm, embedding, ids, changes.new), (ids != 0).sum(1), changes.rows
    needed = torch.zeros(len(ids), dtype=torch.long).scatter_reduce(0, at, changes.start, "amax")
    first = needed.argsort(descending=True)  # the bases with the most to read first
    place = first.argsort()[at]
    width = int(needed.max())
    h, c, total = (cell.weight.new_zeros(width + 1, len(ids), lstm.hidden_size) for _ in range(3))
    peak = cell.weight.new_full(h.shape, -2)  # twice an LSTM's states, which lie in (-1, 1)
    for t, live in enumerate((needed[:, None] > torch.arange(width)).sum(0).tolist()):
        state, c[t + 1, :live] = cell.step(cell.base[first[:live], t], h[t, :live], c[t, :live])
        h[t + 1, :live] = state
        torch.add(total[t, :live], state, out=total[t + 1, :live])
        torch.maximum(peak[t, :live], state, out=peak[t + 1, :live])
    # The rows with the most left to read first, so that those that have ended are at the end.
    left = changes.count + lengths[at] - changes.stop
    order = left.argsort(descending=True, stable=True)
    ends = [
        _run(cell, [known[changes.start[rows], place[rows]] for known in (h, c, total, peak)], changes, left, rows)
        for rows in order.split(RUN)
    ]
    back = order.argsort()
    total, peak = (torch.cat(parts)[back] / 2 for parts in zip(*ends, strict=True))
    return total, peak


def _run(cell: _Cell, begin: Sequence[Tensor], changes: Changes, left: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """(sum, maximum) of the states of some rows to their ends, from what they are at the change."""
    h, c, total, peak = begin
    at, count, step = changes.rows[rows], changes.count[rows, None], torch.arange(int(left[rows[0]]))
    source = (changes.stop[rows, None] + step - count).clamp(0, max(0, cell.base.shape[1] - 1))
    fresh = cell.new[rows[:, None], step.clamp(max=cell.new.shape[1] - 1)]
    read = torch.where(step < count, fresh, cell.base[at[:, None], source]).T.contiguous()
    for words, live in zip(read, (left[rows, None] > step).sum(0).tolist(), strict=True):
        if live < len(h):
            h, c = h[:live], c[:live]
        h, c = cell.step(words[:live], h, c)
        total[:live] += h
        torch.maximum(peak[:live], h, out=peak[:live])
    return total, peak


class _Cell:
    """One step of an LSTM for many rows. What each word adds to the gates is computed once for all its places.

    Sigmoids are taken as tanh, which is several times faster: 2 sigmoid(x) = 1 + tanh(x / 2). The state is 2h.
    """

    def __init__(self, lstm: nn.LSTM, embedding: nn.Embedding, ids: Tensor, new: Tensor) -> None:
        words, at = torch.cat([ids.flatten(), new.flatten()]).unique(return_inverse=True)
        self.base, self.new = at[: ids.numel()].view_as(ids), at[ids.numel() :].view_as(new)
        enters, recurs, bias, bias_too = (p.detach() for p in lstm.parameters())  # one layer, one direction
        halves = recurs.new_tensor([0.5, 0.5, 1, 0.5])[:, None]  # input, forget, cell, output
        added = F.linear(embedding(words), enters, bias + bias_too)
        self.added = (added.view(-1, 4, lstm.hidden_size) * halves).flatten(1)
        self.weight = (recurs.view(4, lstm.hidden_size, -1) * halves[:, None] / 2).flatten(0, 1).T.contiguous()

    def step(self, words: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The next (2h, c) float[R, hidden] of rows that read these words int64[R], from theirs."""
        gates = self.added.index_select(0, words).addmm_(h, self.weight).tanh_()
        enter, forget, value, leave = gates.chunk(4, 1)
        c = c.addcmul(c, forget).add_(value).addcmul_(value, enter).mul_(0.5)
        h = c.tanh()
        return h.addcmul(h, leave), c


def reversal(mask: Tensor) -> Tensor:
    """int64[N, L]: the positions that read each row backwards and leave its padding where it is."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    turned = mask.sum(1, keepdim=True) - 1 - positions
    return torch.where(turned < 0, positions, turned)
