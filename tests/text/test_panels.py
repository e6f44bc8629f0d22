"""What the report shows of an adversarial text."""

from __future__ import annotations

from carom.text.panels import CONTEXT, panels, runs
from carom.text.space import Words


def test_words_that_were_exchanged_are_shown_in_their_context():
    (panel,) = panels(Words(), "a good film, really", "a fine movie, really", {})
    assert panel.runs == [
        ("", "a "),
        ("del", "good"),
        ("ins", "fine"),
        ("", " "),
        ("del", "film"),
        ("ins", "movie"),
        ("", ", really"),
    ]


def test_texts_that_are_the_same_or_split_otherwise():
    assert list(runs("a good film", "a good film")) == [("", "a good film")]
    assert list(runs("a good film", "a good")) == [("", "a good"), ("del", " film")]
    assert list(runs("a good film", "very dull a good film")) == [("ins", "very dull "), ("", "a good film")]
    assert list(runs("a good film", "a good film .")) == [("", "a good film"), ("ins", " .")]
    assert list(runs("a good film", "a not so good film")) == [("", "a "), ("ins", "not so "), ("", "good film")]
    assert list(runs("a good film", "my")) == [("del", "a good film"), ("ins", "my")]
    assert list(runs("", "")) == []


def test_long_stretches_are_shortened():
    long = "word " * 400
    shown = list(runs(f"{long}good {long}film {long}", f"{long}fine {long}movie {long}"))
    assert [kind for kind, _ in shown] == ["", "del", "ins", "", "del", "ins", ""]
    assert all(len(text) <= 2 * CONTEXT + 3 for _, text in shown)
    assert shown[0][1].endswith("word ")
    assert shown[-1][1].startswith(" word")
    assert "…" in next(runs(long, long))[1]
