"""Pairs of clean and adversarial inputs as arrays, from whatever made them: .npz, .npy, torch's .pt, or a folder of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.files import readable
from carom.common.base.specs import existing
from carom.common.core.adversarial_set import AdversarialSet
from carom.common.core.class_names import places
from carom.common.core.data import Dataset
from carom.common.core.problem import Cost, Status
from carom.common.core.spaces import Box
from carom.common.loading.array_files import ALONE, read_arrays
from carom.common.loading.facts import class_names
from carom.common.loading.labels import Labels, labels_of

NAMES = {
    "clean": ("clean", "original", "clean_inputs", "clean_images", "x_clean", "x", "x_test", "images", "inputs"),
    "adversarial": (
        "adversarial",
        "x_adv",
        "adv_inputs",
        "adv_images",
        "adv",
        "adversarials",
        "x_test_adv",
        "perturbed",
    ),
    "labels": ("labels", "label", "y", "y_test", "targets", "y_true"),
}
"""What the arrays may be called."""

BRING = "Bring pairs over as an .npz: np.savez(FILE, clean=..., adversarial=..., labels=...)"

Layout = Callable[[np.ndarray, int, str], np.ndarray]
"""(an array, how many examples it has to hold, what an error about it begins with) -> the array as the space has it"""


def load_arrays(
    path: Path,
    *,
    modality: str,
    space: Box,
    layout: Layout,
    read: Callable[..., Dataset],
    classes: Sequence[str] | str | None = None,
    data: Dataset | None = None,
    on_error: str = "raise",
) -> AdversarialSet:
    """The inputs [N, ...] of a file of arrays: integers in the range of the space's stored type as they are, real values
    of the space's range rounded to them, each to the nearest that is no farther from the clean one. `layout` brings the
    axes of images and sounds into order. Labels are class numbers, names, or rows with one 1. Of padded inputs,
    `lengths` says where they end; `classes` names the classes, `ids` the examples.

    Clean inputs and labels that a file lacks are those of `data`, which then has as many examples in the same order. Of
    a folder, read as `read` reads data, they are those of `data` whose files have the same names.

    The file does not say within which budget they were made: measuring takes `threat` and `eps`, and refuses what lies
    outside of it. Arrays are taken whole: there is nothing to skip.
    """
    path = existing(path, "file of arrays")
    if path.is_dir():
        return _of_folder(path, modality, read, data, on_error)
    held = read_arrays(path)
    found = {what: next((held[n] for n in names if n in held), None) for what, names in NAMES.items()}
    where = readable(str(path))
    if found["adversarial"] is None and set(held) == {ALONE} and data is not None:
        found["adversarial"] = held[ALONE]
    if found["adversarial"] is None or (found["clean"] is None and data is None):
        lacking = "adversarial" if found["adversarial"] is None else "clean"
        holds = "one array without a name" if set(held) == {ALONE} else ", ".join(sorted(held)) or "none"
        raise CaromError(
            f"{where}: no array {' or '.join(NAMES[lacking][:3])}; it holds {holds}. {BRING}; or pass the clean examples, "
            "in the same order: --data."
        )
    if found["labels"] is None and data is None:
        raise CaromError(f"{where}: no array {' or '.join(NAMES['labels'][:3])}; it holds {', '.join(held)}. {BRING}.")
    if found["clean"] is None or found["labels"] is None:
        assert data is not None
        _same_count(where, found, data)
    labels, names = _labels(found["labels"], _stated(held, classes, data, where), data, where)
    count = len(labels)
    if hasattr(space, "sample_rate") and "sample_rate" in held:
        rated: dict[str, Any] = {"sample_rate": _whole(held["sample_rate"], f"{where}: sample_rate")}
        space = replace(space, **rated)
    adversarial = layout(_numbers(found["adversarial"], f"{where}: adversarial"), count, f"{where}: adversarial")
    if found["clean"] is None:
        assert data is not None
        assert isinstance(data.space, Box)
        space, clean, lengths = data.space, data.stored, data.lengths
        original = space.decode(clean).double().numpy()
    else:
        original = layout(_numbers(found["clean"], f"{where}: clean"), count, f"{where}: clean")
        clean, lengths = _stored(original, space, f"{where}: clean"), None
    if adversarial.shape != tuple(clean.shape) or len(clean) != count:
        shapes = f"clean {list(clean.shape)}, adversarial {list(adversarial.shape)}, {count} labels"
        raise CaromError(f"{where}: {shapes}. Save one adversarial input and one label for each clean input.")
    if "lengths" in held:
        lengths = _lengths(held["lengths"], clean, f"{where}: lengths")
    near = None if np.issubdtype(adversarial.dtype, np.integer) else (clean, original)
    stored = _stored(adversarial, space, f"{where}: adversarial", near)
    # Not by the name of the file: what is drawn for an example hangs on its id, and stays where a file is renamed.
    ids = _ids(held, count, where) or [f"row-{n:06d}" for n in range(count)]
    facts = {"sample_rate": space.sample_rate} if hasattr(space, "sample_rate") else {}
    clean_data = Dataset(readable(path.name), modality, space, clean, labels, ids, names, lengths, facts=facts)
    if found["clean"] is None:
        assert data is not None
        clean_data = replace(data, labels=labels, classes=names)
    return _as_set(path, clean_data, stored)


def _as_set(path: Path, clean: Dataset, stored: Tensor) -> AdversarialSet:
    none = torch.zeros(len(clean), dtype=torch.long)
    return AdversarialSet(
        source=readable(path.name),
        attack=f"arrays of {readable(path.stem)}",
        threat="as recorded",
        modality=clean.modality,
        stored=stored,
        labels=clean.labels,
        ids=list(clean.ids),
        success=none.bool(),
        status=none + int(Status.DONE),
        cost=Cost(none, none, none),
        clean=clean,
    )


def _of_folder(
    path: Path, modality: str, read: Callable[..., Dataset], data: Dataset | None, on_error: str
) -> AdversarialSet:
    """Files that are called as the clean ones are, in folders of the same names."""
    where = readable(str(path))
    if data is None:
        raise CaromError(
            f"{where}: a folder of adversarial files. Pass the folder of the clean ones, whose files have the same "
            f"names: --data folder:CLEAN. {BRING}."
        )
    facts = {name: data.facts[name] for name in ("channels", "sample_rate") if name in data.facts}
    # What the folders are called is of no matter: the labels are the clean ones'.
    folders = [readable(one.name) for one in sorted(path.iterdir()) if one.is_dir()]
    crafted = read(f"folder:{path}", split="", on_error=on_error, **({"classes": folders} if folders else {}), **facts)
    at = {_stem(name): row for row, name in enumerate(data.ids)}
    if not any("/" in name for name in data.ids):  # clean ones that come from no folder: by the name of the file alone
        crafted = replace(crafted, ids=[name.rpartition("/")[2] for name in crafted.ids])
        at = {**at, **{name: row for row, name in enumerate(data.ids)}}
    lacking = [name for name in crafted.ids if _stem(name) not in at]
    if lacking or len(set(at.values())) != len(data):
        raise CaromError(
            f"{where}: {len(lacking)} of {len(crafted)} files have no clean one of the same name in {data.name}, among "
            f"them {lacking[0] if lacking else data.ids[0]}. Lay both folders out alike. {BRING}."
        )
    clean = data.take(torch.tensor([at[_stem(name)] for name in crafted.ids]))
    assert isinstance(crafted.stored, Tensor)
    assert isinstance(clean.stored, Tensor)
    made = crafted.stored
    if crafted.lengths is not None and clean.lengths is not None and torch.equal(crafted.lengths, clean.lengths):
        made = torch.nn.functional.pad(made, (0, clean.stored.shape[-1] - made.shape[-1]))
    if made.shape != clean.stored.shape or crafted.space != clean.space:
        raise CaromError(
            f"{where}: its files have shape {list(crafted.stored.shape[1:])}, the clean ones "
            f"{list(clean.stored.shape[1:])}. Read the clean ones as they were perturbed: ?size= (sounds: ?sample_rate=) "
            "behind --data."
        )
    return _as_set(path, clean, made)


def _stem(name: str) -> str:
    """The id of a file without its ending: what is saved as PNG may have been a JPEG."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)


def _same_count(where: str, found: Mapping[str, np.ndarray | None], data: Dataset) -> None:
    adversarial = found["adversarial"]
    assert adversarial is not None
    if adversarial.ndim == 0 or len(adversarial) != len(data):
        raise CaromError(
            f"{where}: {len(np.atleast_1d(adversarial))} adversarial inputs, and {data.name} has {len(data)} examples. Pass "
            f"the data that they were made of, in the same order. {BRING}."
        )


def _stated(
    held: Mapping[str, np.ndarray], classes: Sequence[str] | str | None, data: Dataset | None, where: str
) -> Sequence[str] | None:
    """What labels are counted in: the names that the file has, those stated, or the data's."""
    if "classes" in held and held["classes"].dtype.kind == "U":
        return [str(name) for name in held["classes"].reshape(-1)]
    if classes is not None:
        return class_names(classes)
    return None if data is None else data.classes


def _labels(
    given: np.ndarray | None, names: Sequence[str] | None, data: Dataset | None, where: str
) -> tuple[Tensor, tuple[str, ...]]:
    if given is None:
        assert data is not None
        at = places(data.classes, names) if names is not None else None
        return (
            (data.labels, data.classes)
            if at is None or names is None
            else (
                torch.tensor(at)[data.labels],
                tuple(names),
            )
        )
    array, what = given, f"{where}: labels"
    if array.dtype.kind not in "iufbU":
        raise CaromError(f"{what} are {array.dtype}, not class numbers or names. Save one whole number an example.")
    if array.ndim == 2 and array.shape[1] > 1:
        if array.dtype.kind == "U" or not bool(((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all()):
            raise CaromError(
                f"{what} of shape {list(array.shape)} are no one-hot rows. Save one class number an example: "
                "labels.argmax(1)."
            )
        array = array.argmax(1)
    if array.ndim > 2:
        raise CaromError(f"{what} have shape {list(array.shape)}. Save one class number an example.")
    values = array.reshape(-1).tolist()
    told: Labels = labels_of(values, names, what)
    for row, place in enumerate(told.rows):
        if place is None:
            count = f"0..{len(told.classes) - 1}" if told.classes else "none"
            raise CaromError(
                f"{what}: example {row} has label {values[row]!r}, which is no class of {count}. Correct the label, or "
                "state the classes: --classes."
            )
    return torch.tensor(told.rows, dtype=torch.long), told.classes


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    """The array in native types that torch knows."""
    if array.dtype.kind not in "iuf":
        raise CaromError(f"{where} is {array.dtype}: save whole numbers of the stored type, or real ones.")
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise CaromError(f"{where} holds values that are not finite. Correct or leave out these examples.")
        return array
    return array.astype(np.int64) if array.dtype.itemsize < 8 or array.dtype.kind == "i" else _signed(array, where)


def _signed(array: np.ndarray, where: str) -> np.ndarray:
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise CaromError(f"{where} holds {int(array.max())}. Save whole numbers of the stored type, or real ones.")
    return array.astype(np.int64)


def _stored(array: np.ndarray, space: Box, where: str, clean: tuple[Tensor, np.ndarray] | None = None) -> Tensor:
    """Values in the space's stored type. Real values of adversarial inputs go no farther from their clean ones, given as
    (stored, as they were), than they were."""
    limits, kind = torch.iinfo(space.dtype), str(space.dtype).removeprefix("torch.")
    least, most = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if np.issubdtype(array.dtype, np.integer):
        if least < limits.min or most > limits.max:
            raise CaromError(
                f"{where} holds {least:g} to {most:g}, beyond {kind} ({limits.min} to {limits.max}). Save it as {kind}."
            )
        if array.size and least >= 0 and most <= 1 and array.any():
            raise CaromError(
                f"{where} holds whole numbers 0 and 1 alone: as {kind} that is next to nothing. Save real numbers from "
                f"{space.low:g} to {space.high:.5g}, or {kind} up to {limits.max}."
            )
        return torch.from_numpy(array).to(space.dtype)
    slack = space.unit
    if least < space.low - slack or most > space.high + slack:
        whole = clean is None or bool((clean[1] == np.rint(clean[1])).all() and np.abs(clean[1]).max(initial=0) > 2)
        if (
            whole
            and limits.min <= least
            and most <= limits.max
            and (clean is not None or (array == np.rint(array)).all())
        ):
            # Stored values as real numbers: pixels 0.0 to 255.0.
            return torch.from_numpy(np.rint(array)).to(space.dtype)
        raise CaromError(
            f"{where} leaves [{space.low:g}, {space.high:.5g}], the range of {space.name}: it holds {least:g} to {most:g}. "
            f"Undo its normalisation, or save it as {kind}."
        )
    if clean is None:
        return space.encode(torch.from_numpy(array))
    stored, original = clean
    if np.abs(original).max(initial=0) > 2:  # the clean ones are stored values
        return torch.from_numpy(np.rint(array)).to(space.dtype)
    steps = (array - original) / space.unit
    near = np.rint(steps)
    steps = np.where(np.abs(steps - near) < CLOSE, near, np.trunc(steps))
    moved = stored.long() + torch.from_numpy(steps).long()
    return moved.clamp(round(space.low / space.unit), round(space.high / space.unit)).to(space.dtype)


CLOSE = 0.1
"""Steps of the stored type that half precision and a detour through another range cost."""


def _whole(array: np.ndarray, where: str) -> int:
    if array.size != 1 or array.dtype.kind not in "iuf" or float(array.reshape(-1)[0]) % 1 or array.reshape(-1)[0] < 1:
        raise CaromError(f"{where} is {array.tolist()!r:.40}: save one whole number.")
    return int(array.reshape(-1)[0])


def _lengths(array: np.ndarray, clean: Tensor, where: str) -> Tensor:
    values = array.reshape(-1)
    fit = values.dtype.kind in "iu" and len(values) == len(clean)
    if not fit or (len(values) and (values.min() < 1 or values.max() > clean.shape[-1])):
        raise CaromError(f"{where} must be {len(clean)} whole numbers from 1 to {clean.shape[-1]}.")
    return torch.from_numpy(values.astype(np.int64))


def _ids(held: Mapping[str, np.ndarray], count: int, where: str) -> list[str] | None:
    if "ids" not in held or held["ids"].dtype.kind != "U":
        return None
    ids = [str(name) for name in held["ids"].reshape(-1)]
    if len(ids) != count or len(set(ids)) != count:
        raise CaromError(f"{where}: ids must be {count} names, each once.")
    return ids
