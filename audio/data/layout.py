"""Sounds of other tools as arrays: one row a sound."""

from __future__ import annotations

import numpy as np

from carom.common.base.errors import CaromError


def one_channel(array: np.ndarray, count: int, where: str) -> np.ndarray:
    """[N, L] of N = `count` sounds; a channel axis of 1 is taken off, one sound without a batch axis gets that.

    Raises CaromError for several channels.
    """
    if count == 1 and array.ndim == 1:
        array = array[None]
    if array.ndim == 3 and 1 in array.shape[1:]:
        array = array.squeeze(1 if array.shape[1] == 1 else 2)
    if array.ndim != 2:
        raise CaromError(
            f"{where} has shape {list(array.shape)}: sounds are [N, L], of one channel. Average their channels first."
        )
    return array
