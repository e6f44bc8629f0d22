"""The worked diff of the guide applies, and what it adds is a defence."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import torch
from toys import Tiny

import carom
from carom.common.defences.catalogue import defences_in
from carom.common.defences.info import DefenceChoice
from carom.vision.defences import transforms

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "add-defence.md"


def test_a_defence_is_a_few_lines_and_they_work(monkeypatch) -> None:
    block = re.search(r"```diff\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    _, path, _, *hunk = block[1].splitlines()
    assert sum(line.startswith("+") for line in hunk) <= 20
    assert not any(line.startswith("-") for line in hunk)
    file = Path(transforms.__file__)
    assert file.as_posix().endswith(path.removeprefix("+++ b/"))
    before = "\n".join(line[1:] for line in hunk if not line.startswith("+"))
    after = "\n".join(line[1:] for line in hunk)
    source = file.read_text(encoding="utf-8")
    assert source.count(before) == 1
    module = ModuleType("worked")
    monkeypatch.setitem(sys.modules, "worked", module)  # dataclasses look their module up
    exec(compile(source.replace(before, after), "worked", "exec"), vars(module))  # a catalogue of its own
    old, new = defences_in(transforms.TRANSFORMS), defences_in(module.TRANSFORMS)
    (name,) = set(new) - set(old)
    model = carom.load_model(Tiny(classes=2), "image", normalise=None, classes=["a", "b"])
    darker = DefenceChoice(new[name], {}, module.Darkened(0.5)).around(model)
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(darker(x).logits, model(x / 2).logits)
