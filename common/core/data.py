"""Data sets: labelled examples in their stored form, with the digest that names them in the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.identity import describe
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch, take
from carom.common.core.spaces import Inputs, Space
from carom.common.core.tasks import CLASSES, Task, Values


def digest_inputs(inputs: Inputs) -> str:
    """sha256 of stored inputs: integers' bytes with their shape, or length-prefixed texts."""
    digest = hashlib.sha256()
    if isinstance(inputs, Tensor):
        array = inputs.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    else:
        for text in inputs:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """N labelled examples of one space. Inputs are held in stored form: small integers or texts.

    What is right of an example is its label, unless the task has `references` of its own, say transcripts; then there
    are no classes and the labels are all 0.
    """

    name: str
    modality: str
    space: Space
    stored: Inputs  # integer Tensor[N, ...] or list[str]
    labels: Tensor  # int64[N]
    ids: Sequence[str]
    classes: tuple[str, ...]
    lengths: Tensor | None = None
    facts: dict[str, object] = field(default_factory=dict)  # what the report says of the data: sample rate, split
    skipped: tuple[str, ...] = ()  # what was left out, each with the reason
    remarks: tuple[str, ...] = ()  # what else was done with the files, in sentences
    guessed: bool = False  # whether the order of the classes is only that of their names, and may be another elsewhere
    task: Task = CLASSES
    references: Sequence[Any] | None = None  # one an example, as JSON can hold them

    def __post_init__(self) -> None:
        if not len(self.ids):
            raise CaromError(f"{self.name}: no examples. Check the folder, the split and the limit.")
        if self.references is not None:
            if len(self.references) != len(self.ids):
                raise CaromError(
                    f"{self.name}: {len(self.references)} references for {len(self.ids)} examples. Give one an example."
                )
            return
        wrong = (self.labels < 0) | (self.labels >= len(self.classes))
        if wrong.any():
            at = int(wrong.nonzero()[0])
            raise CaromError(
                f"{self.name}: example {self.ids[at]} has label {int(self.labels[at])}, outside the "
                f"{len(self.classes)} classes 0..{len(self.classes) - 1}. Correct the label or the list of classes."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """sha256 over inputs, labels, ids and lengths, and over what the task asks where that is not classes."""
        digest = hashlib.sha256(digest_inputs(self.stored).encode())
        digest.update(digest_inputs(self.labels).encode())
        digest.update(digest_inputs(list(self.ids)).encode())
        if self.lengths is not None:
            digest.update(digest_inputs(self.lengths).encode())
        if self.task != CLASSES or self.references is not None:
            asked = {"task": describe(self.task), "references": self.references and list(self.references)}
            digest.update(json.dumps(asked, sort_keys=True).encode())
        return digest.hexdigest()

    @cached_property
    def reference(self) -> Values:
        """[N]: what is right of each example, as the task takes it."""
        if self.references is None:
            return self.labels.numpy()
        found = np.empty(len(self.references), dtype=object)
        found[:] = list(self.references)
        return found

    def batch(self, start: int = 0, stop: int | None = None, device: torch.device | str = "cpu") -> Batch:
        """Examples start..stop as a batch of decoded inputs. Tensors go to the device in their stored form, which is the
        smaller one."""
        part = slice(start, stop)
        labels, lengths = self.labels[part], None if self.lengths is None else self.lengths[part]
        stored = self.stored[part]
        if isinstance(stored, Tensor):
            stored, labels = stored.to(device), labels.to(device)
            lengths = None if lengths is None else lengths.to(device)
        return Batch(self.space.decode(stored), labels, list(self.ids[part]), lengths)

    def contents(self) -> list[str]:
        """What tells one stored input from another, without its padding: equal where the inputs are."""
        if not isinstance(self.stored, Tensor):
            return [digest_inputs([text]) for text in self.stored]
        ends = [None] * len(self) if self.lengths is None else self.lengths.tolist()
        return [digest_inputs(x[..., :end]) for x, end in zip(self.stored, ends, strict=True)]

    def with_classes(self, classes: Sequence[str], places: Sequence[int]) -> Dataset:
        """The same examples with their labels counted in `classes`, where class n of these is `classes[places[n]]`."""
        if tuple(classes) == self.classes:
            return replace(self, guessed=False)
        if self.task != CLASSES:  # what a label means there is the task's to say, not its name's
            raise CaromError(
                f"{self.name} has the labels {', '.join(self.classes) or 'of no class'}, and {', '.join(classes)} are "
                "wanted: for this task they have to be the same, in the same order."
            )
        labels = torch.tensor(list(places), dtype=torch.long)[self.labels]
        return replace(self, labels=labels, classes=tuple(classes), guessed=False)

    def take(self, rows: Tensor) -> Dataset:
        lengths = None if self.lengths is None else self.lengths[rows]
        ids = [self.ids[i] for i in rows.tolist()]
        references = None if self.references is None else [self.references[i] for i in rows.tolist()]
        return replace(
            self,
            stored=take(self.stored, rows),
            labels=self.labels[rows],
            ids=ids,
            lengths=lengths,
            references=references,
        )

    def sample(self, limit: int | None, seed: int = 0) -> Dataset:
        """At most `limit` examples, chosen by a hash of their ids: the same whatever order they came in."""
        if limit is None or limit >= len(self):
            return self
        return self.take(sampling_order(self.ids, limit, seed)[:limit].sort().values)


def sampling_order(ids: Sequence[str], limit: int | None, seed: int = 0) -> Tensor:
    """int64[N]: the order in which examples are taken until there are `limit`: by a hash of their ids."""
    if limit is None:
        return torch.arange(len(ids))
    if limit < 1:
        raise CaromError(f"--limit {limit}: at least one example is needed.")
    return Rng.of(seed, ids).fold("sample").uniform().argsort()
