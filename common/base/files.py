"""Where results go: whether they can be written there is found out before anything is computed."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from carom.common.base.errors import CaromError

if TYPE_CHECKING:
    import pyarrow as pa

STOPPED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What a disk says of itself, often without naming a file."""


def readable(name: str) -> str:
    """The name of a file with its bytes that are not UTF-8 as escapes: what can be saved and printed."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def in_utf8(name: str) -> str:
    """The name, which has to be UTF-8: it goes into results and reports."""
    if (shown := readable(name)) != name:
        raise CaromError(
            f"{shown}: this name is not UTF-8. Rename the file or folder, or link to it under another name."
        )
    return name


def folder_for(what: str, path: Path | str, option: str) -> Path:
    """The folder that `option` names for `what`, if files can be written into it. Nothing is left there: a folder that
    does not exist yet is made, tried and taken away again."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise CaromError(f"{path}: is a file, and {what} needs a folder. Name another with {option}.")
    if why := _refused(path):
        raise CaromError(f"{path}: {what} cannot be written there: {why}. Name another folder with {option}.")
    return path


def file_for(what: str, path: Path | str, option: str) -> Path:
    """The file that `option` names for `what`, if it can be written. What it holds already stays as it is."""
    path = Path(path)
    if path.is_dir():
        raise CaromError(f"{path}: is a folder, and {what} needs the name of a file. Name one with {option}.")
    if why := _refused(path.parent):
        raise CaromError(f"{path}: {what} cannot be written there: {why}. Name another file with {option}.")
    return path


def _refused(folder: Path) -> str | None:
    """Why nothing can be written into a folder; None if it can. Rights alone do not tell: only writing does."""
    made = []
    try:
        for one in reversed([folder, *folder.parents]):
            if one.exists() and not one.is_dir():
                return f"{one} is a file"
            if not one.is_dir():
                one.mkdir(exist_ok=True)
                made.append(one)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return error.strerror or type(error).__name__
    finally:
        for one in reversed(made):
            with contextlib.suppress(OSError):  # another process has begun to use it
                one.rmdir()
    return None


def unwritable(error: OSError) -> str | None:
    """One line about a file that the system would not read or write, and what to do; None for errors of other kinds."""
    if error.filename is None and error.errno not in STOPPED:
        return None
    name = "" if error.filename is None else f"{error.filename}: "
    return f"{name}{error.strerror or type(error).__name__}. Check the path, its rights and the space on its disk."


PART = "carom-"
"""Begins the names of temporary files."""

_UMASK = os.umask(0)  # it can only be read by setting it


def write_atomically(path: Path, data: bytes) -> None:
    """All of `data` under `path`, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=PART, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_UMASK)  # a temporary file is private; what it becomes is like any other file
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def write_table(path: Path, rows: pa.Table) -> None:
    """A Parquet file of all rows, or nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


LEAST_ROOM = 256 << 20
"""Bytes that the rows of any Parquet file may take."""

EXPANDS = 64
"""How many times larger than the file its rows may be: pictures and texts are compressed less."""


def read_table(path: Path) -> pa.Table:
    """All rows of a Parquet file, read in parts: one that a few bytes make fill the memory is refused with ValueError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = path.stat().st_size
    room = max(LEAST_ROOM, EXPANDS * size)
    with pq.ParquetFile(path, thrift_string_size_limit=room, thrift_container_size_limit=10_000_000) as file:
        parts, held = [], 0
        for part in file.iter_batches(batch_size=256):
            held += part.nbytes
            if held > room:
                raise ValueError(f"its rows take more than {room >> 20} MB and the file {size} bytes")
            parts.append(part)
        return pa.Table.from_batches(parts, file.schema_arrow)
