"""Which examples the report shows: of all classes and parts of the data, each with what belongs to it."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from carom.common.api import load_data, load_model, transfer
from carom.common.report.page import render
from carom.common.study import plan as module
from carom.common.study.examples import choose_examples


def test_examples_come_from_all_of_data_that_are_sorted_by_class(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SHARD", 16)
    data = load_data("builtin:fashion-mnist", limit=64)
    data = data.take(data.labels.argsort(stable=True))
    names = ("image-mlp", "image-tree")
    outcome = transfer(["zoo:image-mlp"], [f"zoo:{name}" for name in names], ["fgsm"], data, controls=1, store=tmp_path)
    found = list(choose_examples(outcome, 6))
    assert found == list(choose_examples(outcome, 6))
    assert len(found) == 6
    assert {e.target for e in found} == {"image-tree"}
    assert len({e.label for e in found}) > 3
    assert {"transferred", "source only"} <= {e.outcome for e in found}

    source, target = (load_model(f"zoo:{name}") for name in names)
    for example in found:
        row = list(data.ids).index(example.id)
        assert example.label == data.classes[int(data.labels[row])]
        clean, adversarial = (
            torch.from_numpy(np.asarray(Image.open(io.BytesIO(panel.png))).copy())[None] for panel in example.panels[:2]
        )
        assert torch.equal(clean, data.stored[row])
        said = [data.classes[int(m(data.space.decode(adversarial[None])).logits.argmax())] for m in (source, target)]
        assert [example.source_says, example.target_says] == said


def test_a_source_that_is_measured_on_itself_alone_shows_its_own_examples(tmp_path):
    data = load_data("builtin:fashion-mnist", limit=24)
    outcome = transfer(["zoo:image-mlp"], ["zoo:image-mlp"], ["fgsm"], data, eps="8/255", controls=1, store=tmp_path)
    found = list(choose_examples(outcome, 4))
    assert {e.outcome for e in found} == {"fooled", "failed"}
    for example in found:
        assert (example.target_says != example.label) == (example.outcome == "fooled")
        assert example.source_says == example.target_says
    page = render({"modalities": {"image": outcome.summary()}}, found, "One")
    assert "measured on itself alone" in page
    assert "the target is fooled" not in page
    assert "Spearman" not in page
