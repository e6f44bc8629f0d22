"""Attacks that change how words are written: misspellings, look-alike and invisible characters, emoji."""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.edits.greedy import BestEdits, GreedySites
from carom.common.attacks.edits.substitution import Substitution
from carom.common.core.threats import Threat
from carom.text.attacks.base import EVERY, Until, WordAttack, attack, word_attacks
from carom.text.attacks.greedy import greedy_delete, greedy_unk
from carom.text.candidates.base import Union
from carom.text.candidates.characters import BadCharacters, CharacterEdits, Emoji, LookAlikes, Misspellings
from carom.text.threats import WordBudget

SPELLING = word_attacks()


def misspelled(threat: Threat) -> Threat:
    """The same budget, spent on misspellings."""
    assert isinstance(threat, WordBudget), "DeepWordBug works within a WordBudget"
    return replace(threat, candidates=CharacterEdits())


def bugged(threat: Threat) -> Threat:
    """The same budget, spent on the threat's own words or on misspellings."""
    assert isinstance(threat, WordBudget), "TextBugger works within a WordBudget"
    return replace(threat, candidates=Union((threat.candidates, CharacterEdits(("swap", "delete", "insert")))))


@SPELLING.attack(
    "deepwordbug",
    "misspellings, words ranked by masking each",
    paper="Gao et al. 2018, Black-box generation of adversarial text sequences to evade deep learning classifiers",
    cost="words + 4 * words queries",
    threat=misspelled,
    departures="the budget counts words, not edited characters",
)
def deepwordbug(until: Until = None) -> Substitution:
    """Words ranked by the score with an unknown token in their place, and misspelled."""
    return greedy_unk(until)


@SPELLING.attack(
    "textbugger",
    "WordNet synonyms or misspellings, words ranked by leaving each out",
    paper="Li et al. 2019, TextBugger: generating adversarial text against real-world applications",
    threat=bugged,
    departures="synonyms for neighbouring vectors; neither spaces nor look-alike characters",
)
def textbugger(until: Until = None) -> Substitution:
    """Words ranked by the score without them, and exchanged or misspelled."""
    return greedy_delete(until)


@SPELLING.attack(
    "pruthi",
    "misspellings inside words, keyboard neighbours among them, the best of all at each step",
    paper="Pruthi et al. 2019, Combating adversarial misspellings with robust word recognition",
    cost=EVERY,
)
def pruthi(until: Until = None) -> WordAttack:
    """The one misspelling that helps most, among all of all words, at each step."""
    return attack(BestEdits(until=until), Misspellings())


@SPELLING.attack(
    "misspell-all",
    "DeepWordBug's misspellings, the best of all words at each step",
    paper="after Gao et al. 2018, Black-box generation of adversarial text sequences",
    cost=EVERY,
    departures="without the ranking of words",
)
def deepwordbug_all(until: Until = None) -> WordAttack:
    """DeepWordBug's misspellings, the best of all words at each step."""
    return attack(BestEdits(until=until), CharacterEdits())


@SPELLING.attack(
    "bad-characters",
    "characters of no width, reordering, deletions, look-alikes, words ranked by masking each",
    paper="Boucher et al. 2022, Bad characters: imperceptible NLP attacks",
    cost="5 * words queries",
    departures="ranked greedily, not by differential evolution",
)
def bad_characters(until: Until = None) -> WordAttack:
    """Encodings that look the same."""
    return attack(GreedySites("unk", until=until), BadCharacters())


@SPELLING.attack(
    "look-alikes",
    "letters of other alphabets that look the same",
    paper="after Li et al. 2019, TextBugger (sub-c), and Boucher et al. 2022, Bad characters (homoglyphs)",
)
def look_alikes(until: Until = None) -> WordAttack:
    """Letters of other alphabets."""
    return attack(GreedySites("unk", until=until), LookAlikes())


@SPELLING.attack(
    "emoji",
    "an emoji inside a word or behind it",
    paper="after Boucher et al. 2022, Bad characters (injected characters)",
    departures="emoji are visible",
)
def emoji(until: Until = None) -> WordAttack:
    """An emoji inside a word or behind it."""
    return attack(GreedySites("unk", until=until), Emoji())
