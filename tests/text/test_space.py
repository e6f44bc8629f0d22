"""Texts, the word budget, and what may stand in place of a word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carom.common.base.errors import CaromError
from carom.common.base.identity import describe
from carom.common.base.rng import Rng
from carom.common.core.batch import Batch
from carom.text.candidates.base import Union, options_of
from carom.text.candidates.characters import CharacterEdits
from carom.text.candidates.synonyms import WordNet
from carom.text.space import Words, changes
from carom.text.threats import WordBudget
from carom.text.words import edits, is_word, match_case, split_words

ODD = [
    "",
    " ",
    "the",
    "the of and",
    "good",
    "\0good\0",
    "😀 good 👩‍👩‍👧",
    "שלום עולם good",
    "\ud800good\udfff film",
    "é" * 300,
    "a\r\nb",
]


def batch(texts):
    return Batch(list(texts), torch.zeros(len(texts), dtype=torch.long), [f"id-{i}" for i in range(len(texts))])


def spend(budget, texts, option=0):
    """Texts in which the first words that can be changed are."""
    spent = []
    for text in texts:
        sentence = budget.editable(text)
        sites = [site for site, size in enumerate(sentence.sizes) if size][: sentence.limit]
        spent.append(sentence.edit(dict.fromkeys(sites, option)))
    return spent


def count(x, x0):
    return [len(changes(a, b)) for a, b in zip(Words().clamp(x), Words().clamp(x0), strict=True)]


@pytest.mark.parametrize(
    ("share", "words", "limit"), [(0, 50, 0), (0.01, 50, 1), (0.3, 10, 3), (0.29, 100, 29), (1, 7, 7), (0.3, 0, 0)]
)
def test_the_limit_is_a_share_rounded_down_but_one_word_at_least(share, words, limit):
    assert WordBudget(share).limit(words) == limit


@pytest.mark.parametrize("share", [-0.1, 1.1, 30])
def test_a_budget_is_a_share(share):
    with pytest.raises(CaromError, match=r"say 0\.3"):
        WordBudget(share)


def test_the_budget_names_itself_by_its_parts():
    assert describe(WordBudget(0.3, CharacterEdits(("swap",)))) == {
        "is": "WordBudget",
        "max_changed": 0.3,
        "candidates": {"is": "CharacterEdits", "kinds": ["swap"], "seed": 0},
        "keep_stop_words": True,
        "constraints": [],
    }


def test_allows_words_that_candidates_offer_and_nothing_else(table):
    budget = WordBudget(0.5, table(("good|fine,nice", "film|movie")))
    x0 = "the Good film , good song"  # five words: two may be changed
    allowed = {
        x0: True,
        "the Good movie , good song": True,
        "the good movie , good song": False,  # other case
        "the Good movie , fine song": True,
        "the Good movie , fine tune": False,  # no option
        "the Good movie ; good song": False,  # between words
        "the Good movie, good song": False,
        "a Good film , good song": False,  # a stop word
        "the Good film , good": False,
        "the Good film , song good": False,
    }
    for x, expected in allowed.items():
        assert budget.allows([x], [x0]).tolist() == [expected], x
    strict = WordBudget(0.2, table(("good|fine", "film|movie")))
    assert strict.allows(["the Good movie , fine song"], [x0]).tolist() == [False]  # two words of one


def test_case_is_kept():
    assert [match_case("movie", like) for like in ("film", "Film", "FILM", "fILM")] == [
        "movie",
        "Movie",
        "MOVIE",
        "movie",
    ]
    assert options_of(WordNet(), "FILM") == tuple(o.upper() for o in options_of(WordNet(), "film"))
    assert "Movie" in options_of(WordNet(), "Film")


def test_options_are_words_unlike_the_word():
    for source in (WordNet(), CharacterEdits()):
        for word in ("film", "Polish", "don't", "well-made", "running", "x", "naïve", "12"):
            found = options_of(source, word)
            assert all(is_word(o) and o.casefold() != word.casefold() for o in found)
            assert len(set(found)) == len(found)
            assert found == options_of(source, word)


def test_character_edits_are_those_of_deepwordbug():
    by_kind = {
        kind: options_of(CharacterEdits((kind,)), "wonder") for kind in ("swap", "substitute", "delete", "insert")
    }
    assert {kind: len(o) for kind, o in by_kind.items()} == dict.fromkeys(by_kind, 1)
    assert sorted(by_kind["swap"][0]) == sorted("wonder")
    assert len(by_kind["substitute"][0]) == 6
    assert sum(a != b for a, b in zip(by_kind["substitute"][0], "wonder", strict=True)) == 1
    assert (len(by_kind["delete"][0]), len(by_kind["insert"][0])) == (5, 7)
    assert all(edits(o[0], "wonder") == (2 if kind == "swap" else 1) for kind, o in by_kind.items())
    assert CharacterEdits().options("wonder") == tuple(o[0] for o in by_kind.values())
    assert CharacterEdits(seed=1).options("wonder") != CharacterEdits().options("wonder")
    assert CharacterEdits().options("x") == ()
    assert CharacterEdits(("swap",)).options("aaa") == ()
    with pytest.raises(CaromError, match="swap"):
        CharacterEdits(("swop",))


def test_sources_can_be_united():
    both = Union((WordNet(), CharacterEdits(("delete",))))
    assert options_of(both, "film") == (
        *options_of(WordNet(), "film"),
        *options_of(CharacterEdits(("delete",)), "film"),
    )


@pytest.mark.parametrize("source", [WordNet(), CharacterEdits(), Union((WordNet(), CharacterEdits()))])
def test_the_control_changes_as_many_words_for_options_of_theirs(sentences, source):
    budget, clean = WordBudget(0.4, source), batch(sentences)
    like = spend(budget, sentences)
    draws = [budget.control(clean, Rng.of(k, clean.ids), like) for k in range(3)]
    for drawn in draws:
        assert budget.allows(drawn, sentences).all()
        assert count(drawn, sentences) == count(like, sentences)
    assert draws[0] == budget.control(clean, Rng.of(0, clean.ids), like)
    assert draws[0] != draws[1]
    # What one example gets does not depend on who is beside it.
    alone = clean.take(torch.tensor([4]))
    assert budget.control(alone, Rng.of(0, alone.ids), like[4:5]) == draws[0][4:5]
    assert budget.control(clean, Rng.of(0, clean.ids), sentences) == sentences


def test_the_control_draws_places_and_options_evenly(table):
    budget = WordBudget(0.25, table(("aa|b1,b2,b3,b4", "cc|d1,d2,d3,d4")))
    clean = batch(["aa cc zz zz"] * 800)
    drawn = budget.control(clean, Rng.of(0, clean.ids), spend(budget, clean.inputs))
    found = {text: drawn.count(text) for text in set(drawn)}
    assert len(found) == 8
    assert all(60 < n < 140 for n in found.values())


def test_swapped_words_are_those_of_the_other_text(table):
    budget = WordBudget(0.5, table(("good|fine", "film|movie")))
    clean, other0 = batch(["we saw A Dull play yesterday evening"]), ["a good film indeed"]
    other = spend(budget, other0)
    assert other == ["a fine movie indeed"]
    (text,) = budget.swap(clean, Rng.of(0, clean.ids), other, other0)
    new = [word for _, _, word in changes(text, clean.inputs[0])]
    assert sorted(w.lower() for w in new) == ["fine", "movie"]
    assert "we saw A" in text or "we" in text.split()[0]
    assert budget.swap(clean, Rng.of(0, clean.ids), other0, other0) == clean.inputs


def test_distances():
    space = Words()
    x0 = ["the good film", "the good film", "the good film", "", "a b"]
    x = ["the good film", "the fine film", "the good", "new", "b a c"]
    found = {name: values.tolist() for name, values in space.distance(x, x0).items()}
    assert found["words"] == [0, 1, 1, 1, 2]
    assert found["share"] == pytest.approx([0, 1 / 3, 1 / 3, 1, 1])
    assert found["characters"] == [0, 4, 5, 3, 3]
    assert {name: len(v) for name, v in space.distance([], []).items()} == {"words": 0, "share": 0, "characters": 0}


@given(st.text(max_size=12), st.text(max_size=12))
def test_the_edit_distance_is_a_distance(a, b):
    distance = edits(a, b)
    assert distance == edits(b, a)
    assert (distance == 0) == (a == b)
    assert abs(len(a) - len(b)) <= distance <= max(len(a), len(b))


@pytest.mark.parametrize("budget", [WordBudget(0.5), WordBudget(0.3, CharacterEdits()), WordBudget(0)])
def test_odd_texts(budget):
    clean, space = batch(ODD), Words()
    like = spend(budget, ODD)
    assert budget.allows(space.decode(space.encode(like)), ODD).all()
    for k in range(2):
        drawn = budget.control(clean, Rng.of(k, clean.ids), like)
        assert budget.allows(drawn, ODD).all()
        assert count(drawn, ODD) == count(like, ODD)
        budget.swap(clean, Rng.of(k, clean.ids), like[::-1], ODD[::-1])
    for text in space.encode(ODD):
        text.encode("utf-8")
    assert all(bool(v.isfinite().all()) for v in space.distance(like, ODD).values())


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet=st.characters() | st.sampled_from("ab '-_*@.\n’`×"), max_size=40))
def test_any_text_can_be_edited(text):
    space = Words()
    (stored,) = space.encode([text])
    assert space.decode([stored]) == space.round([stored]) == [stored]
    for budget in (WordBudget(1.0, CharacterEdits(), keep_stop_words=False), WordBudget(0.5)):
        sentence = budget.editable(stored)
        for option in range(max(sentence.sizes, default=0)):
            chosen = {s: option for s, size in enumerate(sentence.sizes) if option < size}
            chosen = dict(list(chosen.items())[: sentence.limit])
            edited = sentence.edit(chosen)
            assert budget.allows([edited], [stored]).all()
            words = [edited[a:b] for a, b in sentence.spans(chosen)]
            assert words == [
                sentence.options[s][chosen[s]] if s in chosen else sentence.word(s).text for s in range(len(words))
            ]


def test_a_megabyte_of_text():
    text = ("a wonderful film about nothing . " + "\n" * 100) * 7_600
    budget, clean = WordBudget(0.3), batch([text])
    like = spend(budget, [text])
    assert len(text) > 1_000_000
    drawn = budget.control(clean, Rng.of(0, clean.ids), like)
    assert budget.allows(drawn, [text]).all()
    assert Words().distance(drawn, [text])["words"].item() == budget.limit(len(split_words(text)))
