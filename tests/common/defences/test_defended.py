"""Specs, registry and parts of defences."""

from __future__ import annotations

import pytest
import torch
from toys import Tiny

import carom
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.received import ships
from carom.common.base.rng import Rng
from carom.common.base.specs import defended_by, parse, split_defended
from carom.common.core.batch import Batch
from carom.common.core.data import Dataset
from carom.common.defences.detectors import RejectionLevel
from carom.common.defences.info import DefenceInfo
from carom.common.defences.voting import majority_of, mean_of
from carom.common.modality.defences import choose_defence, defences_of, find_defence
from carom.common.modality.installed import get_modality
from carom.vision.space import PIXELS


def tiny(name: str = "tiny", classes: int = 3) -> carom.Model:
    torch.manual_seed(0)
    names = list("abc")[:classes]
    return carom.load_model(Tiny(classes=classes), "image", normalise=None, classes=names, name=name)


def images(n: int = 12, seed: int = 0, name: str = "toy") -> Dataset:
    stored = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Dataset(
        name, "image", PIXELS, stored, torch.arange(n) % 3, [f"{name}{i}" for i in range(n)], ("a", "b", "c")
    )


@pytest.mark.parametrize(
    ("rest", "model", "defences"),
    [
        ("zoo:a+jpeg", "zoo:a", ["jpeg"]),
        ("zoo:a+jpeg?quality=50+noise?sigma=0.1&seed=3", "zoo:a", ["jpeg?quality=50", "noise?sigma=0.1&seed=3"]),
        ("py:m:f?width=3+jpeg", "py:m:f?width=3", ["jpeg"]),
        ("(ensemble:zoo:a+zoo:b)+vote", "ensemble:zoo:a+zoo:b", ["vote"]),
        ("(py:m:f?scale=1e+5)+jpeg", "py:m:f?scale=1e+5", ["jpeg"]),
    ],
)
def test_a_spec_is_a_model_and_its_defences(rest, model, defences):
    assert split_defended(rest) == (model, defences)
    assert parse(f"defended:{rest}").rest == rest
    found = model
    for defence in defences:
        found = defended_by(found, defence)
    assert split_defended(parse(found).rest) == (model, defences)


@pytest.mark.parametrize("rest", ["zoo:a", "zoo:a+", "+jpeg", "(zoo:a+jpeg", "zoo:a++jpeg"])
def test_a_spec_without_defences_is_refused(rest):
    with pytest.raises(CaromError, match="is not a model and its defences"):
        split_defended(rest)


def test_specs_and_calls_make_the_same_model():
    one = carom.load_model("defended:zoo:image-vgg+jpeg?quality=50+noise")
    other = carom.defend("zoo:image-vgg", "jpeg?quality=50", "noise")
    third = carom.defend(carom.defend("zoo:image-vgg", "jpeg?quality=50"), "noise")
    assert one.name == other.name == third.name == "image-vgg+jpeg?quality=50+noise"
    assert len({one.digest, other.digest, third.digest}) == 1
    assert carom.defend("zoo:image-vgg", "noise", "jpeg?quality=50").digest != one.digest
    assert carom.defend("zoo:image-vgg", "jpeg?quality=51", "noise").digest != one.digest
    assert one.access.words() == ["label", "score", "gradient"]
    ensemble = carom.load_model("ensemble:zoo:image-resnet+(defended:zoo:image-vgg+noise)")
    assert ensemble.random
    assert ensemble.eot == 16


def test_facts_are_the_models_and_a_name_is_the_wholes():
    spec = "defended:py:toys:tiny+jpeg"
    found = carom.load_model(spec, "image", classes=["a", "b", "c"], normalise=None, name="mine")
    assert (found.name, found.classes) == ("mine", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("jpg", "no image defence is called 'jpg'. Did you mean jpeg?"),
        ("quantise", "quantise is a defence of models for audio, not for image"),
        ("jpeg?qualty=3", "Did you mean quality?"),
        ("jpeg?quality=high", "quality takes a whole number"),
        ("jpeg?quality=101", "none of 1 to 100"),
        ("noise?eot=3", "no parameter of defence noise is called 'eot'"),
        ("jpeg?data=builtin:fashion-mnist", "no parameter of defence jpeg is called 'data'"),
        ("feature-squeezing?limit=0", "limit takes a whole number"),
        ("vote?rule=median", "no rule of a vote is called 'median'"),
    ],
)
def test_what_cannot_be_had_is_said_before_anything_is_loaded(spec, said):
    with pytest.raises(CaromError, match=said.replace("?", r"\?").replace("(", r"\(")):
        choose_defence(get_modality("image"), spec)


def test_a_third_party_registers_by_an_entry_point(monkeypatch):
    info = find_defence(get_modality("image"), "jpeg")
    other = DefenceInfo(**{**vars(info), "name": "mine"})

    class Point:
        name = "image.mine"

        def load(self):
            return other

    monkeypatch.setattr("carom.common.modality.defences.entry_points", lambda group: [Point()])
    assert defences_of(get_modality("image"))["mine"] is other
    assert "mine" not in defences_of(get_modality("audio"))
    assert carom.defend(tiny(), "mine?quality=30").name == "tiny+mine?quality=30"


def test_what_trains_a_model_stands_around_none(monkeypatch):
    class Trainer:
        def train(self, recipe, progress):
            return recipe.build()

    info = DefenceInfo(
        name="hard", summary="", reference="own 2026", kind="training", adaptation=("network",), build=Trainer
    )
    monkeypatch.setitem(get_modality("image").defences, "hard", info)
    with pytest.raises(CaromError, match="hard trains a model: it cannot stand around tiny"):
        carom.defend(tiny(), "hard")


def test_a_vote_needs_something_that_draws():
    with pytest.raises(CaromError, match="nothing to vote on"):
        carom.defend(tiny(), "vote")
    with pytest.raises(CaromError, match="put the vote before the detector"):
        carom.defend(tiny(), "noise", "feature-squeezing", "vote", calibration=images(40))


def test_votes_are_shares_and_means_are_of_probabilities():
    answers = torch.tensor([[[0.0, 1.0, -1.0]], [[0.0, 3.0, 0.0]], [[5.0, 0.0, 0.0]]])
    mean = mean_of(answers)
    assert mean.exp().sum().item() == pytest.approx(1)
    assert mean.exp().tolist()[0] == pytest.approx(answers.softmax(2).mean(0).tolist()[0])
    votes = majority_of(answers)
    assert votes.argmax().item() == 1
    assert votes.exp()[0, 0].item() == pytest.approx((1 + mean.exp()[0, 0].item()) / 4)
    x = answers.clone().requires_grad_()
    same = torch.autograd.grad(majority_of(x)[0, 1], x)[0]
    assert torch.equal(same, torch.autograd.grad(mean_of(x)[0, 1], x)[0])


def test_a_vote_steadies_what_is_random():
    data = images(30)

    def changed(model):
        first, second = (model.ask(data.batch(), lambda o: o.logits.softmax(1), stream=s)[0][1] for s in "ab")
        return (first - second).abs().mean().item()

    one = changed(carom.defend(tiny(), "noise?sigma=0.3"))
    assert changed(carom.defend(tiny(), "noise?sigma=0.3", "vote?draws=40&rule=mean")) < 0.4 * one


def test_a_threshold_keeps_the_false_positive_rate():
    scores = torch.arange(100.0)
    for fpr in (0.0, 0.01, 0.05, 0.5):
        level = RejectionLevel.of(scores, fpr)
        assert (scores > level.threshold).float().mean().item() == pytest.approx(fpr)
    tied = RejectionLevel.of(torch.tensor([0.0] * 90 + [1.0] * 10), 0.05)
    assert (torch.tensor([0.0, 1.0]) > tied.threshold).tolist() == [False, False]


def test_a_detector_is_calibrated_on_named_data_never_on_those_attacked():
    with pytest.raises(CaromError, match="name them"):
        carom.defend(tiny(), "feature-squeezing")
    with pytest.raises(CaromError, match="not found on the split that is attacked"):
        carom.defend("zoo:image-vgg", "feature-squeezing?split=test")
    with pytest.raises(CaromError, match="give 20 or more"):
        carom.defend(tiny(), "feature-squeezing", calibration=images(12))
    guarded = carom.defend(tiny(), "feature-squeezing", calibration=images(60, 1, "clean"))
    assert "5.0% of 60 examples of clean" in guarded.facts["rejection threshold"]
    other = carom.defend(tiny(), "feature-squeezing", calibration=images(60, 2, "clean"))
    assert other.digest != guarded.digest
    assert carom.transfer([guarded], [guarded], ["fgsm"], images(40, 3), eps="4/255", controls=1).rows()
    with pytest.raises(CaromError, match="found its threshold on 100% of the very examples"):
        carom.transfer([guarded], [guarded], ["fgsm"], images(60, 1, "clean"), eps="4/255")


def test_two_detectors_reject_what_either_does():
    clean, batch = images(60, 1, "clean"), images(40, 5).batch()
    one = carom.defend(tiny(), "feature-squeezing?fpr=0.2", calibration=clean)
    both = carom.defend(one, "feature-squeezing?bits=1&fpr=0.2", calibration=clean)
    alone = carom.defend(tiny(), "feature-squeezing?bits=1&fpr=0.2", calibration=clean)
    said = [model(batch.inputs).rejected for model in (one, alone, both)]
    assert said[2].equal(said[0] | said[1])
    assert all(one.any() for one in said)


def test_a_model_that_lists_classes_in_another_order_can_be_defended():
    data = images(20)
    torch.manual_seed(0)
    turned = carom.load_model(Tiny(), "image", normalise=None, classes=["c", "a", "b"], name="turned")
    one = carom.transfer([tiny()], [carom.defend(turned, "jpeg")], ["fgsm"], data, eps="4/255", controls=1)
    assert one.rows()[0]["target"] == "turned+jpeg"
    [target] = one.plan.targets
    assert target.classes == ("a", "b", "c")
    wanted = carom.defend(turned, "jpeg").predict(data.batch())[:, [1, 2, 0]]
    assert torch.allclose(target.predict(data.batch()), wanted, atol=1e-6)


def test_seeds_make_other_draws_and_other_identities():
    batch = images(6).batch()
    one, other = (carom.defend(tiny(), f"noise?seed={seed}") for seed in (0, 1))
    assert one.digest != other.digest
    assert not torch.equal(one.predict(batch), other.predict(batch))
    twice = carom.defend(tiny(), "noise", "noise")
    rng = Rng.of(0, batch.ids)
    inner = twice.keyed(rng).changed(batch.inputs)
    assert not torch.equal(inner, twice.keyed(rng).base.changed(batch.inputs))  # nested ones draw apart


def test_what_ships_and_what_does_not():
    assert ships("defended:zoo:image-vgg+jpeg?quality=50+vote?rule=mean")
    assert ships("defended:zoo:image-vgg+feature-squeezing?data=builtin:fashion-mnist")
    assert not ships("defended:py:m:f+jpeg")
    assert not ships("defended:zoo:image-vgg+spell?file=/etc/words")
    assert not ships("defended:zoo:image-vgg")
    assert not ships("defended:(defended:py:m:f+jpeg)+jpeg")


def test_what_holds_no_network_is_not_exported():
    with pytest.raises(CaromError, match="holds no torch network"):
        carom.export_module(carom.defend("zoo:image-forest", "bit-depth"))


def test_eot_is_a_parameter_of_every_attack():
    data, model = images(4), carom.defend(tiny(), "noise")
    few, many = (carom.attack(model, data, f"bim?steps=2&eot={eot}", eps="8/255") for eot in (1, 5))
    assert many.cost.backward.tolist() == [5 * n for n in few.cost.backward.tolist()]
    assert carom.attack(model, data, "bim?steps=2", eps="8/255").cost.backward.tolist() == [32] * 4
    with pytest.raises(CaromError, match="eot takes a whole number"):
        carom.attack(model, data, "bim?eot=0", eps="8/255")
    with pytest.raises(UnknownName):
        carom.attack(model, data, "bim?eott=3", eps="8/255")


def test_inputs_of_a_call_and_streams_have_to_agree():
    batch = Batch(torch.rand(3, 1, 8, 8), torch.zeros(3, dtype=torch.long), list("abc"))
    with pytest.raises(ValueError, match="keyed for 3 inputs and asked about 2"):
        carom.defend(tiny(), "noise").keyed(Rng.of(0, batch.ids))(batch.inputs[:2])
