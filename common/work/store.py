"""The content-addressed store: what has been computed is found again by what it was computed from.

`ab/KEY.parquet` holds the rows of a unit of work, `ab/KEY.safetensors` its tensors, `ab/KEY.json` how long it took.
Each file is written beside its final name, flushed to disk and renamed, so a reader never sees half of one and two
writers of one key write the same bytes. The rows are written last: a unit is done when they are there. Processes that
share a store share its work: each claims a unit before computing it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from safetensors.torch import load, save
from torch import Tensor

from carom.common.base.files import _UMASK, write_atomically, write_table

SCHEMA = 4
"""Part of every key. Raised when the meaning of stored rows changes, so that old ones are computed anew."""


def key_of(facts: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of what a unit is computed from."""
    text = json.dumps({"schema": SCHEMA, **facts}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


os.umask(_UMASK)


class Store:
    """A folder of finished units."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, key: str, suffix: str) -> Path:
        if not key or set(key) - set("0123456789abcdef"):
            raise ValueError(f"{key!r} is not a key")
        return self.root / key[:2] / f"{key}.{suffix}"

    def has(self, key: str) -> bool:
        return self.path(key, "parquet").exists()

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether no other process is computing this unit: until the end of the block none will. A claim is the system's
        lock of a file, so it ends with its process, however that ends."""
        path = self.path(key, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):  # one who opened it before computes the unit twice at worst
                path.unlink()
            lock.release()

    def commit(
        self, key: str, rows: pa.Table, tensors: Mapping[str, Tensor] | None = None, seconds: float = 0.0
    ) -> None:
        """Make a unit's results durable, all or nothing."""
        if tensors:
            data = save({name: t.contiguous().cpu() for name, t in tensors.items()})
            write_atomically(self.path(key, "safetensors"), data)
        # Apart from the rows, which are the same bytes whenever the same work is done again.
        write_atomically(self.path(key, "json"), json.dumps({"seconds": round(seconds, 4)}).encode())
        write_table(self.path(key, "parquet"), rows)

    def rows(self, key: str) -> pa.Table:
        return pq.read_table(self.path(key, "parquet"), partitioning=None)

    def tensors(self, key: str) -> dict[str, Tensor]:
        return load(self.path(key, "safetensors").read_bytes())

    def seconds(self, key: str) -> float:
        """How long the unit took when it was computed."""
        return float(json.loads(self.path(key, "json").read_text())["seconds"])
