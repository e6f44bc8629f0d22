"""The content-addressed store: what has been computed is found again by what it was computed from.

`ab/KEY.parquet` holds the rows of a unit of work, `ab/KEY.safetensors` its tensors. `ab/KEY.json` is their seal: the key,
a digest of each of these files and of itself, and how long the unit took. Each file is written beside its final name,
flushed to disk and renamed, so a reader never sees half of one and two writers of one key write the same bytes. The seal
is written last: a unit is done when it is there and every digest holds. A file that is not what was stored, by a flipped
bit, an edit or an exchange, is named and set aside as `KEY.damaged`, and its unit counts as not computed. Files are
checked before they are parsed, each time they are read.

Processes that share a store share its work: each claims a unit before computing it. A store that can only be read is
read; what it lacks cannot be computed into it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from safetensors.torch import load, save
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.files import _UMASK, write_atomically
from carom.common.base.notices import notice

SCHEMA = 5
"""Part of every key. Raised when the meaning of stored rows changes, so that old ones are computed anew."""

ABANDONED = 24 * 3600.0
"""Seconds after which a temporary file that nobody finished belongs to a process that was killed."""

WITHOUT_LOCKS = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
"""What a file system answers that knows no locks."""


def key_of(facts: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of what a unit is computed from."""
    return hashlib.sha256(_canonical({"schema": SCHEMA, **facts})).hexdigest()


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


os.umask(_UMASK)

# Where a file system answers ENOSYS it takes another kind of lock, which serves as well.
warnings.filterwarnings("ignore", message=".*SoftFileLock.*")


class Damaged(Exception):
    """A file of the store that is not what was stored there."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


@dataclass(frozen=True)
class Seal:
    """What vouches for the files of one unit."""

    key: str
    files: Mapping[str, str]  # ending -> sha256 of the file
    seconds: float  # that the unit took

    def to_bytes(self) -> bytes:
        facts = {"files": dict(self.files), "key": self.key, "seconds": self.seconds}
        return _canonical({**facts, "seal": hashlib.sha256(_canonical(facts)).hexdigest()})

    @classmethod
    def of_bytes(cls, data: bytes, key: str, path: Path) -> Seal:
        """The seal, if these are to the byte what `to_bytes` made for this key."""
        try:
            facts = json.loads(data)
            seal = cls(facts["key"], facts["files"], facts["seconds"])
            if seal.to_bytes() == data and seal.key == key and "parquet" in seal.files:
                return seal
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise Damaged(path, "is not what was stored there")


class Store:
    """A folder of finished units. With `writes=False` nothing in it is changed, and asking for a claim is refused."""

    def __init__(self, root: Path | str, writes: bool = True) -> None:
        self.root, self.writes = Path(root), writes
        self._sound: dict[str, Seal] = {}  # units whose files were all checked
        self._told: set[str] = set()
        self._swept = False

    def path(self, key: str, suffix: str) -> Path:
        if not key or set(key) - set("0123456789abcdef"):
            raise ValueError(f"{key!r} is not a key")
        return self.root / key[:2] / f"{key}.{suffix}"

    def has(self, key: str) -> bool:
        """Whether a unit is done: all its files are there and are what was stored. The first time they are all read."""
        if key in self._sound and self.path(key, "json").exists():
            return True
        self._sound.pop(key, None)
        seal, bad = self._examined(key)
        for damaged in bad:
            kept = f" What is there is set aside as {key}.damaged." if damaged.path.exists() else ""
            self._tell(f"{damaged}. Its unit is computed again.{kept}")
        if seal is None or bad:
            return False
        self._sound[key] = seal
        return True

    def _examined(self, key: str) -> tuple[Seal | None, list[Damaged]]:
        """(the seal of a unit, None if it is not done; the files of it that are not what was stored)"""
        bad = []
        try:
            seal = self._seal(key)
        except Damaged as error:
            return None, [error]
        if seal is None:
            return None, []
        for suffix in seal.files:
            try:
                self._bytes(seal, suffix)
            except Damaged as error:
                bad.append(error)
        return seal, bad

    def _seal(self, key: str) -> Seal | None:
        path = self.path(key, "json")
        try:
            return Seal.of_bytes(_read(path), key, path)
        except FileNotFoundError:
            return None

    def _bytes(self, seal: Seal, suffix: str) -> bytes:
        """A file of a unit, checked."""
        path = self.path(seal.key, suffix)
        try:
            data = _read(path)
        except FileNotFoundError:
            raise Damaged(path, "is missing") from None
        if hashlib.sha256(data).hexdigest() != seal.files[suffix]:
            raise Damaged(path, "is not what was stored there")
        return data

    def _read(self, key: str, suffix: str) -> bytes:
        """A file of a finished unit. Damage since it was found sound ends the run: what used it may be wrong."""
        try:
            seal = self._sound.get(key) or self._seal(key)
            if seal is None or suffix not in seal.files:
                raise CaromError(f"{self.path(key, suffix)}: no such unit in the store. Give the same command again.")
            return self._bytes(seal, suffix)
        except Damaged as error:
            raise CaromError(f"{error}. Give the same command again: the unit is then computed anew.") from None

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether no other process is computing this unit: until the end of the block none will. A claim is the system's
        lock of a file, so it ends with its process, however that ends. What is damaged of the unit is set aside.

        Where the file system knows no locks the unit is everybody's: it is computed several times at worst, to the same
        bytes.
        """
        path = self.path(key, "lock")
        if not self.writes:
            raise self._unwritable("somebody else may have named it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = _locked(path)
        except Timeout:
            yield False
            return
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            if error.errno not in WITHOUT_LOCKS:
                raise self._unwritable(error.strerror or type(error).__name__) from None
            lock = None
            self._tell(f"{self.root}: the file system knows no locks. Processes that share this store repeat work.")
        try:
            self._set_aside(key)
            yield True
        finally:
            if lock is not None:
                with contextlib.suppress(OSError):  # one who opened it before computes the unit twice at worst
                    path.unlink()
                lock.release()

    def _unwritable(self, why: str) -> CaromError:
        return CaromError(
            f"{self.root}: the store lacks what is to be computed, and it cannot be written there: {why}. Name another "
            "folder with --store."
        )

    def _set_aside(self, key: str) -> None:
        """Move what is damaged of a unit away, and its seal: who looks meanwhile finds a unit that is not done."""
        bad = self._examined(key)[1]
        for path in {self.path(key, "json"), *(damaged.path for damaged in bad)} if bad else ():
            kept = self.path(key, "damaged") / path.name
            with contextlib.suppress(FileNotFoundError):  # a file that is missing
                kept.parent.mkdir(exist_ok=True)
                os.replace(path, kept)

    def sweep(self) -> None:
        """Remove what processes that were killed have left: temporary files, and locks that nobody holds, once they are
        a day old."""
        if self._swept or not self.writes:
            return
        self._swept = True
        for path in [*self.root.glob("??/*.part"), *self.root.glob("??/*.lock")]:
            with contextlib.suppress(OSError, Timeout):
                if time.time() - path.stat().st_mtime < ABANDONED:
                    continue
                if path.suffix == ".part":
                    path.unlink()
                else:
                    lock = _locked(path)
                    path.unlink()
                    lock.release()

    def commit(
        self, key: str, rows: pa.Table, tensors: Mapping[str, Tensor] | None = None, seconds: float = 0.0
    ) -> None:
        """Make a unit's results durable, all or nothing."""
        files = {"safetensors": save({name: t.contiguous().cpu() for name, t in tensors.items()})} if tensors else {}
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        files["parquet"] = sink.getvalue().to_pybytes()
        for suffix, data in files.items():
            write_atomically(self.path(key, suffix), data)
        # Apart from the others, which are the same bytes whenever the same work is done again.
        seal = Seal(key, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}, round(seconds, 4))
        write_atomically(self.path(key, "json"), seal.to_bytes())
        self._sound[key] = seal

    def rows(self, key: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self._read(key, "parquet")))

    def tensors(self, key: str) -> dict[str, Tensor]:
        return load(self._read(key, "safetensors"))

    def seconds(self, key: str) -> float:
        """How long the unit took when it was computed."""
        seal = self._sound.get(key) or (self._sound[key] if self.has(key) else None)
        if seal is None:
            raise CaromError(f"{self.path(key, 'json')}: no such unit in the store. Give the same command again.")
        return seal.seconds

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            notice(text)


def _read(path: Path) -> bytes:
    """The whole file. What the disk cannot give any more is damage; rights that are lacking are not."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        raise Damaged(path, f"cannot be read: {error.strerror or type(error).__name__}") from None


def _locked(path: Path) -> FileLock:
    """The lock of a file, held. Raises `Timeout` where another holds it, OSError where it cannot be had."""
    lock = FileLock(path)
    lock.acquire(blocking=False)
    return lock
