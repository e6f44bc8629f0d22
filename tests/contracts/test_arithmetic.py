"""The last digit of an answer decides nothing: a model whose digits hang on the batch is attacked as if they did not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from carom.common.core.model import Model
from carom.text.models.tokens import TokenModel

LEAST, MOST = 1e-7, 1e-6
"""How far an answer is off, as a share of each logit (of 1, if that is more): from one unit of float32 to eight."""


def blurred(logits: Tensor) -> Tensor:
    """float32[N, C]: off by what depends on the number of rows, the place of a row and the class."""
    noise = torch.rand(2, *logits.shape, generator=torch.Generator().manual_seed(len(logits)))
    share = (LEAST + (MOST - LEAST) * noise[0]) * (noise[1] - 0.5).sign()
    # Classes that tie stay tied: forests add up votes exactly.
    twin = (logits[:, :, None] == logits[:, None]).int().argmax(2)
    share = share.gather(1, twin).detach()
    return (logits + share * logits.detach().abs().clamp_min(1.0)).float()


def jittering(model: Model) -> Model:
    """The model, its last digits left to the batch."""
    own: Any = type(model)

    class Jittering(own):
        def __call__(self, *given: Any) -> Any:
            answer = super().__call__(*given)
            return answer if isinstance(self, TokenModel) else answer._replace(logits=blurred(answer.logits))

        def _logits(self, answer: Tensor) -> Tensor:  # where all that a model of texts says comes by
            return blurred(super()._logits(answer))

    model.__class__ = Jittering
    return model


def test_last_digits_decide_nothing(search_case):
    """Stored bytes, success, status and every cost, whether 24 examples are attacked together, 7 at a time or alone."""
    case = search_case
    model, batch = jittering(case.model(fresh=True)), case.batch()

    def attacked(size: int, count: int) -> list[tuple[Any, ...]]:
        rows = []
        for start in range(0, count, size):
            found = case.run(batch.take(torch.arange(start, min(start + size, len(batch)))), model=model)
            costs = (found.cost.forward, found.cost.backward, found.cost.queries)
            facts = (part.tolist() for part in (found.success, found.status, *costs))
            rows += zip(case.stored(found), *facts, strict=True)
        return rows[:count]

    whole = attacked(24, 24)
    assert attacked(7, 24) == whole
    assert attacked(1, 6) == whole[:6]
