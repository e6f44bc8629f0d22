"""Where Carom runs: the folder it may keep files in, and loggers of libraries that say too much."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path


def cache_folder() -> Path:
    """`CAROM_CACHE`, else ~/.cache/carom. It need not exist."""
    named = os.environ.get("CAROM_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "carom"


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """The logger of that name says nothing but errors; put back afterwards."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Transformers says nothing but errors while it loads, and shows no bars; put back afterwards."""
    from transformers.utils import logging as said

    shown = said.is_progress_bar_enabled()
    said.disable_progress_bar()
    try:
        with quiet("transformers"):
            yield
    finally:
        if shown:
            said.enable_progress_bar()
