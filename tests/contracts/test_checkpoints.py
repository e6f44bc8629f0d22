"""Every checkpoint that ships is what its card says, and all that is tracked stays small."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from carom.common.loading.packing import LARGE, precision
from carom.common.loading.zoo import Recipe, load_body, read_card
from carom.common.modality.installed import get_modality
from carom.common.models.trees import TreeEnsemble

RECIPES = [recipe for modality in ("image", "audio", "text") for recipe in get_modality(modality).recipes.values()]
MOST = 45_000_000  # bytes of all tracked files together


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_card(recipe: Recipe) -> None:
    card, tensors = read_card(recipe), load_file(recipe.checkpoint)
    assert card["sha256"] == hashlib.sha256(recipe.checkpoint.read_bytes()).hexdigest()
    assert card["precision"] == precision(tensors)
    assert (card["name"], card["seed"], card["half"]) == (recipe.name, recipe.seed, recipe.half)
    with safe_open(recipe.checkpoint, framework="pt") as file:
        assert file.metadata() == {"carom": recipe.name}
    if not recipe.origin and recipe.name != "text-minilm":
        assert card["data_digest"] == recipe.data_digest(recipe)
        assert (card["data"], card["command"]) == (recipe.data, recipe.command)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_no_large_matrix_is_wider_than_a_byte(recipe: Recipe) -> None:
    if recipe.family == "tree":
        assert {t.dtype for t in load_file(recipe.checkpoint).values() if t.numel() > LARGE} <= {
            torch.int16,
            torch.uint16,
            torch.float16,
            torch.float32,
        }
    else:
        wide = [t for t in load_file(recipe.checkpoint).values() if t.ndim > 1 and t.numel() >= LARGE]
        assert {t.dtype for t in wide} == {torch.int8}


@pytest.mark.parametrize("name", ["image-forest", "audio-forest", "text-tree"])
def test_forests_load_as_trees(name: str) -> None:
    body = load_body(next(recipe for recipe in RECIPES if recipe.name == name))
    assert isinstance(body, TreeEnsemble)
    assert body.value.sum(2).max() <= 1.01


def test_tracked_files_are_small() -> None:
    root = Path(__file__).parents[2]
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("not a checkout: what is tracked is not known")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    sizes = {name: (root / name).lstat().st_size for name in names.split("\0") if name and (root / name).exists()}
    largest = sorted(sizes, key=lambda name: sizes[name])[-5:]
    assert sum(sizes.values()) <= MOST, f"{sum(sizes.values())} bytes, the largest {largest}"
