"""Where new words come from beyond WordNet, and what an edited text must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_hub import masked_lm

from carom.common.attacks.edits.greedy import BestEdits, GreedySites
from carom.common.attacks.edits.substitution import Substitution
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.text import constraints
from carom.text.attacks import ATTACKS
from carom.text.candidates.base import Merged, Union, options_of
from carom.text.candidates.characters import BadCharacters, Emoji, LookAlikes, Misspellings
from carom.text.candidates.forms import Inflections, Insert, LeaveOut, Rewrites
from carom.text.candidates.masked_lm import MaskedLm
from carom.text.candidates.neighbours import Neighbours
from carom.text.constraints import (
    EditDistance,
    EmbeddingDistance,
    Grammatical,
    KeepNames,
    KeepNegations,
    Likely,
    NotAntonyms,
    PartOfSpeech,
    Similar,
)
from carom.text.language import models as language
from carom.text.language.models import perplexity
from carom.text.language.vectors import vectors
from carom.text.language.wordnet import antonyms, inflections
from carom.text.space import Words
from carom.text.threats import WordBudget
from carom.text.words import split_words

VECTORS = """4 2
good 1 0
great 0.9 0.1
bad -1 0.1
ship 0 1
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("CAROM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "vectors.txt"
    path.write_text(VECTORS)
    return path


def test_neighbours_come_from_a_file_which_is_read_once(file, monkeypatch):
    assert options_of(Neighbours(str(file), most=2, least=-1.0), "Good") == ("Great", "Ship")
    assert options_of(Neighbours(str(file), most=9, least=0.5), "good") == ("great",)
    assert options_of(Neighbours(str(file)), "unknown") == ()
    vectors.cache_clear()
    monkeypatch.setattr("carom.text.language.vectors._lines", lambda _: pytest.fail("the file is read again"))
    assert np.allclose(vectors(str(file)).cosines("good", ["bad", "zzz"]), [-0.995, 0], atol=1e-3)


@pytest.mark.parametrize("line", ["good 1 x", "good 1", "good 1 nan", ""])
def test_a_file_that_holds_no_vectors_is_refused_with_its_line(file, line):
    file.write_text(f"ship 0 1\n{line}\n" if line else "")
    vectors.cache_clear()
    with pytest.raises(CaromError, match=r"vectors\.txt"):
        vectors(str(file))
    with pytest.raises(CaromError, match="no such"):
        vectors("nowhere.txt")


def test_embeddings_of_word_pieces_are_there_offline():
    assert {"movies", "film"} <= set(options_of(Neighbours(), "movie"))


def test_misspellings_are_inside_the_word():
    found = options_of(Misspellings(), "wonder")
    assert {"wodner", "woder", "wonnder"} & set(found) >= {"wodner", "woder"}
    assert all(o[0] == "w" and o[-1] == "r" for o in found)
    assert options_of(Misspellings(), "the") == ()
    assert {"avab", "absb"} <= set(options_of(Misspellings(("keyboard",)), "abab"))


@pytest.mark.parametrize("source", [LookAlikes(), BadCharacters(), Emoji(), LeaveOut(), Insert(("very",))])
def test_edits_of_any_kind_can_be_told_from_the_text(source):
    budget = WordBudget(1.0, source)
    text = "A good film, don't you think? good good"
    sentence = budget.editable(text)
    for option in range(max(sentence.sizes)):
        chosen = {s: option for s, size in enumerate(sentence.sizes) if option < size}
        edited = sentence.edit(chosen)
        assert edited != text
        assert sentence.edit(sentence.derive(edited)) == edited
        assert budget.allows([edited], [text]).all()
        assert Words().round([edited]) == [edited]
    assert not budget.allows(["A good film, don't you think? good ship"], [text]).any()


class Pairs:
    """Merges film with what is behind it."""

    free = True

    def options(self, word):
        return (Merged("movie"),) if word == "film" else ()


def test_a_merge_counts_as_two_changes_and_never_takes_a_stop_word():
    text = "good film story of film the film"
    sentence = WordBudget(1.0, Pairs()).editable(text)
    assert sentence.sizes == [0, 1, 0, 0, 0]
    assert sentence.edit({1: 0}) == "good movie of film the film"
    assert sentence.price(1, 0) == 2
    assert WordBudget(0.3, Pairs()).allows([sentence.edit({1: 0})], [text]).all()
    assert not WordBudget(0.2, Pairs()).allows([sentence.edit({1: 0})], [text]).any()  # one of seven words
    both = WordBudget(1.0, Union((Pairs(), LeaveOut()))).editable(text)
    assert both.options[1] == ("", Merged("movie"))
    assert both.edit({1: 1, 2: 0}) == "good movie of film the film"  # "story" is gone already
    assert Merged("movie") != "movie"


def test_forms_and_opposites():
    assert {"went", "gone", "going"} <= set(inflections("go"))
    assert {"ran", "runs", "running"} <= set(options_of(Inflections(), "run"))
    assert options_of(Inflections(), "Films")[0] == "Film"
    assert "bad" in antonyms("good")
    assert NotAntonyms().keeps("good", ["bad", "evils", "fine"]) == [False, False, True]


def test_constraints_on_words():
    assert PartOfSpeech().keeps("film", ["movie", "quickly", "zzzz"]) == [True, False, False]
    assert EditDistance(1).keeps("film", ["filn", "flim"]) == [True, False]
    assert EmbeddingDistance(0.3).keeps("movie", ["film", "carrot"]) == [True, False]
    text = "The film Anna made. Not bad, says Paul"
    words = split_words(text)
    assert [words[i].text for i in sorted(KeepNames().spares(text, words))] == ["Anna", "Paul"]
    assert [words[i].text for i in KeepNegations().spares(text, words)] == ["Not"]
    assert KeepNegations().keeps("bad", ["not good", "poor"]) == [False, True]
    title = "The Film Anna Made"
    assert KeepNames().spares(title, split_words(title)) == set()


def test_similar_texts_are_those_whose_vectors_are_near():
    assert Similar(0.7).holds([("a great movie", "a great film"), ("an old ship", "a great film")]) == [True, False]


def test_constraints_on_whole_texts_hold_of_the_text_that_is_handed_back(toy):
    world = toy({"good": 2.0, "great": 1.0, "ship": -3.0, "film": 0.5}, ("good|great,ship",))
    free = world.run(Substitution(GreedySites()), "a good film")
    assert free.inputs == ["a ship film"]
    kept = WordBudget(1.0, world.threat.candidates, constraints=(Similar(0.6),))
    batch = Batch(["a good film"], torch.tensor([1]), ["one"])
    from carom.common.core.batch import Goal
    from carom.common.core.problem import Problem

    for search in (GreedySites(), GreedySites("gradient"), BestEdits(2)):
        held = Substitution(search)(Problem(world.model, Goal(batch.labels), kept), batch, Rng.of(0, batch.ids))
        assert held.inputs == ["a great film"]
        assert not held.success.any()
        assert kept.allows(held.inputs, batch.inputs).all()
        assert held.cost.queries < free.cost.queries + 2  # what is not allowed is not asked about
    assert not kept.allows(free.inputs, batch.inputs).any()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny language models of random weights: a masked and a causal one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    words = ["[PAD]", "[UNK]", "[MASK]", "a", "good", "fine", "film", "movie", "ship", "of"]
    masked, fast = masked_lm(words, 32)
    causal = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=32, n_embd=16, n_layer=1, n_head=2))
    found = {}
    for name, model in {"masked": masked, "causal": causal}.items():
        found[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(found[name])
        fast.save_pretrained(found[name])
    return found


def test_masked_language_models_suggest_words_for_places(models):
    text = "a good film of a ship"
    words = split_words(text)
    for place in ("replace", "insert", "merge"):
        budget = WordBudget(1.0, MaskedLm(models["masked"], place, most=3))
        sentence = budget.editable(text)
        assert sum(sentence.sizes)
        site = next(site for site, size in enumerate(sentence.sizes) if size)
        edited = sentence.edit({site: 0})
        assert len(split_words(edited)) == len(words) + {"replace": 0, "insert": 1, "merge": -1}[place]
        assert budget.allows([edited], [text]).all()
    model, tokenizer = language.language_model("AutoModelForMaskedLM", models["masked"])
    masked = tokenizer("a [MASK] film of a ship", return_tensors="pt")
    likely = model(**masked).logits[0, 1].argsort(descending=True).tolist()
    best = [w for w in tokenizer.convert_ids_to_tokens(likely) if w.isalpha()][:3]
    assert list(MaskedLm(models["masked"], most=3).options_in(text, words)[1]) == best


def test_perplexity_is_that_of_the_model(models):
    model, tokenizer = language.language_model("AutoModelForCausalLM", models["causal"])
    ids = tokenizer("a good film", return_tensors="pt")["input_ids"]
    loss = model(input_ids=ids, labels=ids).loss.exp().item()
    assert perplexity(models["causal"], "a good film") == pytest.approx(loss, rel=1e-4)
    ratio = perplexity(models["causal"], "a fine film") / loss
    pairs = [("a fine film", "a good film")]
    assert Likely(models["causal"], ratio * 1.01).holds(pairs) == [True]
    assert Likely(models["causal"], ratio * 0.99).holds(pairs) == [False]


@pytest.mark.parametrize("name", ["bert-attack", "bae", "clare"])
def test_what_needs_a_language_model_says_so(name):
    with pytest.raises(CaromError, match=rf"{name} needs a masked language model: pass lm=hf:"):
        ATTACKS[name].build()


def test_grammar_says_what_it_lacks(monkeypatch):
    import language_tool_python

    def broken(_):
        raise OSError("no Java here")

    monkeypatch.setattr(language_tool_python, "LanguageTool", broken)
    constraints._language_tool.cache_clear()
    with pytest.raises(CaromError, match="no Java here"):
        Grammatical().holds([("a", "b")])


def rewrites(text):
    return [text.replace("good", "poor"), "something else altogether now", text]


def test_whole_texts_from_a_function():
    threat = WordBudget(0.5, Rewrites(f"py:{__name__}:rewrites"))
    sentence = threat.editable("a good film")
    assert sentence.options == [("a poor film",)]  # the other differs in more words than the budget has
    assert threat.allows(["a poor film", "something else"], ["a good film"] * 2).tolist() == [True, False]
    with pytest.raises(CaromError, match="function=py:"):
        ATTACKS["rewrite"].build()


@pytest.mark.parametrize("text", ["", "the", "zzz", "\0", "שלום", "🙂 🙂", "good " * 3000])
@pytest.mark.parametrize("source", [Union((LeaveOut(), BadCharacters(), Emoji())), Neighbours(), Inflections()])
def test_odd_texts(source, text):
    budget = WordBudget(0.3, source, constraints=(PartOfSpeech(), KeepNames(), KeepNegations()))
    batch = Batch([text], torch.tensor([0]), ["one"])
    drawn = budget.control(batch, Rng.of(0, batch.ids), [text])
    assert drawn == [text]
    assert budget.allows([text], [text]).all()
