"""`--transform`: any gradient attack with registered transforms, and other examples for those that need them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import carom
from carom.common.attacks.catalogue.gradient import mi_fgsm
from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.data import Dataset
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack
from carom.common.runs.load import plan_of
from carom.common.runs.resolve import resolve, with_transform
from carom.common.runs.run import execute
from carom.common.study.attacker_data import OTHERS, apart, others_for
from carom.common.study.config import make_study
from carom.vision.attacks.input_transforms import di_fgsm, seen, smoothed
from carom.vision.attacks.views import Mixed, Resized
from carom.vision.space import PIXELS

IMAGE = get_modality("image")


def test_a_transform_makes_the_attack_that_has_it_by_another_name():
    chosen = choose_attack(IMAGE, "mi-fgsm?steps=4&transform=di,ti")
    assert chosen.attack == smoothed(seen(mi_fgsm(4), Resized()))
    assert chosen.label == "mi-fgsm?steps=4&transform=di,ti"
    assert carom.get_attack("mi-fgsm", transform="di") == di_fgsm()
    assert not chosen.needs_others
    mixed = choose_attack(IMAGE, "bim?transform=mix")
    assert mixed.needs_others
    assert isinstance(mixed.attack.transform, Mixed)
    soft = choose_attack(IMAGE, "soft-leaf-path?transform=di")
    assert soft.attack.ascent.transform == Resized()


@pytest.mark.parametrize(
    ("modality", "spec", "error", "says"),
    [
        ("image", "mi-fgsm?transform=dii", UnknownName, "no image transform is called 'dii'. Did you mean di"),
        ("image", "mi-fgsm?transform=di,di", CaromError, "transform di is named twice"),
        ("image", "square?transform=di", CaromError, "attack square takes no transform: it does not climb a gradient"),
        ("image", "leaf-path?transform=di", CaromError, "attack leaf-path takes no transform"),
        ("text", "greedy-unk?transform=di", CaromError, "text has no transforms"),
    ],
)
def test_what_cannot_be_transformed_is_said(modality, spec, error, says):
    with pytest.raises(error, match=says):
        choose_attack(get_modality(modality), spec)


def test_a_studys_transform_is_written_into_its_attacks():
    assert with_transform("pgd", "di,ti") == "pgd?transform=di,ti"
    assert with_transform("pgd?steps=3", "di") == "pgd?steps=3&transform=di"
    assert with_transform("pgd?transform=si", "di") == "pgd?transform=si"
    study = resolve(
        make_study({"modalities": {"image": {"transform": ["di", "ti"], "attacks": ["pgd", "bim?steps=2"]}}})
    )
    part = study.modalities["image"]
    assert part.attacks == ["pgd?transform=di,ti", "bim?steps=2&transform=di,ti"]
    assert part.transform is None
    assert resolve(study) == study


def data_of(values, name="data"):
    stored = torch.tensor(values, dtype=torch.uint8)[:, None]
    ids = [f"{name}-{v}" for v in values]
    return Dataset(name, "image", PIXELS, stored, torch.tensor(values) % 2, ids, ("a", "b"))


def test_others_come_from_the_train_split_and_are_never_under_attack():
    data = data_of([1, 2, 3])

    def load(split, limit):
        assert limit == 3 + OTHERS
        return {"train": data_of([3, 4, 5], "train"), "test": data_of([1, 2, 3, 9])}[split]

    assert others_for(data, load, "test").stored.flatten().tolist() == [4, 5]

    def no_train(split, limit):
        if split == "train":
            raise CaromError("no such split")
        return data_of([1, 2, 3, 9])

    assert others_for(data, no_train, "test").stored.flatten().tolist() == [9]
    with pytest.raises(CaromError, match=r"not under attack, and there are none.*--limit"):
        others_for(data, lambda split, limit: data, "test")
    assert apart(replace(data_of([7]), classes=("b", "a")), data) is None


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    part = {
        "sources": ["zoo:image-resnet"],
        "targets": ["zoo:image-tree"],
        "attacks": ["admix?steps=2", "bim?steps=2"],
        "transform": "ti",
        "limit": 6,
    }
    return make_study({"modalities": {"image": part}, "controls": 1, "store": str(tmp_path_factory.mktemp("store"))})


def test_admix_runs_in_a_study(study):
    run = execute(study)
    assert not run.failures
    (outcome,) = run.outcomes
    assert [row["attack"] for row in outcome.rows()] == ["admix?steps=2&transform=ti", "bim?steps=2&transform=ti"]
    assert outcome.rows()[0]["backward"] == 2 * 15
    assert len(outcome.plan.others) == OTHERS
    assert outcome.plan.others.facts["split"] == "train"


def test_others_are_part_of_the_key_of_what_uses_them_and_of_nothing_else(study):
    plan = plan_of(resolve(study), "image")
    fewer = replace(plan, others=plan.others.take(torch.arange(5)))
    (admix, bim), (changed, same) = (list(p.crafts(p.shards()[0])) for p in (plan, fewer))
    assert admix.key != changed.key
    assert bim.key == same.key


def test_the_facade_asks_for_others_by_name():
    data = carom.load_data("builtin:fashion-mnist", limit=4)
    model = carom.load_model("zoo:image-resnet")
    with pytest.raises(CaromError, match=r"admix.*pass others="):
        carom.attack(model, data, "admix?steps=1")
    others = carom.load_data("builtin:fashion-mnist", split="train", limit=8)
    made = carom.attack(model, data, mi_fgsm(1), transforms=["mix", "ti"], others=others)
    assert made.attack == "Ascent?transform=mix,ti"
    assert made.cost.backward.tolist() == [3] * 4
