"""Files of arrays, read without trust: .npz and .npy without pickle, torch's .pt with `weights_only`.

What a header claims is compared with what there is before anything is allocated.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import CaromError

ENDINGS = (".npz", ".npy", ".pt", ".pth")
ALONE = "array"
"""What the one array of a file is called that has no names."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by their names. Raises CaromError that names the file."""
    try:
        if path.suffix.lower() in (".pt", ".pth"):
            return dict(_torch_arrays(path))
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _zipped(path)
            file.seek(0)
            check_header(path, path.name, file, path.stat().st_size)
        return {ALONE: np.load(path, allow_pickle=False)}
    except CaromError:
        raise
    except Exception as error:  # of many types: numpy reads the header of an array as Python does
        raise CaromError(
            f"{path}: not arrays that numpy saved without pickle ({_first_line(error)}). Write them again: "
            "np.savez(FILE, clean=..., adversarial=..., labels=...) with arrays of numbers."
        ) from None


def _zipped(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as held:
        _check_room(path, sum(member.file_size for member in held.infolist()))
        for member in held.infolist():
            with held.open(member) as file:
                check_header(path, member.filename, file, member.file_size)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def check_header(path: Path, name: str, file: Any, size: int) -> None:
    """Compare what the header of an array claims with the bytes that follow it, and those with the memory."""
    held: BinaryIO = file
    version = np.lib.format.read_magic(held)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(held)
    if dtype.hasobject:
        raise CaromError(f"{path}: {name} holds Python objects, which only pickle reads. Save arrays of numbers.")
    claimed = math.prod(shape) * dtype.itemsize
    there = size - held.tell()
    if claimed != there:
        raise CaromError(
            f"{path}: {name} claims {' x '.join(map(str, shape))} values of {dtype}, {claimed} bytes, and holds {there}. "
            "The file is damaged: write it again."
        )
    _check_room(path, claimed)


def _check_room(path: Path, size: int) -> None:
    room = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 34
    if size > room // 2:
        raise CaromError(f"{path}: {size / 2**30:.0f} GiB of arrays do not fit into memory. Save fewer examples.")


def _torch_arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors that torch saved: a dictionary of them, a pair (adversarial, labels), or one."""
    remedy = (
        "Save tensors: torch.save({'clean': ..., 'adversarial': ..., 'labels': ...}, FILE), or an .npz of the same."
    )
    if not zipfile.is_zipfile(path):
        raise CaromError(f"{path}: not a file of tensors that torch 1.6 or later saved. {remedy}")
    with zipfile.ZipFile(path) as held:
        _check_room(path, sum(member.file_size for member in held.infolist()))
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises at a file that it cannot or must not read
        raise CaromError(f"{path}: cannot be read without running code ({_first_line(error)}). {remedy}") from None
    if isinstance(found, Tensor):
        found = {ALONE: found}
    elif isinstance(found, list | tuple) and len(found) == 2:
        found = dict(zip(("adversarial", "labels"), found, strict=True))
    if not isinstance(found, Mapping):
        raise CaromError(f"{path}: holds a {type(found).__name__}, not tensors with names. {remedy}")
    for name, value in found.items():
        if isinstance(value, Tensor) and not value.is_sparse and not value.is_quantized:
            value = value.detach()
            yield str(name), (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        elif isinstance(value, int | float | str) or (
            isinstance(value, list | tuple) and all(isinstance(one, int | float | str) for one in value)
        ):
            yield str(name), np.asarray(value)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
