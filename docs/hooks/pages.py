"""Called by mkdocs: puts the pages that are made from the registry and from recorded results among the written ones."""

from __future__ import annotations

from itertools import chain
from typing import Any

from mkdocs.structure.files import File

from carom.benchmarks.docs import attacks, results


def on_files(files: Any, config: Any) -> Any:
    for path, text in chain(attacks.pages(), results.pages()):
        files.append(File.generated(config, path, content=text))
    return files
