"""Examples from class folders, with errors that name the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.common.base.files import readable
from carom.common.core.class_names import in_order, lookalikes, stated_places
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


@dataclass(frozen=True)
class Labelled:
    """Examples with their classes, before they are read."""

    classes: tuple[str, ...]
    sources: list[Source]
    guessed: bool = False  # as `Dataset.guessed`
    remarks: tuple[str, ...] = ()  # on what there is besides


SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "development", "eval", "holdout")
"""Names of folders that hold no class."""


def class_folders(
    root: Path, split: str, endings: Sequence[str], stated: Sequence[str] | None, links: bool = False
) -> Labelled:
    """The files of `root/CLASS/...`, or of `root/SPLIT/CLASS/...` where there is such a folder; ids are their paths
    relative to `root`. Classes are the names of the folders, in alphabetical order, numbers in theirs; or the `stated`
    ones, among which each folder finds its place by name.

    Raises CaromError where the folders are splits, none of which is called `split`, or hold no such files, and, unless
    `links` are to be followed, where a link leads out of `root`: a folder that was received names nothing elsewhere.
    """
    inner = root / split
    top = inner if inner.is_dir() and _folders(inner) else root
    files = {folder: _files(folder) for folder in _folders(top)}
    if not links:
        check_links(root, (top, *files, *(path for found in files.values() for path in found)))
    usable = {f: [path for path in found if path.suffix.lower() in endings] for f, found in files.items()}
    if not any(usable.values()):
        others = sorted({path.suffix or readable(path.name) for found in files.values() for path in found})
        seen = f" It holds files ending in {', '.join(others[:LISTED])}." if others else ""
        raise CaromError(
            f"{readable(str(top))}: no class folders with files ending in {', '.join(endings)}.{seen} "
            "Lay the files out as FOLDER/CLASS/FILE."
        )
    if stated is None:
        _refuse_splits(top, split, usable)
    names = [readable(folder.name) for folder in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise CaromError(f"{readable(str(top))}: several folders are called {', '.join(sorted(twice))}. Rename one.")
    if stated is None:
        classes, guessed = in_order(names)
        at = {name: classes.index(name) for name in names}
    else:
        classes, guessed = tuple(stated), False
        at = dict(zip(names, stated_places(names, classes, readable(str(top))), strict=True))
    found = [
        Source(readable(path.relative_to(root).as_posix()), at[name], readable(str(path)), path)
        for name, paths in zip(names, usable.values(), strict=True)
        for path in paths
    ]
    remarks = (*_remarks(top, files, usable, endings), *(lookalikes(classes) if stated is None else ()))
    return Labelled(classes, found, guessed, remarks)


def check_links(root: Path, paths: Iterable[Path]) -> None:
    """Refuse links that lead out of a folder."""
    inside = root.resolve()
    for path in paths:
        if path != root and path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise CaromError(
                f"{readable(str(path))}: is a link that leads out of {readable(str(root))}. Put the file itself there, or, if "
                "the link is yours, have such links followed: links=true (?links=true behind the folder)."
            )


def _folders(top: Path) -> list[Path]:
    return sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _refuse_splits(top: Path, split: str, usable: Mapping[Path, Sequence[Path]]) -> None:
    """Folders of splits are no classes, nor is a folder that only holds the folders of classes."""
    filled = {folder: paths for folder, paths in usable.items() if paths}
    inner = {folder: {path.relative_to(folder).parts[0] for path in paths} for folder, paths in filled.items()}
    nested = all(path.parent != folder for folder, paths in filled.items() for path in paths)
    called = [folder.name.lower() in SPLITS for folder in filled]
    alike = nested and len(filled) > 1 and len({frozenset(names) for names in inner.values()}) == 1
    where, there = readable(str(top)), ", ".join(readable(folder.name) for folder in filled)
    below = ", ".join(readable(name) for name in sorted(set().union(*inner.values()))[:LISTED])
    take = f"?classes={','.join(readable(f.name) for f in filled)} behind it takes them for the classes"
    if nested and len(filled) == 1 and len(next(iter(inner.values()))) > 1 and not any(called):
        only = next(iter(filled))
        raise CaromError(
            f"{where}: its only folder {there} holds folders ({below}), not files. Give {readable(str(only))}, or "
            f"{take}."
        )
    if all(called) or (nested and any(called)) or (alike and len(next(iter(inner.values()))) > 1):
        holds = f"each with folders of classes ({below})" if nested else "without folders of classes in them"
        remedy = (
            f"Name the one that is meant: --split {readable(next(iter(filled)).name)}"
            if nested
            else ("Lay the files out as FOLDER/SPLIT/CLASS/FILE")
        )
        raise CaromError(f"{where}: there is no split {split!r}; {there} look like splits, {holds}. {remedy}; {take}.")


def _remarks(
    top: Path, files: Mapping[Path, Sequence[Path]], usable: Mapping[Path, Sequence[Path]], endings: Sequence[str]
) -> Iterator[str]:
    """What lies in the folders and is no example."""
    other = [path for found in files.values() for path in found if path.suffix.lower() not in endings]
    if other:
        kinds = sorted({path.suffix or readable(path.name) for path in other})
        kind = ", ".join(kinds[:LISTED])
        yield f"left out {_files_of(len(other))} of other kinds ({kind}), such as {readable(str(other[0]))}"
    beside = [p for p in sorted(top.iterdir()) if p.is_file() and p.suffix.lower() in endings and p.name[0] != "."]
    if beside:
        yield f"left out {_files_of(len(beside))} in no class folder, such as {readable(str(beside[0]))}"
    broken = [path for folder in files for path in folder.rglob("*") if path.is_symlink() and not path.exists()]
    if broken:
        yield f"left out {len(broken)} links that lead nowhere, such as {readable(str(broken[0]))}"
    for folder, paths in usable.items():
        if not paths:
            yield f"{readable(str(folder))} holds no file ending in {', '.join(endings)}: its class has no examples"


def _files_of(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


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
