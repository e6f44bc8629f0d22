"""Studies: whatever is wrong in one is said in a line that names the file and the nearest that exists."""

from __future__ import annotations

import json

import pytest

from carom.common.base.errors import CaromError
from carom.common.cli.main import study_to_start_from
from carom.common.modality.installed import get_modality
from carom.common.runs.resolve import resolve
from carom.common.study.config import SETTINGS, make_study, read_study

MODALITIES = ["image", "audio", "text"]

GOOD = """
seeds = [0, 1]
controls = 7
[image]
sources = ["zoo:image-resnet", { spec = "py:mine:model", bounds = [0, 255], classes = ["a", "b"] }]
targets = ["zoo:image-forest"]
attacks = ["pgd?steps=20", "square"]
threat = "linf"
eps = "8/255"
[audio]
limit = 10
"""


def read(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return make_study(read_study(path, MODALITIES), str(path))


def test_a_study_is_read(tmp_path):
    study = read(tmp_path, GOOD)
    image = study.modalities["image"]
    assert study.seeds == [0, 1]
    assert study.controls == 7
    assert image.sources[0].spec == "zoo:image-resnet"
    assert image.sources[1].facts == {"bounds": [0, 255], "classes": ["a", "b"]}
    assert image.eps == "8/255"
    assert study.modalities["audio"].limit == 10
    assert study.modalities["audio"].sources == []


def test_a_study_survives_being_saved(tmp_path):
    study = read(tmp_path, GOOD)
    assert make_study(json.loads(json.dumps(study.model_dump(mode="json")))) == study


def test_default_sources_are_those_that_the_attacks_can_run_on(tmp_path):
    def sources(*lines):
        study = resolve(read(tmp_path, "\n".join(("[image]", *lines))))
        return [named.spec for named in study.modalities["image"].sources]

    everyone = list(get_modality("image").defaults.sources)
    assert sources() == sources('attacks = ["square", "pgd"]') == everyone
    assert sources('attacks = ["pgd"]', 'transform = "di"') == [spec for spec in everyone if "forest" not in spec]
    assert sources('attacks = ["leaf-path"]') == ["zoo:image-forest"]
    assert sources('attacks = ["pgd"]', 'sources = ["zoo:image-forest"]') == ["zoo:image-forest"]  # as asked


def test_the_study_that_init_writes_can_be_read(tmp_path):
    text = study_to_start_from()
    assert read(tmp_path, text).modalities


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedes = [1]\n[image]\n", "unknown key 'sedes'. Did you mean 'seeds'"),
        ("[imge]\n", "unknown key 'imge'. Did you mean 'image'"),
        ("[image]\natacks = ['pgd']\n", r"unknown key 'atacks' in \[image\]. Did you mean 'attacks'"),
        ("[image]\nzzzz = 1\n", "Known: attacks, data"),
        ("seeds = [1]\n", r"nothing to measure. Add a table \[image\], \[audio\], \[text\]"),
        ("image = 3\n", "image must be a table"),
        ("[image\n", "not a TOML file"),
        ("seeds = []\n[image]\n", "seeds: List should have at least 1 item"),
        ("seeds = ['x']\n[image]\n", "seeds.0: Input should be a valid integer"),
        ("controls = 0\n[image]\n", "controls: Input should be greater than or equal to 1"),
        ("[image]\nlimit = 0\n", "image.limit: Input should be greater than or equal to 1"),
        ("[image]\non_error = 'ignore'\n", "image.on_error: String should match pattern"),
        ("[image]\nsources = 'zoo:image-resnet'\n", "image.sources: Input should be a valid list"),
        ("[image]\nsources = [{ name = 'no spec' }]\n", "image.sources.0.spec: Field required"),
        ("[image]\neps = [1]\n", "image.eps"),
    ],
)
def test_what_is_wrong_is_said(text, message, tmp_path):
    with pytest.raises(CaromError, match=message) as caught:
        read(tmp_path, text)
    assert "study.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CaromError, match=r"no such file. `carom init` writes one"):
        read_study(tmp_path / "none.toml", MODALITIES)
    with pytest.raises(CaromError, match="cannot be read"):
        read_study(tmp_path, MODALITIES)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CaromError, match="not a TOML file"):
        read_study(tmp_path / "binary.toml", MODALITIES)


def test_settings_and_modalities_do_not_collide():
    assert not set(SETTINGS) & set(MODALITIES)
