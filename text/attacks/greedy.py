"""Greedy and beam searches over the threat's own words: one search engine, told in which order to go through them."""

from __future__ import annotations

from carom.common.attacks.edits.greedy import BestEdits, GreedySites
from carom.common.attacks.edits.substitution import Substitution
from carom.common.core.batch import Access
from carom.text.attacks.base import Until, word_attacks

GREEDY = word_attacks()


@GREEDY.attack(
    "greedy-unk",
    "WordNet synonyms, words ranked by masking each",
    paper="Gao et al. 2018, Black-box generation of adversarial text sequences; search as in Morris et al. 2020, "
    "TextAttack (GreedyWordSwapWIR)",
)
def greedy_unk(until: Until = None) -> Substitution:
    """Words ranked by the score with an unknown token in their place."""
    return Substitution(GreedySites("unk", until=until))


@GREEDY.attack(
    "greedy-delete",
    "WordNet synonyms, words ranked by leaving each out",
    paper="Jin et al. 2020, Is BERT really robust? (TextFooler's search, with WordNet's candidates)",
)
def greedy_delete(until: Until = None) -> Substitution:
    """Words ranked by the score without them."""
    return Substitution(GreedySites("delete", until=until))


@GREEDY.attack(
    "greedy-gradient",
    "WordNet synonyms, words ranked by the gradient at their embeddings",
    paper="after Ebrahimi et al. 2018, HotFlip: white-box adversarial examples for text classification",
    needs=Access.GRADIENT,
    cost="1 backward, options queries",
)
def greedy_gradient(top: int | None = None, until: Until = None) -> Substitution:
    """Words ranked by the first-order gain of their best option; with `top`, only that many options are tried."""
    return Substitution(GreedySites("gradient", top=top, until=until))


@GREEDY.attack(
    "greedy-attention",
    "WordNet synonyms, words ranked by the attention of the last layer",
    paper="Hsieh et al. 2019, On the robustness of self-attentive models (their attention-based selection of words)",
    needs=Access.SCORE | Access.FEATURES,
    cost="1 forward, options queries",
)
def greedy_attention(until: Until = None) -> Substitution:
    """Words ranked by how much the model's last layer attends to them."""
    return Substitution(GreedySites("attention", until=until))


@GREEDY.attack(
    "greedy-random",
    "WordNet synonyms, words in random order",
    paper="Yoo et al. 2020, Searching for a search method (baseline)",
    cost="options queries",
    random=True,
)
def greedy_random(until: Until = None) -> Substitution:
    """Words in random order: what ranking them is worth."""
    return Substitution(GreedySites("random", until=until))


@GREEDY.attack(
    "pwws",
    "WordNet synonyms, words ranked by saliency and best synonym",
    paper="Ren et al. 2019, Generating natural language adversarial examples through probability weighted word "
    "saliency",
    cost="words + 2 * options queries",
    departures="without named entities",
)
def pwws(until: Until = None) -> Substitution:
    """Words ranked by their saliency times the score of their best option."""
    return Substitution(GreedySites("saliency", until=until))


@GREEDY.attack(
    "beam",
    "WordNet synonyms, the best of all at each step",
    paper="Yoo et al. 2020, Searching for a search method (greedy and beam search)",
    cost="width * options * words changed queries",
)
def beam(width: int = 1, until: Until = None) -> Substitution:
    """Every option of every word at each step."""
    return Substitution(BestEdits(width, until=until))


@GREEDY.attack(
    "hotflip",
    "WordNet synonyms, the best at each step of those the gradient points to",
    paper="Ebrahimi et al. 2018, HotFlip: white-box adversarial examples for text classification",
    needs=Access.GRADIENT,
    cost="width * words changed backward, top times as many queries",
)
def hotflip(width: int = 1, top: int = 16, until: Until = None) -> Substitution:
    """At each step the `top` options of the highest first-order gain, over all words."""
    return Substitution(BestEdits(width, top=top, until=until))
