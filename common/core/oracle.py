"""The attacker's view of a model: answers and gradients, counted per example, never more than the budget."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, Goal, joined, seen_by
from carom.common.core.objectives import Objective
from carom.common.core.precision import FP32, computing_in
from carom.common.core.problem import Cost, Problem, Result, Status
from carom.common.core.rounding import within
from carom.common.core.spaces import Inputs
from carom.common.core.tasks import AttackGoal, of_classes
from carom.common.core.threats import column

if TYPE_CHECKING:
    from carom.common.core.model import Model

MEMORY = 2**30
"""Bytes that a backward pass over stacked copies of a batch may keep of its forward pass, where a GPU does not tell how
much memory it has left."""

FREE = 4
"""A GPU's free memory is left to other uses but for one part in so many."""

CACHED = 2**26
"""The same on a CPU, where stacking gains nothing beyond some tens of rows, and loses a fifth where caches overflow."""

ROWS = 1024
"""Questions that go through the model together."""

ASKED = 2**24
"""Bytes of such questions, where they are more than the batch: 27 images of 224 x 224 in colour."""


ON_GPU = 8
"""Times as many of them go through a model together on a GPU, which is idle until there are many."""


def room_on(device: torch.device) -> int:
    """Bytes that may be kept of a forward pass on a GPU: a share of what is free or cached by torch."""
    try:
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    except (RuntimeError, AssertionError):
        return MEMORY
    return (free + cached) // FREE


class Oracle:
    """Asks the model of one problem about one batch and keeps count."""

    def __init__(self, problem: Problem, batch: Batch) -> None:
        self.problem = problem
        self.batch = batch
        zeros = torch.zeros(len(batch), dtype=torch.long, device=batch.labels.device)
        self.forward, self.backward, self.queries = zeros, zeros.clone(), zeros.clone()
        self.again: dict[int, int] = {}  # id of a network -> how many more times a surgery has its gradients taken
        self._rows: Tensor | None = None  # of the counters: which examples these are
        self._kept: int | None = None  # bytes that one pass over the batch keeps for its backward pass
        self._measures = False

    def take(self, rows: Tensor) -> Oracle:
        """The same problem about some of the examples, on the same counters."""
        part = Oracle(replace(self.problem, goal=self.problem.goal.take(rows)), self.batch.take(rows))
        part.forward, part.backward, part.queries = self.forward, self.backward, self.queries
        part.again = self.again
        part._rows = rows if self._rows is None else self._rows[rows]
        return part

    def of(self, model: Model) -> Oracle:
        """The same question to another model, on the same counters."""
        other = copy.copy(self)
        other.problem, other._kept = replace(self.problem, model=model), None
        return other

    def towards(self, targets: Tensor) -> Oracle:
        """The same question with the classes int64[N] to aim at, on the same counters."""
        other = copy.copy(self)
        other.problem = replace(self.problem, goal=Goal(of_classes(self.problem.goal).labels, targets))
        return other

    def _count(self, counter: Tensor, rows: Tensor | None, times: int = 1) -> None:
        if counter is not self.queries:  # an ensemble answers once, whatever that takes it
            times *= self.problem.model.passes
        self._add(counter, rows, times)

    def _again(self, model: Model) -> int:
        return self.again.get(id(model), 0) + sum(map(self._again, getattr(model, "members", ())))

    def _add(self, counter: Tensor, rows: Tensor | None, times: int) -> None:
        if rows is None:
            rows = self._rows
        elif self._rows is not None:
            rows = self._rows[rows]
        if rows is None:
            counter += times
        else:
            counter.index_add_(0, rows, torch.full_like(rows, times))

    def count(self, row: int, forward: int = 0, backward: int = 0, queries: int = 0) -> None:
        """What was asked about one example without this oracle's help."""
        at = torch.tensor([row], device=self.forward.device)
        for counter, times in ((self.forward, forward), (self.backward, backward), (self.queries, queries)):
            self._count(counter, at, times)

    def logits(self, x: Inputs, rows: Tensor | None = None, pays: bool = True, draws: int | None = None) -> Tensor:
        """The logits by which the goal is judged (`seen_by`) of x, which are versions of the examples `rows` (all, by
        default). `pays` counts them as queries.

        What is paid for is one answer, whatever a random model draws for it. An attacker who looks for himself, as one
        who holds the model can, takes the mean of several (EOT), unless told how many `draws`."""
        streams, draws = self._streams(rows), draws or (1 if pays else self.draws)
        found = Mean()
        for draw in range(draws):
            found.add(self._answers(x, rows, streams, draw))
        self._count(self.forward, rows, draws)
        if pays:
            self._count(self.queries, rows)
        return found.parts[0]

    def _answers(self, x: Inputs, rows: Tensor | None, streams: Rng | None, draw: int) -> Tensor:
        lengths, goal, parts, size = self._lengths(rows), self.goal(rows), [], self._rows_at_once(x)
        with torch.no_grad(), computing_in(FP32):
            for start in range(0, max(1, len(x)), size):
                part = slice(start, start + size)
                model = self._keyed(None if streams is None else streams[part], draw)
                answer = model(x[part], None if lengths is None else lengths[part])
                judged = goal.take(torch.arange(len(x), device=self.forward.device)[part]) if len(x) > size else goal
                parts.append(seen_by(judged, answer._replace(logits=answer.logits.float())))
        return joined(parts).to(self.batch.labels.device)

    @property
    def draws(self) -> int:
        """How many draws of a random model an attacker averages over who holds it."""
        model = self.problem.model
        return (self.problem.eot or model.eot) if model.random else 1

    def _streams(self, rows: Tensor | None, copies: int = 1) -> Rng | None:
        """A stream for each of the rows that are asked next, by its example and how often that was asked before; None of
        a model that draws nothing."""
        if not self.problem.model.random:
            return None
        at = torch.arange(len(self.batch), device=self.forward.device) if rows is None else rows
        at = at.repeat(copies)
        asked = self.forward[at if self._rows is None else self._rows[at]]
        examples = Rng.of(0, self.batch.ids, self.forward.device).fold("query", *self.problem.stream)
        return examples[at].numbered(asked + _before(at))

    def _keyed(self, streams: Rng | None, draw: int) -> Model:
        model = self.problem.model
        return model if streams is None else model.keyed(streams.fold("draw", draw))

    def _rows_at_once(self, x: Inputs) -> int:
        """How many questions go through the model together: a batch, as the user states it, or more small ones."""
        if not isinstance(x, Tensor) or not len(x):
            return ROWS
        room = ASKED * (1 if x.device.type == "cpu" else ON_GPU)
        return max(1, min(len(self.batch), ROWS), min(ROWS, room // max(1, x[0].numel() * x.element_size())))

    def gradient(
        self,
        objective: Objective,
        x: Tensor,
        copies: int = 1,
        through: Callable[[Tensor], Tensor] | None = None,
        at: Callable[[], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(d sum(loss) / dx, loss, logits) at x[copies*N, ...]: one forward and one backward row each.

        `through` is applied to x before the model. `at` names another tensor to differentiate by, once the model has
        answered: the output of an inner layer. A model whose answer does not follow from x by differentiable steps has
        a gradient of zero. Of a random model all three are means over its draws (EOT, Athalye et al. 2018), which cost
        so many rows each.
        """
        goal = self.problem.goal.repeat(copies) if copies > 1 else self.problem.goal
        lengths = None if self.batch.lengths is None else self.batch.lengths.repeat(copies)
        x, streams, found = x.detach().requires_grad_(), self._streams(None, copies), Mean()
        for draw in range(self.draws):
            with torch.enable_grad():
                views = x if through is None else through(x)
                with self._measured() if self._measures and copies == 1 else contextlib.nullcontext():
                    loss, logits = self._keyed(streams, draw).loss(objective, views, lengths, goal)
                by = x if at is None else at()
                grad = torch.zeros_like(by)
                if loss.requires_grad and by.requires_grad:
                    (grad,) = torch.autograd.grad(loss.sum(), by, materialize_grads=True)
            found.add(grad, loss.detach(), logits.detach())
        self._count(self.forward, None, copies * self.draws)
        self._count(self.backward, None, copies * self.draws)
        if again := self._again(self.problem.model):
            self._add(self.backward, None, copies * again * self.draws)
        mean, loss, logits = found.parts
        return mean, loss, logits

    def gradients(self, objectives: Objective, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(d losses / dx [N, K, ...], losses float[N, K], logits) at x[N, ...], for an objective with K losses an
        example: one forward and K backward rows each, for each draw of a random model."""
        x, streams, found = x.detach().requires_grad_(), self._streams(None), Mean()
        for draw in range(self.draws):
            with torch.enable_grad():
                model = self._keyed(streams, draw)
                losses, logits = model.loss(objectives, x, self.batch.lengths, self.problem.goal)
                grads = torch.zeros(*losses.shape, *x.shape[1:], dtype=x.dtype, device=x.device)
                if losses.requires_grad:
                    for k, loss in enumerate(losses.unbind(1)):
                        grads[:, k] = torch.autograd.grad(
                            loss.sum(), x, retain_graph=k + 1 < losses.shape[1], materialize_grads=True
                        )[0]
            found.add(grads, losses.detach(), logits.detach())
        self._count(self.forward, None, self.draws)
        self._count(self.backward, None, self.draws * losses.shape[1])
        mean, losses, logits = found.parts
        return mean, losses, logits

    def copies_at_once(self) -> int:
        """How many stacked copies of the batch one backward pass may hold: 1 until a first pass has been measured."""
        self._measures = self._kept is None
        device = self.problem.model.device
        most = room_on(device) if device.type == "cuda" else min(MEMORY, CACHED)
        return 1 if self._kept is None else max(1, most // max(1, self._kept))

    @contextlib.contextmanager
    def _measured(self) -> Iterator[None]:
        """Adds up what the forward pass inside keeps for its backward pass."""
        kept: dict[int, int] = {}  # address of a storage -> its bytes, whatever views of it are kept

        def pack(tensor: Tensor) -> Tensor:
            whole = tensor if tensor._base is None else tensor._base
            if not isinstance(whole, nn.Parameter):  # weights are there in any case
                storage = tensor.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield
        self._kept, self._measures = sum(kept.values()), False

    def _lengths(self, rows: Tensor | None) -> Tensor | None:
        lengths = self.batch.lengths
        return lengths if lengths is None or rows is None else lengths[rows]

    def goal(self, rows: Tensor | None = None) -> AttackGoal:
        return self.problem.goal if rows is None else self.problem.goal.take(rows)

    def reached(self, x: Tensor, logits: Tensor) -> Tensor:
        """bool[N]: whose stored form reaches the goal, given the logits of x. Asked about are only those whose x does
        and whose stored form is another."""
        likely, stored = self.problem.goal.achieved(logits), self.store(x)
        rows = (likely & (stored != x).flatten(1).any(1)).nonzero().squeeze(1)
        if not len(rows):
            return likely
        part = self.take(rows)
        return likely.index_put((rows,), part.goal().achieved(part.logits(stored[rows], pays=False)))

    def cost(self) -> Cost:
        return Cost(self.forward.cpu(), self.backward.cpu(), self.queries.cpu())

    def finish(self, x: Tensor, status: Tensor) -> Result:
        """Round x to its stored form within the budget, ask once more whether it succeeds, and hand over the result.

        Examples whose status says that nothing could be done are handed back unchanged.
        """
        x0 = self.batch.inputs
        unchanged = (status == Status.BAD_GRADIENT) | (status == Status.NO_GRADIENT) | (status == Status.INFEASIBLE)
        x = torch.where(column(unchanged, x), x0, x)
        stored = self.store(x)
        logits = self.logits(stored, pays=False)
        return Result(stored, self.problem.goal.achieved(logits).cpu(), self.cost(), status.cpu())

    def store(self, x: Tensor) -> Tensor:
        """x as it will be read back, no farther from the clean inputs than the threat allows."""
        return within(self.problem.threat, self.problem.model.space, x, self.batch.inputs)


class Mean:
    """The mean of what draws gave, of which only the sum is held."""

    def __init__(self) -> None:
        self.sums: tuple[Tensor, ...] = ()
        self.count = 0

    def add(self, *parts: Tensor) -> None:
        self.sums = tuple(map(_sum, self.sums, parts)) if self.count else parts
        self.count += 1

    @property
    def parts(self) -> tuple[Tensor, ...]:
        return self.sums if self.count == 1 else tuple(part / self.count for part in self.sums)


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """Of sequences of two lengths, as long as the longer."""
    if one.shape != other.shape:
        one, other = joined([one, other]).split(len(one))
    return one + other


def _before(at: Tensor) -> Tensor:
    """int64[R]: how many of the numbers before each are the same."""
    order = at.argsort(stable=True)
    ranked, places = at[order].contiguous(), torch.arange(len(at), device=at.device)
    return torch.empty_like(at).index_copy(0, order, places - torch.searchsorted(ranked, ranked))
