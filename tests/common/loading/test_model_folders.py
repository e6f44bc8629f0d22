"""Folders of models from outside: sound ones load, and any other is refused by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import carom
from carom.common.base.errors import CaromError

SOUND = Path(__file__).parents[2] / "fuzz" / "corpus" / "hub"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(SOUND, tmp_path / "mod"))


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def load(folder, more=""):
    return carom.load_model(f"hf:{folder}{more}", "text")


def test_a_sound_folder_is_read(folder):
    assert load(folder).classes == ("negative", "positive")


FILES = {
    "no weights": ("model.safetensors", b""),
    "weights that lie": ("model.safetensors", b"\xff" * 64),
    "an empty tokenizer": ("tokenizer.json", b"{}"),
    "a tokenizer that is a list": ("tokenizer.json", b"[]"),
    "a configuration that is a list": ("config.json", b"[]"),
    "a configuration that is no JSON": ("config.json", b"{"),
    "a configuration that is not UTF-8": ("config.json", b'{"a": "caf\xe9"}'),
    "a configuration without end": ("config.json", b"[" * 100_000),
    "a configuration of nothing": ("config.json", b"{}"),
    "a tokenizer's configuration that is a number": ("tokenizer_config.json", b"5"),
    "an index elsewhere": ("model.safetensors.index.json", b'{"weight_map": {"w": "../../x.safetensors"}}'),
    "an index of numbers": ("model.safetensors.index.json", b'{"weight_map": {"w": 5}}'),
    "an adapter": ("adapter_config.json", b'{"base_model_name_or_path": "org/name"}'),
}


@pytest.mark.parametrize("what", FILES)
def test_damaged_files_are_refused_by_the_folders_name(what, folder):
    name, content = FILES[what]
    (folder / name).write_bytes(content)
    with pytest.raises(CaromError, match=str(folder)):
        load(folder)


VALUES = {
    "a padding token outside": {"pad_token_id": 10**9},
    "no heads": {"num_attention_heads": 0},
    "a million layers": {"num_hidden_layers": 10**6},
    "a hidden size without end": {"hidden_size": 10**9},
    "a vocabulary without end": {"vocab_size": 10**12},
    "a size that is a word": {"hidden_size": "large"},
    "a negative size": {"intermediate_size": -1},
    "another kind of model": {"model_type": "no-such-model"},
    "classes that are a list": {"id2label": [1, 2, 3]},
    "attention from elsewhere": {"attn_implementation": "org/kernel"},
}


@pytest.mark.parametrize("what", VALUES)
def test_configurations_that_cannot_be_are_refused_by_the_folders_name(what, folder):
    change(folder, **VALUES[what])
    with pytest.raises(CaromError, match=str(folder)):
        load(folder)


def test_code_in_a_folder_runs_for_true_alone(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("MARK", str(tmp_path / "RAN"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    change(folder, model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"})
    (folder / "evil.py").write_text(
        "import os\nopen(os.environ['MARK'], 'w').write('x')\nfrom transformers import BertConfig as C\n"
        "from transformers import BertForSequenceClassification as M\n"
    )
    for word in ("no", "off", "No", "FALSE", "0", "yes", "on", "1", "tru", ""):
        with pytest.raises(CaromError, match=r"."):
            load(folder, f"?trust_remote_code={word}")
        assert not (tmp_path / "RAN").exists()
    with pytest.raises(CaromError, match=r"."):
        load(folder)
    assert not (tmp_path / "RAN").exists()


def test_a_wide_layer_that_the_weights_hold_is_no_damage(folder):
    """What a configuration asks for is measured by the weights beside it."""
    save_file({"w": torch.zeros(1, 1 << 17)}, folder / "other.safetensors")
    change(folder, intermediate_size=1 << 18)
    from carom.common.loading.model_folders import check_folder

    check_folder(folder)
    (folder / "other.safetensors").unlink()
    with pytest.raises(CaromError, match="intermediate_size is 262144"):
        check_folder(folder)
