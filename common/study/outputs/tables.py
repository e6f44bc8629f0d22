"""Cells as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a study and of its comparisons as one table: a column that some rows lack is null there, and what is
    nested in a row becomes columns of its own: `size_ssim_mean`."""
    flat = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in flat])


def _flat(row: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{head}{name}_")
        else:
            yield f"{head}{name}", value
