"""The text attacks: one search engine, told in which order to go through the words and where new words come from."""

from __future__ import annotations

from dataclasses import replace

from carom.common.attacks.edits.greedy import BestEdits, GreedySites
from carom.common.attacks.edits.substitution import Substitution
from carom.common.attacks.info import AttackInfo
from carom.common.core.batch import Access
from carom.common.core.threats import Threat
from carom.text.attacks.recipes import RECIPES, Until, entry
from carom.text.candidates.base import Union
from carom.text.candidates.characters import CharacterEdits
from carom.text.threats import WordBudget

THREATS = {"words": WordBudget}


def greedy_unk(until: Until = None) -> Substitution:
    """Words ranked by the score with an unknown token in their place."""
    return Substitution(GreedySites("unk", until=until))


def greedy_delete(until: Until = None) -> Substitution:
    """Words ranked by the score without them."""
    return Substitution(GreedySites("delete", until=until))


def greedy_gradient(top: int | None = None, until: Until = None) -> Substitution:
    """Words ranked by the first-order gain of their best option; with `top`, only that many options are tried."""
    return Substitution(GreedySites("gradient", top=top, until=until))


def greedy_attention(until: Until = None) -> Substitution:
    """Words ranked by how much the model's last layer attends to them."""
    return Substitution(GreedySites("attention", until=until))


def greedy_random(until: Until = None) -> Substitution:
    """Words in random order: what ranking them is worth."""
    return Substitution(GreedySites("random", until=until))


def pwws(until: Until = None) -> Substitution:
    """Words ranked by their saliency times the score of their best option."""
    return Substitution(GreedySites("saliency", until=until))


def beam(width: int = 1, until: Until = None) -> Substitution:
    """Every option of every word at each step."""
    return Substitution(BestEdits(width, until=until))


def hotflip(width: int = 1, top: int = 16, until: Until = None) -> Substitution:
    """At each step the `top` options of the highest first-order gain, over all words."""
    return Substitution(BestEdits(width, top=top, until=until))


def misspelled(threat: Threat) -> Threat:
    """The same budget, spent on misspellings."""
    assert isinstance(threat, WordBudget), "DeepWordBug works within a WordBudget"
    return replace(threat, candidates=CharacterEdits())


def bugged(threat: Threat) -> Threat:
    """The same budget, spent on the threat's own words or on misspellings."""
    assert isinstance(threat, WordBudget), "TextBugger works within a WordBudget"
    return replace(threat, candidates=Union((threat.candidates, CharacterEdits(("swap", "delete", "insert")))))


_RANKED = "words + options queries"

ATTACKS: dict[str, AttackInfo] = {
    info.name: info
    for info in [
        entry(
            "greedy-unk",
            "WordNet synonyms, words ranked by masking each",
            "Gao et al. 2018, Black-box generation of adversarial text sequences; search as in Morris et al. 2020, "
            "TextAttack (GreedyWordSwapWIR)",
            greedy_unk,
            _RANKED,
        ),
        entry(
            "greedy-delete",
            "WordNet synonyms, words ranked by leaving each out",
            "Jin et al. 2020, Is BERT really robust? (TextFooler's search, with WordNet's candidates)",
            greedy_delete,
            _RANKED,
        ),
        entry(
            "greedy-gradient",
            "WordNet synonyms, words ranked by the gradient at their embeddings",
            "after Ebrahimi et al. 2018, HotFlip: white-box adversarial examples for text classification",
            greedy_gradient,
            "1 backward, options queries",
            needs=Access.GRADIENT,
        ),
        entry(
            "greedy-attention",
            "WordNet synonyms, words ranked by the attention of the last layer",
            "Hsieh et al. 2019, On the robustness of self-attentive models (their attention-based selection of words)",
            greedy_attention,
            "1 forward, options queries",
            needs=Access.SCORE | Access.FEATURES,
        ),
        entry(
            "greedy-random",
            "WordNet synonyms, words in random order",
            "Yoo et al. 2020, Searching for a search method (baseline)",
            greedy_random,
            "options queries",
            random=True,
        ),
        entry(
            "pwws",
            "WordNet synonyms, words ranked by saliency and best synonym",
            "Ren et al. 2019, Generating natural language adversarial examples through probability weighted word "
            "saliency (without named entities)",
            pwws,
            "words + 2 * options queries",
        ),
        entry(
            "beam",
            "WordNet synonyms, the best of all at each step",
            "Yoo et al. 2020, Searching for a search method (greedy and beam search)",
            beam,
            "width * options * words changed queries",
        ),
        entry(
            "hotflip",
            "WordNet synonyms, the best at each step of those the gradient points to",
            "Ebrahimi et al. 2018, HotFlip: white-box adversarial examples for text classification",
            hotflip,
            "width * words changed backward, top times as many queries",
            needs=Access.GRADIENT,
        ),
        entry(
            "deepwordbug",
            "misspellings, words ranked by masking each",
            "Gao et al. 2018, Black-box generation of adversarial text sequences to evade deep learning classifiers "
            "(budget in words, not in edited characters)",
            greedy_unk,
            "words + 4 * words queries",
            threat=misspelled,
        ),
        entry(
            "textbugger",
            "WordNet synonyms or misspellings, words ranked by leaving each out",
            "Li et al. 2019, TextBugger: generating adversarial text against real-world applications (synonyms for "
            "neighbouring vectors; neither spaces nor look-alike characters)",
            greedy_delete,
            _RANKED,
            threat=bugged,
        ),
        *RECIPES,
    ]
}
