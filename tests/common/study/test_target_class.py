"""What a targeted attack aims at: one class, the least likely, or a random other class."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import carom
from carom.common.base.errors import CaromError
from carom.common.study.plan import Plan
from carom.common.work.units import Craft


@pytest.fixture(scope="module")
def model():
    return carom.load_model("zoo:image-mlp")


@pytest.fixture(scope="module")
def data():
    return carom.load_data("builtin:fashion-mnist", limit=40)


def outcome(model, data, **aim):
    return carom.transfer([model], [model], ["pgd?steps=5"], data, eps="60/255", controls=2, **aim)


def crafts(outcome) -> list[Craft]:
    plan: Plan = outcome.plan
    return [craft for shard in plan.shards() for craft in plan.crafts(shard)]


def test_one_class_for_all_without_its_own_examples(model, data):
    found = outcome(model, data, target_class="Bag")  # as the model spells it: bag
    (craft,) = crafts(found)
    bag = model.classes.index("bag")
    assert set(craft.targets().tolist()) == {bag}
    assert len(found.plan.data) == int((data.labels != bag).sum()) < len(data)
    assert any("examples of bag, the class that is aimed at" in line for line in found.summary()["warnings"])
    assert found.summary()["target_class"] == "bag"
    (row,) = found.rows()
    stored = craft.data.space.decode(found.store.tensors(craft.key)["inputs"])
    said = model.predict(carom.Batch(stored, craft.data.labels, craft.data.ids)).argmax(1)
    right = model.predict(craft.data.batch()).argmax(1) == craft.data.labels
    assert row["targeted"] == pytest.approx(float((said[right] == bag).float().mean()))
    assert row["targeted_control"] is not None
    assert row["targeted"] > row["targeted_control"]


def test_the_least_likely_is_never_the_label(model, data):
    (craft,) = crafts(outcome(model, data, target_class="least-likely"))
    scores = model.predict(data.batch())
    assert craft.targets().tolist() == scores.scatter(1, data.labels[:, None], torch.inf).argmin(1).tolist()
    assert (torch.from_numpy(craft.targets()) != data.labels).all()


def test_a_random_class_is_what_targeted_alone_means(model, data):
    (one,), (other,) = (crafts(outcome(model, data, **aim)) for aim in ({"targeted": True}, {"target_class": "random"}))
    assert one.key == other.key
    (least,) = crafts(outcome(model, data, target_class="least-likely"))
    assert least.key != one.key


def test_what_cannot_be_aimed_at(model, data):
    with pytest.raises(CaromError, match=r"no class is called 'bagg'. Did you mean bag"):
        outcome(model, data, target_class="bagg")

    def labels(x):
        return [[1.0] + [0.0] * 9 for _ in x]

    deaf = carom.load_model(labels, "image", classes=model.classes, answers="probabilities", name="deaf")
    deaf.access = carom.Access.LABEL

    @dataclass(frozen=True)
    class Own:
        name = "own"
        needs = carom.Access.LABEL

    with pytest.raises(CaromError, match="deaf answers labels alone"):
        carom.transfer([deaf], [model], [Own()], data, eps="8/255", target_class="least-likely")
