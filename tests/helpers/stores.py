"""A store that tells what was computed."""

from __future__ import annotations

from typing import Any

from carom.common.work.store import Store


class Counting(Store):
    """Notes what is committed."""

    def __init__(self, root: Any) -> None:
        super().__init__(root)
        self.keys: list[str] = []

    def commit(self, key: str, *rest: Any, **more: Any) -> None:
        super().commit(key, *rest, **more)
        self.keys.append(key)
