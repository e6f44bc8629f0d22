"""Input reduction: how few words of a text a model needs to keep its answer.

Feng et al. 2018, Pathologies of neural models make interpretations difficult, section 2. Not an attack in the sense of
the registry: the answer is to stay, so that success, controls and transfer mean nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from carom.common.attacks.edits.editable import Edit, Editable, affordable
from carom.common.attacks.edits.requests import EditSearch, Found, ScoreMoves
from carom.common.attacks.edits.scheduler import Lockstep
from carom.common.base.rng import Rng
from carom.common.core.batch import Goal
from carom.common.core.model import Model
from carom.common.core.problem import Status
from carom.text.candidates.forms import LeaveOut
from carom.text.threats import WordBudget


@dataclass(frozen=True)
class Keep:
    """Leave out, one after another, the word without which the model is surest of its answer, while it keeps it."""

    def search(self, example: Editable, rng: Rng) -> EditSearch:
        edit: Edit = {}
        while len(edit) + 1 < len(example.sizes):
            answer = yield ScoreMoves(edit, moves := affordable(example, edit))
            best = answer.best([row for row, hit in enumerate(answer.reached) if hit])
            if best is None or answer.over:
                break
            site, option = moves[best]
            edit = {**edit, site: option}
        return Found(edit, True, Status.DONE)


def reduce_inputs(model: Model, texts: Sequence[str]) -> list[str]:
    """Each text without the words that the model does not need for the answer it gives; at least one word stays.

    The paper ranks words by the gradient; here every word is tried at every step, on all texts side by side.
    """
    budget, stored = WordBudget(1.0, LeaveOut(), keep_stop_words=False), model.space.clamp(list(texts))
    examples = [budget.editable(text) for text in stored]
    rng = Rng.of(0, [str(i) for i in range(len(stored))])
    with model.frozen():
        with torch.inference_mode():
            asked = model.keyed(rng.fold("answer"))
            answers = asked(stored).logits.argmax(1).cpu() if stored else torch.zeros(0, dtype=torch.long)
        lockstep = Lockstep(model, examples, Goal(answers, answers), streams=rng.fold("query"))
        found = lockstep.run([Keep().search(e, rng[torch.tensor([i])]) for i, e in enumerate(examples)])
    return [example.edit(f.edit).strip() for example, f in zip(examples, found, strict=True)]
