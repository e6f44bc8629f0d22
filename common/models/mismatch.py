"""Data that do not fit a model, said in the user's terms. Shapes that a model states are compared before anything runs
(`models.check_shape`); what a model says nothing of shows when it is first asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.core.data import Dataset
from carom.common.core.model import MISFITS, Model

LOOKED_AT = 4  # examples that a model is asked about before a study begins


def settle(model: Model, data: Dataset) -> None:
    """Ask a model about a few examples before a study begins: what it cannot answer, or answers in a form that is not
    understood, is a CaromError now. What fails otherwise, by a lack of memory say, is left to the units that it fails."""
    if model.recorded or not len(data):
        return
    try:
        with fitting(model, data):
            rows = torch.arange(min(LOOKED_AT, len(data)))
            sizes = data.lengths if data.lengths is not None else _sizes(data)
            if sizes is not None:  # what is padded most of all, and least, shows what padding does
                rows = torch.cat([sizes.argmin()[None], rows, sizes.argmax()[None]]).unique()
            model.settle(data.take(rows).batch().to(model.device), data.task.width(data.classes))
    except CaromError:
        raise
    except Exception:
        return


def _sizes(data: Dataset) -> Tensor | None:
    """Characters of each text; None for data of one size."""
    return None if isinstance(data.stored, Tensor) else torch.tensor([len(text) for text in data.stored])


@contextlib.contextmanager
def fitting(model: Model, data: Dataset) -> Iterator[None]:
    """Where what is computed inside fails, and the model cannot answer the first clean example by itself either, the
    error is a CaromError that names model, data and shape: no part of a study could be computed with them.

    Asking costs nothing unless something fails. Where the model's shape is known, and so that of the data, it is not
    the shape that fails: the unit does, and the rest of a study goes on. So it is where memory runs out.
    """
    try:
        yield
    except MISFITS as error:
        if (said := _refusal(model, data)) is not None:
            raise CaromError(said) from error
        raise


def _refusal(model: Model, data: Dataset) -> str | None:
    """Why the model cannot be asked about the data; None if it can, or if that is not the reason."""
    shape = getattr(model, "shape", None)
    known = shape is not None and None not in shape  # then check_shape has found it to be that of the data
    if known or not isinstance(data.stored, Tensor):
        return None
    try:
        model.ask(data.batch(0, 1), lambda output: None, width=data.task.width(data.classes))
    except torch.OutOfMemoryError:
        return None
    except MISFITS as error:
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        given = "x".join(map(str, data.stored.shape[1:]))
        return (
            f"model {model.name} cannot take examples of {data.name}, which have shape {given}. {model.remedy} "
            f"The model's own words: {words}"
        )
    return None
