"""Rows as Carom holds them: float[N, D] in [0, 1], stored as 15-bit steps of each column's range."""

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor

from carom.common.base.errors import UnknownName
from carom.common.core.data import Dataset
from carom.common.core.spaces import Box
from carom.common.modality.panels import Panel, WordDiff

TABLE = load_breast_cancer()  # ships with scikit-learn
CLASSES = tuple(str(name) for name in TABLE.target_names)
COLUMNS = [str(name) for name in TABLE.feature_names]
SPACE = Box("row", low=0.0, high=1.0, unit=1 / 32767, dtype=torch.int16)


def load_data(spec: str, *, split: str = "test", limit: int | None = None, **facts: object) -> Dataset:
    """`builtin:tumours`: every other row is for training, the rest for testing."""
    if spec != "builtin:tumours":
        raise UnknownName("data of rows", spec, ["builtin:tumours"])
    rows = torch.arange(len(TABLE.data))[(0 if split == "train" else 1) :: 2]
    values = torch.from_numpy(TABLE.data).float()
    low, high = values.amin(0), values.amax(0)
    stored = SPACE.encode((values[rows] - low) / (high - low))
    labels, ids = torch.from_numpy(TABLE.target)[rows].long(), [f"row-{row:03d}" for row in rows.tolist()]
    return Dataset("tumours", "table", SPACE, stored, labels, ids, CLASSES, facts={"split": split}).sample(limit)


def panels(space: Box, clean: Tensor, adversarial: Tensor, facts: object) -> list[Panel]:
    """For the report: the columns that changed, before and after."""
    runs = []
    for column in (clean != adversarial).nonzero().flatten().tolist():
        before, after = (float(space.decode(row)[column]) for row in (clean, adversarial))
        runs += [("", f"{COLUMNS[column]} "), ("del", f"{before:.3f}"), ("ins", f"{after:.3f}"), ("", "  ")]
    return [WordDiff("columns that changed", runs or [("", "none")])]
