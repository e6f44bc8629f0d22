"""The worked diff of the guide applies, and what it adds is an attack."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import torch
from toys import Tiny

import carom
import carom.vision
from carom.common.attacks.catalogue.base import attacks_within
from carom.common.core.data import Dataset
from carom.common.modality.registry import build_attack
from carom.vision import MODALITY
from carom.vision.attacks import input_transforms
from carom.vision.space import PIXELS

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "add-attack.md"


def worked_diff() -> tuple[str, list[str]]:
    """(file, lines of the one hunk)"""
    block = re.search(r"```diff\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    _, new, _, *hunk = block[1].splitlines()
    return new.removeprefix("+++ b/"), hunk


def test_an_attack_is_six_lines_and_they_work() -> None:
    path, hunk = worked_diff()
    assert sum(line.startswith("+") for line in hunk) <= 6
    assert not any(line.startswith("-") for line in hunk)
    file = Path(input_transforms.__file__)
    assert file.as_posix().endswith(path)
    before = "\n".join(line[1:] for line in hunk if not line.startswith("+"))
    after = "\n".join(line[1:] for line in hunk)
    source = file.read_text(encoding="utf-8")
    assert source.count(before) == 1
    module = ModuleType("worked")
    exec(compile(source.replace(before, after), "worked", "exec"), vars(module))  # a catalogue of its own

    old = attacks_within(MODALITY.threats, input_transforms.VIEWS)
    new = attacks_within(MODALITY.threats, module.VIEWS)
    (name,) = set(new) - set(old)
    made = build_attack(MODALITY, new[name], {"steps": 2, "samples": 2})
    model = carom.load_model(Tiny(classes=2), "image", normalise=None, classes=["a", "b"])
    images = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Dataset("toy", "image", PIXELS, images, torch.arange(4) % 2, list("0123"), ("a", "b"))
    found = carom.attack(model, data, made.attack, threat="linf", eps="8/255")
    assert (found.stored != images).any()
    assert (found.stored.int() - images.int()).abs().max() <= 8
