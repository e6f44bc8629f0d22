"""Adversarial sets as files that other tools read: a folder of pictures or sounds, an .npz of arrays, a table of texts.

What is written is what was stored, so that reading it again (`carom transfer --from`) measures the same.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.files import file_for, folder_for, write_atomically
from carom.common.core.adversarial_set import AdversarialSet, exports_by
from carom.common.core.data import Dataset
from carom.common.core.problem import COUNTS, Cost
from carom.common.modality.installed import get_modality
from carom.common.study.outcome import Transfer
from carom.common.work.units import Craft

FORMS = ("folder", "npz", "csv")
"""Of `--to FORM:PATH`: a folder of files, arrays of images and sounds, a table of texts."""


@exports_by
def export_set(found: AdversarialSet, to: str) -> Path:
    """Write a set, and say where it is. `to` is FORM:PATH, or a path that ends in .npz or .csv.

    - `folder:PATH`: one file an example, PATH/CLASS/ID.png (.wav, .txt); of data from a folder, each is called as its
      clean file is.
    - `npz:PATH`: `clean`, `adversarial`, `labels`, with `classes`, `ids` and, of padded sounds, `lengths`.
    - `csv:PATH`: TextAttack's columns `original_text`, `perturbed_text` and `ground_truth_output`.

    Raises CaromError where the set does not hold what the form needs, and where PATH is taken.
    """
    form, colon, rest = to.partition(":")
    if not colon and Path(to).suffix.lower() in (".npz", ".csv"):
        form, rest = Path(to).suffix[1:].lower(), to
    if form not in FORMS or not rest:
        if form not in FORMS and colon:
            raise UnknownName("form of export", form, FORMS)
        raise CaromError(f"{to}: write FORM:PATH with a form of {', '.join(FORMS)}, for example folder:adversarial.")
    path = Path(rest).expanduser()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CaromError(f"{path}: exists. Name another, or remove it first.")
    if form == "folder":
        folder_for("the export", path, "--to")
        return _write_folder(found, path)
    file_for("the export", path, "--to")
    data = _arrays(found, path) if form == "npz" else _table(found, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return path


def sets_of(outcome: Transfer) -> Iterator[tuple[AdversarialSet, Craft]]:
    """What a study crafted, as far as it is in the store: one set for each source, attack and seed."""
    plan, store = outcome.plan, outcome.store
    by_shard = [list(plan.crafts(shard)) for shard in plan.shards()]
    for crafts in zip(*by_shard, strict=True):
        first = crafts[0]
        if not all(store.has(craft.key) for craft in crafts):
            continue
        tables = [store.rows(craft.key) for craft in crafts]
        inputs = [craft.inputs(store) for craft in crafts]
        held = {
            name: torch.cat([torch.tensor(table[name].to_pylist()) for table in tables])
            for name in ("success", "status", *COUNTS)
        }
        whole = torch.cat(inputs) if isinstance(inputs[0], Tensor) else [text for part in inputs for text in part]
        yield (
            AdversarialSet(
                source=first.source.name,
                attack=first.chosen.label,
                threat=plan.threat_label,
                modality=plan.modality,
                stored=whole,
                labels=plan.data.labels,
                ids=list(plan.data.ids),
                success=held["success"],
                status=held["status"],
                cost=Cost(*(held[name] for name in COUNTS)),
                clean=plan.data,
                budget=first.threat,
            ),
            first,
        )


def _write_folder(found: AdversarialSet, top: Path) -> Path:
    write = get_modality(found.modality).write_example
    names = found.class_names
    if write is None:
        raise CaromError(f"{found.modality} has no files of single examples. Choose another form: {', '.join(FORMS)}.")
    if names is None:
        raise CaromError("the set says no classes: pass the data that it was crafted on (--data).")
    paths = [_path(name, names[int(label)]) for name, label in zip(found.ids, found.labels, strict=True)]
    if len({str(path).casefold() for path in paths}) < len(paths):
        raise CaromError(f"{top}: two examples would have the same file. Export an .npz: --to npz:PATH.")
    clean = found.clean
    lengths = None if clean is None or clean.lengths is None else clean.lengths.tolist()
    for row, path in enumerate(paths):
        (top / path.parent).mkdir(parents=True, exist_ok=True)
        one = found.stored[row]
        write(one if lengths is None else one[: lengths[row]], None if clean is None else clean.space, top / path)
    return top


def _path(identity: str, label: str) -> PurePosixPath:
    """Where an example is written, without the ending: as its clean file lies, or in a folder of its class."""
    given = PurePosixPath(identity)
    if len(given.parts) > 1 and not given.is_absolute() and ".." not in given.parts and "\0" not in identity:
        return given.with_name(given.stem)
    return PurePosixPath(_file_name(label), _file_name(identity))


def _file_name(name: str) -> str:
    """A name that is one on every disk."""
    return re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name).strip(". ") or "_"


def _clean(found: AdversarialSet, form: str) -> Dataset:
    if found.clean is None:
        raise CaromError(
            f"a saved set holds no clean inputs, which {form} needs: pass the data that it was crafted on."
        )
    return found.clean


def _arrays(found: AdversarialSet, path: Path) -> bytes:
    clean = _clean(found, "an .npz")
    if not isinstance(found.stored, Tensor) or not isinstance(clean.stored, Tensor):
        raise CaromError(f"{path}: texts are no arrays. Export a table: --to csv:PATH, or --to folder:PATH.")
    more: dict[str, Any] = {} if clean.lengths is None else {"lengths": clean.lengths.numpy()}
    if "sample_rate" in vars(clean.space):
        more["sample_rate"] = np.array(vars(clean.space)["sample_rate"])
    file = io.BytesIO()
    np.savez_compressed(
        file,
        clean=clean.stored.cpu().numpy(),
        adversarial=found.stored.cpu().numpy(),
        labels=found.labels.cpu().numpy(),
        classes=np.array(clean.classes),
        ids=np.array(list(found.ids)),
        **more,
    )
    return file.getvalue()


def _table(found: AdversarialSet, path: Path) -> bytes:
    clean = _clean(found, "a table")
    if isinstance(found.stored, Tensor):
        raise CaromError(f"{path}: images and sounds are no table. Export arrays: --to npz:PATH, or --to folder:PATH.")
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("original_text", "perturbed_text", "ground_truth_output"))
    for text, changed, label in zip(clean.stored, found.stored, found.labels.tolist(), strict=True):
        writer.writerow((text, changed, clean.classes[label]))
    return file.getvalue().encode("utf-8", "surrogatepass")
