"""Examples from class folders, with errors that name the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.core.data import sampling_order


@dataclass(frozen=True)
class Source:
    """One example before it is read."""

    id: str
    label: int
    where: str  # what an error about it names: a path, or a row of a table
    content: Any  # a path, the file itself, or a function that gets one of these

    def fetch(self) -> Any:
        """What is to be read: nothing is fetched before its turn."""
        return self.content() if callable(self.content) else self.content


def class_folders(
    root: Path, split: str, endings: Sequence[str], classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Source]]:
    """The files of `root/CLASS/...`, or of `root/SPLIT/CLASS/...` where there is such a folder; ids are their paths
    relative to `root`. Classes are the names of the folders in alphabetical order, or `classes` in theirs.
    """
    inner = root / split
    top = inner if inner.is_dir() and any(p.is_dir() for p in inner.iterdir()) else root
    folders = sorted(p.name for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
    names = tuple(folders if classes is None else classes)
    for folder in folders:
        if folder not in names:
            raise UnknownName("class", folder, names)
    found, others = [], set()
    for folder in folders:
        for path in sorted((top / folder).rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                if path.suffix.lower() in endings:
                    identity = path.relative_to(root).as_posix()
                    found.append(Source(identity, names.index(folder), str(path), path))
                else:
                    others.add(path.suffix or path.name)
    if not found:
        seen = f" It holds files ending in {', '.join(sorted(others))}." if others else ""
        raise CaromError(
            f"{top}: no class folders with files ending in {', '.join(endings)}.{seen} "
            "Lay the files out as FOLDER/CLASS/FILE."
        )
    return names, found


Read = TypeVar("Read")


def read_all(
    sources: Sequence[Source], read: Callable[[Source], Read], limit: int | None, on_error: str
) -> tuple[list[tuple[Source, Read]], tuple[str, ...]]:
    """Read sources until there are `limit`: (what was read, in the sources' order; what was left out and why).

    `on_error` "raise" reads on to name everything that cannot be used, then raises; "skip" leaves it out.
    """
    if on_error not in ("raise", "skip"):
        raise UnknownName("way to treat files that cannot be used", on_error, ("raise", "skip"))
    good: dict[int, Read] = {}
    bad: list[BadInput] = []
    for at in sampling_order([s.id for s in sources], limit).tolist():
        if len(good) == limit:
            break
        try:
            good[at] = read(sources[at])
        except BadInput as error:
            bad.append(error)
    if bad and on_error == "raise":
        raise_all(bad)
    return [(sources[at], good[at]) for at in sorted(good)], tuple(str(error) for error in bad)


LISTED = 10  # errors in one message; the first say what to look for


SKIPPED = '--on-error skip, in a study or from Python on_error = "skip",'


def raise_all(bad: Sequence[BadInput]) -> None:
    """Raise the one error, or one that lists them."""
    if len(bad) == 1:
        raise bad[0]
    listed = [str(error) for error in bad[:LISTED]]
    listed += [f"... and {len(bad) - LISTED} more"] if len(bad) > LISTED else []
    raise CaromError("\n  ".join([f"{len(bad)} inputs cannot be used ({SKIPPED} leaves them out):", *listed]))
