"""Values of a study that cannot be are refused by their key, before anything is computed."""

from __future__ import annotations

import pytest

from carom.common.base.errors import CaromError
from carom.common.modality.budgets import threat_from
from carom.common.modality.installed import get_modality
from carom.common.runs.devices import pick_device
from carom.common.study.config import make_study, read_study

MODALITIES = ["image", "audio", "text"]


def read(tmp_path, before="", inside=""):
    path = tmp_path / "st.toml"
    path.write_text(f"{before}\n[image]\n{inside}\n")
    return make_study(read_study(path, MODALITIES), str(path))


BEFORE = [
    'out = "a\\u0000b"', 'out = ""', "out = 5", 'store = "a\\u0000b"', 'store = "  "', 'device = ""',
    "seeds = []", "seeds = [9223372036854775808]", "seeds = [-9223372036854775809]", "seeds = [true]", "seeds = [0.5]",
    'seeds = ["0"]', "seeds = 0", "seeds = [nan]",
    "examples = -1", "examples = 1000000000000", "examples = 1.5", "examples = true",
    "controls = 0", "controls = 101", "controls = nan", "controls = 1979-05-27", 'controls = "5"', "controls = []",
    "batch = 0", "batch = -1", "batch = 10000000000000000000000", "batch = inf",
    "workers = 0", "workers = 1000000",
    "match = [0.0]", "match = [1.0]", "match = [nan]", 'match = ["half"]', "match = 0.5",
    "match_limit = 0", "match_controls = -5", "curve_limit = false", 'curve = ""',
]  # fmt: skip

INSIDE = [
    "sources = []", "targets = []", "attacks = []", "sources = [5]", 'sources = [""]', 'sources = ["a\\u0000b"]',
    'sources = "zoo:image-tree"', "sources = [{name = 'x'}]", "sources = [[]]", "attacks = [1]", 'attacks = ["a\\u0000"]',
    "sources = [{spec = 'zoo:image-tree', classes = ['a\\u0000'.]}]".replace("'.]", "']").replace("'a\\u0000'", '"a\\u0000"'),
    "limit = 0", "limit = -2", "limit = true", 'limit = "5"', "limit = 1e3", "limit = 10000000000000",
    "eps = nan", "eps = inf", "eps = -inf", "eps = true", "eps = []", 'eps = ""', 'eps = "8/0"', 'eps = "a lot"',
    'targeted = "yes"', "targeted = 1", 'targeted = ""', "targeted = []",
    'on_error = "maybe"', "on_error = 5", "split = 5", 'split = ""', "threat = []", "transform = 5", "data = 5", 'data = ""',
]  # fmt: skip


@pytest.mark.parametrize("line", BEFORE)
def test_settings_that_cannot_be_are_refused_by_their_key(line, tmp_path):
    with pytest.raises(CaromError, match=rf"st\.toml: {line.split()[0]}"):
        read(tmp_path, before=line)


@pytest.mark.parametrize("line", INSIDE)
def test_values_of_a_modality_that_cannot_be_are_refused_by_their_key(line, tmp_path):
    with pytest.raises(CaromError, match=rf"st\.toml: image\.{line.split()[0]}"):
        read(tmp_path, inside=line)


@pytest.mark.parametrize(
    "line", [f"controls = {'9' * 5000}", f"x = {'[' * 20000}{']' * 20000}", f"x = {'{a=' * 5000}1{'}' * 5000}", "x = "]
)
def test_files_that_do_not_parse_are_refused_by_name(line, tmp_path):
    with pytest.raises(CaromError, match=r"st\.toml: not a TOML file"):
        read(tmp_path, before=line)


def test_words_for_no_are_no_and_numbers_at_the_border_are_taken(tmp_path):
    study = read(tmp_path, "seeds = [9223372036854775807]\nexamples = 1000", 'targeted = "no"\neps = -5\nlimit = 1')
    assert study.modalities["image"].targeted is False
    assert study.seeds == [2**63 - 1]


@pytest.mark.parametrize(
    "name", ["vulkan", "meta", "mps", "cuda:99", "cuda:-1", "cpu:x", "cuda:99999999999999", "\x1b[0m"]
)
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(CaromError, match=r"^--device "):
        pick_device(name)


@pytest.mark.parametrize("eps", [-0.1, "-1/255", "1e400", "nan"])
def test_budgets_below_nothing_are_refused(eps):
    with pytest.raises(CaromError, match=r"."):
        threat_from(get_modality("image"), "linf", eps)
