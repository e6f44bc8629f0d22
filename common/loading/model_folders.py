"""Folders of models in the hub's layout, looked through before the library that loads them follows what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.received import read_json

LAYERS = re.compile(r"(^|_)(layers?|blocks|depths?)$|^n_layers?$")
SIZES = re.compile(r"size|dim|hidden|channels|width|heads|labels|experts|rank|d_model|d_ff|n_embd|n_inner|states")

WIDEST = 1 << 16
"""A size that no weights need to vouch for."""


def check_folder(folder: Path) -> None:
    """Raise CaromError for a folder that sends elsewhere, whose JSON files are of another shape, or whose configuration
    asks for a network that its weights cannot fill: building it could take all memory, or for ever."""
    if (folder / "adapter_config.json").exists():
        raise CaromError(
            f"{folder}: an adapter names the model that it belongs to, which would be fetched. Merge both "
            "(merge_and_unload) and save the whole model with save_pretrained."
        )
    held = {path.name: _mapping(path) for path in sorted(folder.glob("*.json")) if path.name not in FREE}
    for name, content in held.items():
        if name.endswith(".index.json"):
            _check_index(folder / name, content)
    _check_sizes(folder, held.get("config.json", {}))


FREE = ("tokenizer.json", "vocab.json", "added_tokens.json")
"""Large, and read by the tokenizers library alone; and what may lie beside them."""


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise CaromError(f"{path}: not JSON that can be read ({error}). Save the model with save_pretrained.") from None
    if not isinstance(content, dict):
        raise CaromError(
            f"{path}: holds a {type(content).__name__}, not a mapping. Save the model with save_pretrained."
        )
    return content


def _check_index(path: Path, content: dict[str, Any]) -> None:
    """The parts that weights are saved in lie beside their index."""
    parts = content.get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
        raise CaromError(f"{path}: names no files of weights. Save the model with save_pretrained.")
    if away := sorted({name for name in parts.values() if Path(name).name != name or name in ("", "..")}):
        raise CaromError(f"{path}: names weights elsewhere ({away[0]!r:.80}). Put all files into one folder.")


def _check_sizes(folder: Path, config: dict[str, Any]) -> None:
    shapes = [shape for path in folder.glob("*.safetensors") for shape in _shapes(path)]
    if not shapes:
        return
    widest = max((side for shape in shapes for side in shape), default=0)
    for name, value in _numbers(config):
        most = len(shapes) if LAYERS.search(name) else max(WIDEST, 16 * widest) if SIZES.search(name) else None
        if most is not None and value > max(most, 64):
            raise CaromError(
                f"{folder}/config.json: {name} is {value}, and the weights beside it fill no such network. Save both "
                "together with save_pretrained."
            )
    attention = config.get("attn_implementation") or config.get("_attn_implementation")
    if isinstance(attention, str) and "/" in attention:
        raise CaromError(f"{folder}/config.json: attention by {attention!r:.80} would be fetched. Take the entry out.")


def _shapes(path: Path) -> list[list[int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise CaromError(f"{path}: not a safetensors file ({error}). Save the model with save_pretrained.") from None


def _numbers(config: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    """(key, value) of the whole numbers in a configuration and in those within it."""
    for name, value in config.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int) and not isinstance(one, bool):
                yield str(name), one
            elif isinstance(one, dict) and depth < 4:
                yield from _numbers(one, depth + 1)
