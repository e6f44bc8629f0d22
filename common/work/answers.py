"""What a model answers to an artefact as the rows of a judge hold it, and what the task makes of it when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from carom.common.core.batch import Output, ended
from carom.common.core.data import Dataset
from carom.common.core.model import Model
from carom.common.core.tasks import Answers, Task, Values
from carom.common.core.ties import finite
from carom.common.measure.rates import Verdict

JUDGED = 4
"""Times as many examples go through a model on a GPU to be judged as to be attacked: no pass is kept for gradients."""


def ask(model: Model, data: Dataset, size: int, stream: str = "") -> tuple[Answers, Tensor]:
    """(the model's answers to the data, whether each rests on finite numbers bool[N]), `size` examples at a time; of
    random models, those of that stream."""

    def read(output: Output) -> tuple[Answers, Tensor]:
        return data.task.answer(output), finite(ended(output))

    width = data.task.width(data.classes)
    if isinstance(data.stored, Tensor):  # decoded part by part, on the device
        size *= 1 if model.device.type == "cpu" else JUDGED
        starts = range(0, len(data), size)
        parts = [
            (rows + start, said)
            for start in starts
            for rows, said in model.ask(data.batch(start, start + size, model.device), read, size, width, stream)
        ]
    else:
        parts = model.ask(data.batch(), read, size, width, stream)
    order = torch.cat([rows for rows, _ in parts]).argsort()
    answers = Answers.join([answers for _, (answers, _) in parts])
    return answers.take(order.numpy()), torch.cat([sound for _, (_, sound) in parts])[order]


def columns_of(answers: Answers, data: Dataset) -> dict[str, Any]:
    """The columns that answers are stored as: `rejected` only of models that reject."""
    columns = {"answer": answers.said.tolist(), "margin": data.task.gap(answers, data.reference).tolist()}
    return columns if answers.rejected is None else {**columns, "rejected": answers.rejected.tolist()}


def verdict_of(tables: Sequence[pa.Table], task: Task, reference: Values, wanted: Values | None = None) -> Verdict:
    """What a task makes of stored answers, in consecutive tables, given what is right and what an attacker aimed at."""

    def column(name: str) -> Values:
        return np.concatenate([table[name].to_numpy() for table in tables])

    answers = Answers(column("answer"))
    accepted = ~column("rejected") if "rejected" in tables[0].column_names else np.ones(len(answers.said), np.bool_)
    right = task.right(answers, reference)
    return Verdict(
        right=right & accepted,
        fooled=~right & accepted,
        kind=task.kind(answers),
        gap=column("margin").astype(np.float64),
        hit=None if wanted is None else task.right(answers, wanted) & accepted,
    )
