"""Pairs of clean and adversarial inputs as arrays, from whatever made them: an .npz of `clean`, `adversarial`, `labels`."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.specs import existing
from carom.common.core.adversarial_set import AdversarialSet
from carom.common.core.data import Dataset
from carom.common.core.problem import Cost, Status
from carom.common.core.spaces import Box
from carom.common.loading.facts import class_names

NAMES = {
    "clean": ("clean", "original", "x"),
    "adversarial": ("adversarial", "x_adv"),
    "labels": ("labels", "label", "y"),
}
"""What the arrays may be called."""


def load_arrays(
    path: Path,
    *,
    modality: str,
    space: Box,
    classes: Sequence[str] | str | None = None,
    data: Dataset | None = None,
    on_error: str = "raise",
) -> AdversarialSet:
    """The inputs [N, ...] of an .npz file: integers of the space's stored type as they are, real values of its range
    rounded to them. Images with their channels last are turned. Of padded inputs, `lengths` says where they end.

    The file does not say within which budget they were made: measuring takes `threat` and `eps`. Arrays are taken
    whole: there is nothing to skip.
    """
    path, found = existing(path, "file of arrays"), {}
    try:
        with np.load(path, allow_pickle=False) as held:
            for what, names in NAMES.items():
                name = next((n for n in names if n in held), None)
                if name is None:
                    raise CaromError(f"{path}: no array {' or '.join(names)}; it holds {', '.join(held) or 'none'}.")
                found[what] = held[name]
            lengths = torch.from_numpy(held["lengths"].astype(np.int64)) if "lengths" in held else None
            rate = int(held["sample_rate"]) if "sample_rate" in held else None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CaromError(f"{path}: not arrays that numpy saved without pickle ({error}).") from None
    if rate is not None and hasattr(space, "sample_rate"):
        rated: dict[str, Any] = {"sample_rate": rate}
        space = replace(space, **rated)
    clean, adversarial = (_stored(found[what], space, path, what) for what in ("clean", "adversarial"))
    labels = torch.from_numpy(np.asarray(found["labels"]).astype(np.int64).reshape(-1))
    if clean.shape != adversarial.shape or len(labels) != len(clean):
        shapes = f"clean {list(clean.shape)}, adversarial {list(adversarial.shape)}, {len(labels)} labels"
        raise CaromError(f"{path}: {shapes}. Save one adversarial input and one label for each clean input.")
    names = tuple(str(n) for n in range(max(labels.tolist(), default=0) + 1)) if data is None else data.classes
    names = names if classes is None else class_names(classes)
    ids, none = [f"{path.stem}-{n:06d}" for n in range(len(labels))], torch.zeros_like(labels)
    return AdversarialSet(
        source=path.name,
        attack=f"arrays of {path.stem}",
        threat="as recorded",
        modality=modality,
        stored=adversarial,
        labels=labels,
        ids=ids,
        success=none.bool(),
        status=none + int(Status.DONE),
        cost=Cost(none, none, none),
        clean=Dataset(
            *(path.name, modality, space, clean, labels, ids, names, lengths),
            facts={"sample_rate": rate} if rate is not None else {},
        ),
    )


def _stored(values: Any, space: Box, path: Path, what: str) -> Tensor:
    array = torch.from_numpy(np.ascontiguousarray(values))
    if array.dim() == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.permute(0, 3, 1, 2).contiguous()
    if array.dtype == space.dtype:
        return array
    if not array.is_floating_point() or not bool(array.isfinite().all()):
        raise CaromError(f"{path}: {what} is {array.dtype} and not {space.dtype}, nor finite real numbers.")
    if float(array.min()) < space.low - space.unit or float(array.max()) > space.high + space.unit:
        raise CaromError(f"{path}: {what} leaves [{space.low:g}, {space.high:g}], the range of {space.name}.")
    return space.encode(array.float())
