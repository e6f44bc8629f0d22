"""Augmentation as a library call: what copies are, and what they hang on."""

from __future__ import annotations

import doctest
from itertools import islice

import pytest
import torch

import carom
from carom.common.base.errors import BadInput, CaromError, UnknownName
from carom.text import augment as module
from carom.text import pairs
from carom.text.augment import RANDOM, augment, augmenter, stream
from carom.text.models.load import load_model
from carom.text.pairs import join, sides
from carom.text.space import changes
from carom.text.threats import WordBudget
from carom.text.words import split_words

TEXTS = [
    "a wonderful film with a moving story and great actors in 1999",
    "the plot is dull and the dialogue is terrible",
    "it is what it is",
    "Anna doesn't like this movie from Paris",
]


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(module).failed == doctest.testmod(pairs).failed == 0


@pytest.mark.parametrize("recipe", RANDOM)
def test_copies_are_within_the_budget_that_random_changes_come_from(recipe):
    found = augment(TEXTS, recipe, copies=3, eps=0.3)
    budget = WordBudget(0.3, RANDOM[recipe][0])
    assert any(found)
    for text, copies in zip(TEXTS, found, strict=True):
        assert text not in copies
        assert len(copies) == len(set(copies)) <= 3
        assert budget.allows(copies, [text] * len(copies)).all()
    assert found[2] == [], "there are only stop words"


def test_as_many_words_change_as_the_share_says():
    (copies,) = augment(TEXTS[:1], eps=0.3, copies=4)
    counts = {len(changes(copy, TEXTS[0])) for copy in copies}
    assert counts == {int(0.3 * len(split_words(TEXTS[0])))}


@pytest.mark.parametrize("recipe", ["synonyms", "hill-climbing"])
def test_the_same_copies_whatever_the_batches_and_others_for_another_seed(recipe):
    model = None if recipe == "synonyms" else "zoo:text-linear"
    first = augment(TEXTS, recipe, copies=2, eps=0.4, model=model)
    assert augment(iter(TEXTS), recipe, copies=2, eps=0.4, model=model, batch=1) == first
    assert augment(TEXTS, recipe, copies=2, eps=0.4, model=model, seed=1) != first
    assert [own[:1] for own in first] == augment(TEXTS, recipe, copies=1, eps=0.4, model=model)


def test_texts_are_taken_one_batch_at_a_time():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield TEXTS[0]

    assert len(list(islice(stream(endless(), augmenter(), batch=4), 6))) == 6
    assert len(taken) == 8


def test_an_attack_makes_copies_that_fool_the_model(toy):
    bag = toy({"good": 2.0, "fine": -1.0, "film": 0.5, "dull": -3.0}, ("good|fine",))
    texts, labels = ["good film", "dull film", "film"], [1, 0, 1]
    budget = WordBudget(1.0, bag.threat.candidates)
    made = module.Augmenter("greedy", budget, model=bag.model, attack=carom.get_attack("greedy-unk"), fooled=True)
    assert made(texts, labels) == [["fine film"], [], []]
    assert made(texts) == [["fine film"], [], []], "without labels, the model's own answers are attacked"
    assert made(texts, [0, 0, 1])[0] == [], "what is wrong already is no copy"


def test_pairs_are_augmented_on_their_open_side():
    text = join("a wonderful film", "the plot is dull", "first")
    (copies,) = augment([text], copies=3, eps=0.5)
    assert copies
    assert {sides(copy)[1] for copy in copies} == {"the plot is dull"}
    model = load_model(lambda found: [[0.6, 0.4]] * len(found), classes=["a", "b"], pairs=True)
    assert augment([text], "greedy-unk", model=model) == [[]], "whose answers do not move, so nothing was changed"
    single = load_model(lambda found: [[0.6, 0.4]] * len(found), classes=["a", "b"])
    with pytest.raises(CaromError, match="takes single texts"):
        augment([text], "greedy-unk", model=single)
    with pytest.raises(CaromError, match="takes pairs of texts"):
        augment(TEXTS, "greedy-unk", model=model)


def test_the_default_is_drawn_at_random_or_with_a_model_an_attack_that_runs_on_it():
    assert augmenter().recipe == "synonyms"
    assert augmenter(model="zoo:text-cnn").recipe == "fast"
    assert augmenter(model="zoo:text-linear").recipe == "greedy-unk"  # grants no gradient


def test_what_cannot_be_used_is_named():
    with pytest.raises(CaromError, match=r"recipe synonyms asks no model: leave the model out .* such as fast"):
        augment(TEXTS, "synonyms", model="zoo:text-linear")
    with pytest.raises(UnknownName, match="Did you mean synonyms"):
        augment(TEXTS, "synonym")
    with pytest.raises(CaromError, match="recipe textfooler attacks a model: pass one"):
        augment(TEXTS, "textfooler?similarity=0.7")
    with pytest.raises(UnknownName, match="no text attack is called"):
        augment(TEXTS, "no-such", model="zoo:text-linear")
    with pytest.raises(CaromError, match="cannot run on text-linear: it needs gradient"):
        augment(TEXTS, "hotflip", model="zoo:text-linear")
    with pytest.raises(CaromError, match="at least one copy"):
        augment(TEXTS, copies=0)
    with pytest.raises(BadInput, match="text 1: the text is empty"):
        augment(["good", " "])
    with pytest.raises(BadInput, match="text 0: holds a int"):
        augment([3])
    with pytest.raises(CaromError, match=r"3 texts and 2 labels"):
        augment(TEXTS[:3], "greedy-unk", model="zoo:text-linear", labels=[0, 1])
    with pytest.raises(CaromError, match=r"label 5 .* 2 classes"):
        augment(TEXTS[:1], "greedy-unk", model="zoo:text-linear", labels=[5])


def test_the_model_is_left_as_it_was():
    model = carom.load_model("zoo:text-cnn")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    model.module.train()
    augment(TEXTS, "fast", model=model)
    assert model.module.training
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    model.module.eval()
