"""What a targeted attack aims at: one class, the least likely, or a random other class."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch

import carom
from carom.common.base.errors import CaromError
from carom.common.study.plan import Plan
from carom.common.study.target_classes import read_target_classes
from carom.common.work.units import LEAST_LIKELY, Craft


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


def named(model, data):
    """A class for each example, in turn by name, by number and by the source's own scores; the first is its label."""
    names = [model.classes[(label + 1 + k % 8) % 10] for k, label in enumerate(data.labels.tolist())]
    wanted = [LEAST_LIKELY if k % 5 == 4 else model.classes.index(n) if k % 3 == 2 else n for k, n in enumerate(names)]
    wanted[0] = model.classes[int(data.labels[0])]
    return wanted


def places_of(wanted, model, data):
    scores = model.predict(data.batch())
    least = scores.scatter(1, data.labels[:, None], torch.inf).argmin(1).tolist()
    return [
        least[k] if name == LEAST_LIKELY else name if isinstance(name, int) else model.classes.index(name)
        for k, name in enumerate(wanted)
    ]


def test_a_class_for_each_example(model, data):
    wanted = named(model, data)
    found = outcome(model, data, target_class=dict(zip(data.ids, wanted, strict=True)))
    (craft,) = crafts(found)
    assert list(craft.data.ids) == list(data.ids)[1:]
    assert craft.targets().tolist() == places_of(wanted, model, data)[1:]
    assert any("left out 1 examples of the class that is aimed at for them" in w for w in found.summary()["warnings"])
    assert found.summary()["target_class"] == "a class for each example"
    (row,) = found.rows()
    stored = craft.data.space.decode(found.store.tensors(craft.key)["inputs"])
    said = model.predict(carom.Batch(stored, craft.data.labels, craft.data.ids)).argmax(1)
    right = model.predict(craft.data.batch()).argmax(1) == craft.data.labels
    hit = said == torch.from_numpy(craft.targets())
    assert row["targeted"] == pytest.approx(float(hit[right].float().mean()))
    assert row["targeted"] > row["targeted_control"]


def test_every_way_to_say_it_is_the_same_work(model, data, tmp_path):
    wanted = named(model, data)
    pairs = dict(zip(data.ids, wanted, strict=True))
    files = {
        "a.csv": "id,target\n" + "".join(f'"{i}",{c}\n' for i, c in pairs.items()) + "of no example,bag\n",
        "a.tsv": "\ufefftarget_class\tid\n" + "".join(f"{c}\t{i}\n" for i, c in pairs.items()),
        "a.json": json.dumps(pairs),
        "rows.json": json.dumps([{"id": i, "class": c} for i, c in pairs.items()]),
        "a.jsonl": "\n".join(json.dumps({"id": i, "target": c}) for i, c in reversed(pairs.items())),
    }
    keys = {crafts(outcome(model, data, target_class=said))[0].key for said in (pairs, wanted)}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (craft,) = crafts(outcome(model, data, target_class=f"@{tmp_path / name}"))
        keys.add(craft.key)
    assert len(keys) == 1
    other = {**pairs, data.ids[3]: model.classes[int(data.labels[3]) - 1]}
    assert crafts(outcome(model, data, target_class=other))[0].key not in keys
    crafted = carom.attack(model, data, "pgd?steps=5", eps="60/255", target_class=pairs)
    assert list(crafted.ids) == list(data.ids)[1:]


def test_entries_of_other_examples_change_nothing(model, data):
    pairs = dict(zip(data.ids, named(model, data), strict=True))
    few = data.take(torch.arange(10))
    alone = {name: pairs[name] for name in few.ids}
    (one,), (other,) = (crafts(outcome(model, few, target_class=said)) for said in (pairs, alone))
    assert one.key == other.key


def test_numbers_count_the_classes_of_the_data_or_are_refused(model, data):
    turned = tuple(reversed(data.classes))
    other = data.with_classes(turned, [turned.index(name) for name in data.classes])
    with pytest.raises(CaromError, match="is a number, and the models have their classes in another order"):
        outcome(model, other, target_class=[3] * len(data))
    (craft,) = crafts(outcome(model, other, target_class=["bag"] * len(data)))
    assert set(craft.targets().tolist()) == {model.classes.index("bag")}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, r"no class for 40 of the 40 examples of .*Give each of them one, by its id"),
        (["bag"], r"has 1 classes, and .* 40 examples"),
        (["bagg"] * 40, r"no class is called 'bagg'. Did you mean bag"),
        ([12] * 40, r"12 is no class of the 10, which are numbered from 0"),
        ([-1] * 40, r"no class is called '-1'"),
        ([None] * 40, r"None is neither the name nor the number"),
        ([True] * 40, r"True is neither the name nor the number"),
        ("@none.csv", r"none\.csv: no such file of target classes"),
    ],
)
def test_wrong_classes_for_examples_are_refused(model, data, said, why):
    with pytest.raises(CaromError, match=why):
        outcome(model, data, target_class=said)


def test_examples_that_are_all_of_their_class_are_refused(model, data):
    with pytest.raises(CaromError, match=r"all examples of .* are of the class that is aimed at for them"):
        outcome(model, data, target_class=data.labels.tolist())


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "", "holds no target classes"),
        ("a.csv", "name,target\nx,bag\n", "lacks the columns id and target"),
        ("a.csv", "id,target\nx,\n", "entry 1 .* names no class"),
        ("a.csv", "id,target\nx,bag\nx,coat\n", "'x' is given two target classes"),
        ("a.csv", b"id,target\n\xff\xfe,bag\n", "not a file of target classes that can be read"),
        ("a.json", "{", "not a file of target classes that can be read"),
        ("a.json", "[1]", "it holds no rows"),
        ("a.json", '{"x": 1.5}', "names no class: 1.5"),
        ("a.json", '{"x": ["bag"]}', "names no class"),
        ("a.jsonl", "[" * 9999, "not a file of target classes that can be read"),
        ("a.txt", "bag", r"ends in '\.txt', not in \.csv"),
    ],
)
def test_files_that_are_none_are_refused_by_name(name, text, why, tmp_path):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CaromError, match=why) as refused:
        read_target_classes(tmp_path / name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


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
    with pytest.raises(CaromError, match="deaf answers labels alone"):
        carom.transfer([deaf], [model], [Own()], data, eps="8/255", target_class=["least-likely"] * len(data))
