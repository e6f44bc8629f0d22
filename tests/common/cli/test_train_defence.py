"""`carom train --defence`: recipes of the zoo and of one's own, and what is made of the files that it writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import robust_toy as toy
import torch
from click.testing import CliRunner
from torch import nn

import carom
from carom.common.base.errors import CaromError
from carom.common.base.received import ships
from carom.common.cli.main import cli
from carom.common.cli.show import defended_recipe, recipe_of
from carom.common.loading.packing import pack
from carom.common.loading.zoo import load_body, network_of, read_card, train_and_save, write
from carom.common.modality.installed import get_modality, modalities
from carom.common.models.averaged import Averaged

AT = "pgd-at?eps=0.1&attack=(pgd?steps=3&size=0.5)"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=True)
    error = result.exception
    said = str(error) if isinstance(error, CaromError) else result.stderr
    return (2 if isinstance(error, CaromError) else result.exit_code), result.stdout, said


def test_a_recipe_of_ones_own_is_trained_with_a_defence(tmp_path):
    code, out, said = run("train", "py:robust_toy:recipe", "--defence", AT, "--out", str(tmp_path), "-q", "--json")
    assert code == 0, said
    card = json.loads(out)
    assert card["defence"] == AT
    assert card["command"] == f"carom train py:robust_toy:recipe --defence '{AT}'"
    (checkpoint,) = tmp_path.glob("*.safetensors")
    assert checkpoint.stem == card["name"] == "toy-pgd-at-eps-0.1-attack-pgd-steps-3-size-0.5"
    assert 0.85 < card["clean_accuracy"] < 0.97  # of the robust feature alone
    body = load_body(toy.recipe(), str(checkpoint))
    assert isinstance(body, nn.Module)
    assert toy.robust_accuracy(body) > 0.8
    plain = json.loads(run("train", "py:robust_toy:recipe", "--out", str(tmp_path), "-q", "--json")[1])
    assert "defence" not in plain
    assert plain["clean_accuracy"] > 0.97


def test_the_same_command_gives_the_same_bytes_and_a_seed_others(tmp_path):
    def sha(folder: str, seed: int = 0) -> str:
        recipe = defended_recipe(toy.recipe(seed), "py:robust_toy:recipe", "fast-at?eps=0.1")
        return train_and_save(recipe, tmp_path / folder)["sha256"]

    assert sha("a") == sha("b") != sha("c", seed=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("zoo:image-mlp", "--defence", "pgd"), "no image defence is called 'pgd'"),
        (("zoo:image-mlp", "--defence", "pgd-at?epz=0.1"), "Did you mean eps"),
        (("zoo:image-mlp", "--defence", "jpeg"), "defended:zoo:image-mlp+jpeg"),
        (("zoo:image-forest", "--defence", "pgd-at"), "choose harden"),
        (("zoo:audio-kwt", "--defence", "freelb"), "is a defence of models for text, not for audio"),
        (("zoo:image-mlp", "--defence", "ard"), "teacher"),
        (("zoo:image-resnet-at", "--defence", "trades"), "a method of its own already"),
        (("py:robust_toy:network",), "takes a Recipe"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_is_computed(arguments, words, tmp_path):
    code, _, said = run("train", *arguments, "--out", str(tmp_path), "-q")
    assert code == 2
    assert words in said
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_from_elsewhere_is_a_model_of_the_zoo(tmp_path):
    recipe = get_modality("image").recipes["image-tree"]
    path = tmp_path / "mine.safetensors"
    shutil.copy(recipe.checkpoint, path)
    found = carom.load_model(f"zoo:image-tree?weights={path}")
    assert found.digest == carom.load_model("zoo:image-tree").digest
    assert found.name == "mine"
    assert not ships(f"zoo:image-tree?weights={path}")


def test_several_that_answer_together_are_read_as_they_were_written(tmp_path):
    recipe = get_modality("image").recipes["image-mlp"]
    torch.manual_seed(0)
    body = Averaged(network_of(recipe) for _ in range(2)).eval()
    made = replace(recipe, name="both", build=lambda: Averaged(network_of(recipe) for _ in range(2)))
    write(replace(made, evaluate=lambda recipe, body: 0.0), body, tmp_path)
    model = carom.load_model(f"zoo:image-mlp?weights={tmp_path / 'both.safetensors'}")
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(x).logits, body(x), atol=0.05)
    assert model.name == "both"


@pytest.mark.parametrize("content", [b"", b"no tensors", "other"])
def test_a_file_that_holds_something_else_is_named(content, tmp_path):
    path = tmp_path / "mine.safetensors"
    if isinstance(content, str):
        from safetensors.torch import save_file

        save_file(pack(toy.network()), path)
    else:
        path.write_bytes(content)
    with pytest.raises(CaromError, match=r"mine.safetensors: no checkpoint that `carom train` wrote"):
        carom.load_model(f"zoo:image-mlp?weights={path}")
    with pytest.raises(CaromError, match="no such checkpoint"):
        carom.load_model(f"zoo:image-mlp?weights={tmp_path / 'none'}")


def test_every_model_of_the_zoo_that_a_defence_trained_says_so():
    found = [recipe for owner in modalities() for recipe in owner.recipes.values() if recipe.defence]
    assert found
    for recipe in found:
        assert read_card(recipe)["defence"] == recipe.defence
        assert read_card(recipe)["command"] == f"carom train zoo:{recipe.name}"
        assert recipe_of(f"zoo:{recipe.name}") is recipe


def test_lists_say_how_a_training_defence_is_used():
    rows = {row["name"]: row for row in json.loads(run("list", "defences", "-m", "image", "--json")[1])}
    assert rows["pgd-at"]["kind"] == "training"
    assert rows["pgd-at"]["use"] == "carom train zoo:NAME --defence pgd-at"
    assert rows["ard"]["parameters"]["teacher"] == "needed"
    code, out, _ = run("show", "trades")
    assert code == 0
    assert "Zhang et al. 2019" in out
