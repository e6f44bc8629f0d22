"""What clean answers say of a study before anything is attacked: a model near chance has other inputs, or its classes in
another order, than it was made for, and every rate over it is about that mistake."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from carom.common.core.model import Model
from carom.common.measure.stats import wilson

Ints = NDArray[np.int64]

NEAR = 0.1
"""Of the way from chance to all right: what a model within it has learnt is not seen in its answers."""

LEAST = 10
"""Examples before an order of classes is read off the answers."""

Warn = Callable[[str], None]


def by_warnings(line: str) -> None:
    """Tell who calls from Python."""
    warnings.warn(line, UserWarning, stacklevel=4)


def doubt_of(model: Model, answers: Ints, labels: Ints, classes: Sequence[str]) -> str | None:
    """Why a model's clean accuracy is not believed; None if it is. `answers` and `labels` count in `classes`.

    Chance is what the most frequent label is right for, or, where the data have few of a model's classes, one in all.
    """
    n, right = len(labels), int((answers == labels).sum())
    there, counts = np.unique(labels, return_counts=True)
    chance = counts.max() / n if len(there) == len(classes) and len(there) > 1 else 1 / max(2, len(classes))
    share = right / n
    if order := _other_order(answers, labels, right):
        pairs = ", ".join(f"{classes[own]} for {classes[said]}" for own, said in order[:4])
        return (
            f"{model.name} is right on {share:.3f} of the clean examples, and answers as if its classes were in another "
            f"order: {pairs}{', ...' if len(order) > 4 else ''}. State the order of its outputs with classes= in its spec."
        )
    if share > chance + NEAR * (1 - chance):
        return None
    low, high = wilson(right, n)
    where = "below" if high < chance else "near"
    return (
        f"{model.name} is right on {share:.3f} [{low:.3f}, {high:.3f}] of {n} clean examples, {where} chance ({chance:.3f}). "
        "Check the order of its classes (classes=), its preprocessing (normalise=, bounds=, sample_rate=) and its weights."
    )


def _other_order(answers: Ints, labels: Ints, right: int) -> list[tuple[int, int]]:
    """(label, answer) of classes that are answered one for another, where most examples fit such an exchange and few the
    labels as they are; else none."""
    n = len(labels)
    found = {}
    fit = 0
    for label in np.unique(labels).tolist():
        said, counts = np.unique(answers[labels == label], return_counts=True)
        found[label] = int(said[counts.argmax()])
        fit += int(counts.max())
    distinct = len(set(found.values())) == len(found) > 1
    if n < LEAST or not distinct or fit < 0.6 * n or fit - right < 0.3 * n:
        return []
    return [(label, said) for label, said in found.items() if label != said]
