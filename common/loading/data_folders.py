"""Folders of data, looked through before the library that reads them follows what they say: nothing in a folder that was
received names a place outside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.received import read_json, words_of

LONGEST = 1 << 20
"""Bytes of a README that are read."""

INSIDE = "Only files of the folder itself are read: put them there, and name them as they lie in it."


def check_data_folder(folder: Path) -> None:
    """Raise CaromError for a folder that sends elsewhere: a README or a saved table that names other places, a link that
    leads out, a kind of file that has links of its own."""
    for name in ("README.md", ".huggingface.yaml"):
        if (folder / name).is_file():
            for place in words_of(_places(folder / name)):
                if _away(place):
                    raise CaromError(f"{folder / name}: names data elsewhere ({place!r:.80}). {INSIDE}")
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise CaromError(f"{path}: is a link that leads out of {folder}. {INSIDE}")
        if path.suffix.lower() in (".h5", ".hdf5"):
            raise CaromError(
                f"{path}: HDF5 files may read others, so they are not taken. Save a table: .parquet, .csv."
            )
        if path.name in ("state.json", "dataset_dict.json"):
            _check_saved(path)


def _places(path: Path) -> Iterator[Any]:
    """What the configurations of a README name as data, at any depth."""
    import yaml

    if path.stat().st_size > LONGEST:
        raise CaromError(f"{path}: larger than {LONGEST >> 20} MB. Leave it out, or shorten it.")
    try:
        text = path.read_text(encoding="utf-8-sig").lstrip()
        parts = text.split("---", 2)
        head = text if path.suffix == ".yaml" else parts[1] if text.startswith("---") and len(parts) == 3 else ""
        # An alias may stand for itself, or for itself a thousand times.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(head)):
            raise CaromError(f"{path}: holds YAML aliases. Write its configurations out.")
        content = yaml.safe_load(head)
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CaromError(f"{path}: cannot be read ({first}). Leave it out, or mend it.") from None
    configs = content.get("configs") if isinstance(content, dict) else None
    for config in configs if isinstance(configs, list) else [configs]:
        if isinstance(config, dict):
            yield from (config.get(key) for key in ("data_files", "data_dir"))


def _away(place: str) -> bool:
    """Whether a place that is to lie in a folder is named as one that does not."""
    parts = PurePosixPath(place.replace("\\", "/")).parts
    return ".." in parts or place.startswith(("/", "~", "\\")) or ":" in place


def _check_saved(path: Path) -> None:
    """What `save_to_disk` writes names files, or folders, that lie beside it."""
    try:
        content = read_json(path)
        names = (
            content["splits"] if path.name == "dataset_dict.json" else [f["filename"] for f in content["_data_files"]]
        )
        if not all(isinstance(name, str) for name in names):
            raise ValueError("a name is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CaromError(f"{path}: not what save_to_disk writes ({error}). Save the data again.") from None
    if away := [name for name in names if _away(name)]:
        raise CaromError(f"{path}: names data elsewhere ({away[0]!r:.80}). {INSIDE}")


def confined(table: Any, name: str, folders: Sequence[Path]) -> Any:
    """A table of the `datasets` library that reads nothing by itself: pictures and sounds stay as they are stored, and
    those that are named by a path lie in one of the folders. Columns that hold them deeper are left out."""
    import datasets
    import pyarrow.compute as pc

    within = [folder.resolve() for folder in folders]
    for column, feature in table.features.items():
        if not isinstance(feature, datasets.Image | datasets.Audio):
            if _fetches(feature):
                table = table.remove_columns(column)
            continue
        table = table.cast_column(column, type(feature)(decode=False))
        cells = table.data.column(column)
        unread = pc.is_null(pc.struct_field(cells, "bytes"))
        for path in set(pc.struct_field(cells, "path").filter(unread).to_pylist()) - {None}:
            if not any(Path(path).resolve().is_relative_to(folder) for folder in within):
                raise CaromError(f"{name}: column {column} names a file elsewhere ({path!r:.80}). {INSIDE}")
    return table


def _fetches(feature: Any) -> bool:
    """Whether reading a cell of this feature may open what it names."""
    if isinstance(feature, dict):
        return any(map(_fetches, feature.values()))
    if isinstance(feature, list):
        return any(map(_fetches, feature))
    inner = getattr(feature, "feature", None)
    return hasattr(feature, "decode_example") or (inner is not None and _fetches(inner))
