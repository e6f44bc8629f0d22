"""The defences of texts change and reject what their papers say."""

from __future__ import annotations

import pytest

import carom
from carom.common.base.errors import CaromError
from carom.common.base.rng import Rng
from carom.common.defences.detectors import Detecting
from carom.text.defences.detectors import FrequencyGuided, Unusual
from carom.text.defences.lexicon import known_synonyms, perturbations, representative, representatives, share, shares
from carom.text.defences.random import Masking, SynonymSampling, WordDropout, masked
from carom.text.defences.transforms import SpellCheck, SynonymEncoding, edited
from carom.text.words import split_words

TEXT = "a truly great movie, with awful music"


def many(part, text: str = TEXT, n: int = 400) -> list[str]:
    return part([text] * n, Rng.of(0, [str(i) for i in range(n)]))


def test_words_are_left_out_with_their_space_as_often_as_is_said():
    found = many(WordDropout(0.25, 0))
    lengths = [len(split_words(text)) for text in found]
    assert sum(lengths) / len(lengths) == pytest.approx(7 * 0.75, abs=0.25)
    assert min(lengths) >= 1
    assert not any("  " in text for text in found)
    assert min(len(split_words(text)) for text in many(WordDropout(0.99, 0))) == 1
    with pytest.raises(CaromError, match="no share of the words"):
        WordDropout(0.0, 0)


def test_every_set_of_masked_words_is_as_likely():
    found = many(Masking(0.3, 0), "one two three four", 1200)
    assert masked(4, 0.3) == 1
    assert masked(2, 0.99) == 1
    assert masked(10, 0.3) == 3
    counts = [sum(text.split()[at] == "[UNK]" for text in found) for at in range(4)]
    assert sum(counts) == 1200
    assert all(250 < count < 350 for count in counts)


def test_sampled_synonyms_are_of_the_words_set_each_as_likely():
    options = perturbations("movie", 4)
    assert "movie" in options
    assert len(options) == 4
    found = many(SynonymSampling(4, 0), "Movie", 1200)
    counts = {word: found.count(word) for word in {text for text in found}}
    assert set(counts) == {option.capitalize() for option in options}
    assert all(250 < count < 350 for count in counts.values())
    assert perturbations("the", 4) == ("the",)


def test_synonyms_are_mutual_and_representatives_stand_for_themselves():
    for word in ("movie", "awful", "dull", "big"):
        assert all(word in known_synonyms(other) for other in known_synonyms(word))
    table = representatives(4)
    assert set(table) == set(shares())
    assert all(table[table[word]] == table[word] for word in table)
    assert representative("Films", 4) == "Movie"
    assert SynonymEncoding(4)(["a FILM, no zzyzx"]) == ["a MOVIE, no zzyzx"]


def test_words_of_one_cluster_read_the_same_whatever_the_attack_chose():
    part = SynonymEncoding(4)
    assert len(set(part([f"a {word} story" for word in ("movie", "film", "films", "movies")]))) == 1


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("mvoie", "movie"), ("movi", "movie"), ("moovie", "movie"), ("mowie", "movie"), ("Terribel", "Terrible")],
)
def test_one_edit_is_corrected(wrong, right):
    assert SpellCheck(4)([f"a {wrong}!"]) == [f"a {right}!"]


def test_words_that_are_known_or_short_or_far_are_left():
    assert SpellCheck(4)(["a film ov xqzwv 1987 cinematography"]) == ["a film ov xqzwv 1987 cinematography"]
    assert len(set(edited("ab"))) == len({w for w in edited("ab")})
    assert {"ba", "a", "b", "xab", "ax"} <= set(edited("ab"))


def test_fgws_replaces_rare_words_by_frequent_ones_and_scores_the_fall_of_confidence():
    part = FrequencyGuided(1e-3, 0.05)
    rare = next(
        word
        for word in shares()
        if share(word) < 1e-3 and known_synonyms(word) and share(known_synonyms(word)[0]) > 1e-3
    )
    assert part.usual(f"the {rare}") == f"the {known_synonyms(rare)[0]}"
    assert part.usual("the movie") == "the movie"
    model = carom.load_model("zoo:text-cnn")
    text = f"a {rare} thing"
    _, score = part.score(model, [text, "the movie"], None)
    before, after = (model([one]).logits.softmax(1)[0] for one in (text, part.usual(text)))
    assert score[0].item() == pytest.approx((before - after)[before.argmax()].item(), abs=1e-5)
    assert score[1].item() == pytest.approx(0, abs=1e-6)


def test_perplexity_is_that_of_the_least_usual_window():
    part = Unusual(4, 0.05)
    text = "this is one of the best films of the year xqzwv blorp zzyzx qwrt"
    windows = part.windows(text)
    assert windows[0] == "this is one of"
    assert windows[-1].endswith("qwrt")
    assert part.windows("two words") == ["two words"]
    usual, odd = part.score(
        carom.load_model("zoo:text-cnn"), ["this is one of the best films of the year", text], None
    )[1]
    assert odd > usual + 1


def test_a_threshold_of_perplexity_is_not_found_on_what_the_language_model_read():
    held = carom.load_data("builtin:rotten-tomatoes", "calibration")
    guarded = carom.defend("zoo:text-cnn", "perplexity?limit=300")
    assert isinstance(guarded, Detecting)
    data = carom.load_data("builtin:rotten-tomatoes", limit=300)
    rejected = guarded.ask(data.batch(), lambda output: output.rejected, size=300)[0][1]
    assert 0.01 < rejected.float().mean().item() < 0.1
    assert len(guarded.calibrated_on) == 300 <= len(held)
    with pytest.raises(CaromError, match="perplexity\\?split=calibration"):
        carom.defend("zoo:text-cnn", "perplexity?split=train")


def test_spelling_attacks_meet_a_spell_checker():
    data = carom.load_data("builtin:rotten-tomatoes", limit=16)
    plain, guarded = carom.load_model("zoo:text-cnn"), carom.defend("zoo:text-cnn", "spell-check")
    outcome = carom.transfer([plain], [plain, guarded], ["deepwordbug"], data, threat="words", eps=0.3, controls=1)
    cells = {cell["target"]: cell["transfer"] for cell in outcome.rows()}
    assert cells["text-cnn+spell-check"] < cells["text-cnn"] - 0.2


def test_an_attacker_who_knows_the_clusters_finds_more_than_one_who_does_not():
    data, plain = carom.load_data("builtin:rotten-tomatoes", limit=16), carom.load_model("zoo:text-cnn")
    guarded = carom.defend(plain, "synonym-normalise")
    outcome = carom.transfer([plain, guarded], [guarded], ["greedy-unk"], data, threat="words", eps=0.3, controls=1)
    ignorant, knowing = (cell["transfer"] for cell in outcome.rows())
    assert knowing > ignorant + 0.1
