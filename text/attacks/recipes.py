"""Attacks of the literature as compositions: a search, where new words come from, and what the text must keep.

What a recipe brings along replaces the candidates of the threat; its constraints are added to the threat's own. How
many words may be changed is always the threat's to say, so that attacks are compared within one budget.
"""

from __future__ import annotations

from carom.common.attacks.edits.gbda import Relaxed
from carom.common.attacks.edits.greedy import BestEdits, Cascade, GreedySites
from carom.common.attacks.edits.labels_only import LabelsOnly
from carom.common.attacks.edits.leap import Leap
from carom.common.attacks.edits.population import Genetic, HillClimb, Swarm
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access
from carom.text.attacks.base import EVERY, Until, WordAttack, attack, similar, word_attacks
from carom.text.candidates.base import Union
from carom.text.candidates.forms import Inflections, LeaveOut, Rewrites
from carom.text.candidates.invariances import Invariances
from carom.text.candidates.masked_lm import MaskedLm, named
from carom.text.candidates.neighbours import Neighbours
from carom.text.constraints import KeepNames, KeepNegations, Likely, NotAntonyms, PartOfSpeech
from carom.text.language.vectors import MINILM

RECIPES = word_attacks()


@RECIPES.attack(
    "textfooler",
    "neighbours of the same part of speech, words ranked by leaving each out, similar text",
    paper="Jin et al. 2020, Is BERT really robust? A strong baseline for natural language attack",
    departures="MiniLM for the Universal Sentence Encoder, over the whole text; WordNet's parts of speech for a "
    "tagger's; the best option of a word is taken, not the most similar one that fools",
)
def textfooler(vectors: str = MINILM, similarity: float = 0.5, until: Until = None) -> WordAttack:
    """Neighbours of the same part of speech, words ranked by leaving each out, whole text still similar."""
    source = Neighbours(vectors, most=50, least=0.4)
    return attack(GreedySites("delete", until=until), source, PartOfSpeech(), similar(similarity))


@RECIPES.attack(
    "fast",
    "WordNet synonyms, several words at once along the gradient; greedy-unk where that fails",
    paper="after Ebrahimi et al. 2018, HotFlip (first-order gains)",
    needs=Access.GRADIENT,
    cost="1 backward, a few queries; where they fail, words + options queries",
    departures="several words at once are ours",
)
def fast(until: Until = None) -> WordAttack:
    """The words of the highest gain together, as few as are enough; where that fails, `greedy-unk`."""
    return attack(Cascade(Leap(until), GreedySites("unk", until=until)))


@RECIPES.attack(
    "bert-attack",
    "words that a masked language model (lm=...) would write, words ranked by masking each",
    paper="Li et al. 2020, BERT-Attack: adversarial attack against BERT using BERT",
    departures="words of one piece only; predictions of the clean text, not filtered by antonyms of a fixed list but "
    "by WordNet's",
)
def bert_attack(lm: str | None = None, most: int = 36, similarity: float = 0.2, until: Until = None) -> WordAttack:
    """What a masked language model, reading the word itself, would put in its place; words ranked by masking
    each."""
    source = MaskedLm(named(lm, "bert-attack"), masked=False, most=most)
    return attack(GreedySites("unk", until=until), source, NotAntonyms(), similar(similarity))


@RECIPES.attack(
    "bae",
    "words that a masked language model (lm=...) puts in masked places",
    paper="Garg and Ramakrishnan 2020, BAE: BERT-based adversarial examples for text classification",
    departures="MiniLM for the Universal Sentence Encoder; predictions of the clean text",
)
def bae(lm: str | None = None, most: int = 50, similarity: float = 0.5, until: Until = None) -> WordAttack:
    """What a masked language model puts in place of a masked word (BAE-R), of its part of speech; words ranked by
    leaving each out."""
    source = MaskedLm(named(lm, "bae"), most=most)
    return attack(GreedySites("delete", until=until), source, PartOfSpeech(), similar(similarity))


@RECIPES.attack(
    "clare",
    "replace, insert and merge by a masked language model (lm=...)",
    paper="Li et al. 2021, Contextualized perturbation for textual adversarial attack (CLARE)",
    cost=EVERY,
    departures="predictions of the clean text; MiniLM for the Universal Sentence Encoder",
)
def clare(lm: str | None = None, most: int = 20, similarity: float = 0.5, until: Until = None) -> WordAttack:
    """Replace, insert and merge, whatever helps most at each step."""
    name = named(lm, "clare")
    sources = tuple(MaskedLm(name, place, most) for place in ("replace", "insert", "merge"))
    return attack(BestEdits(until=until), Union(sources), similar(similarity))


@RECIPES.attack(
    "alzantot",
    "genetic search over neighbours",
    paper="Alzantot et al. 2018, Generating natural language adversarial examples",
    cost="samples * options * steps queries at most",
    random=True,
    departures="options are ranked by no language model unless `lm` names one",
)
def alzantot(
    vectors: str = MINILM, samples: int = 60, steps: int = 20, lm: str | None = None, until: Until = None
) -> WordAttack:
    """A genetic search over the eight nearest neighbours. With `lm`, a causal language model that must not find the
    text more than twice as perplexing."""
    likely = None if lm is None else Likely(lm)
    return attack(Genetic(samples, steps, until=until), Neighbours(vectors, most=8, least=0.4), likely)


@RECIPES.attack(
    "iga",
    "improved genetic search over neighbours",
    paper="Wang et al. 2019, Natural language adversarial attacks and defenses in word level (IGA)",
    cost="samples * options * steps queries at most",
    random=True,
)
def iga(vectors: str = MINILM, samples: int = 60, steps: int = 20, until: Until = None) -> WordAttack:
    """The improved genetic search: starts from every word, may change a word again."""
    return attack(Genetic(samples, steps, improved=True, until=until), Neighbours(vectors, most=50, least=0.4))


@RECIPES.attack(
    "pso",
    "particle swarm over WordNet synonyms of the same part of speech",
    paper="Zang et al. 2020, Word-level textual adversarial attacking as combinatorial optimization",
    cost="samples * options * steps queries at most",
    random=True,
    departures="WordNet for HowNet's sememes",
)
def pso(samples: int = 60, steps: int = 20, until: Until = None) -> WordAttack:
    """Particle swarm over the threat's words of the same part of speech."""
    return attack(Swarm(samples, steps, until=until), None, PartOfSpeech())


@RECIPES.attack(
    "hill-climbing",
    "WordNet synonyms, the best of a few random changes at each step",
    paper="Russell and Norvig 2010, Artificial intelligence: a modern approach (local search)",
    cost="samples * steps queries at most",
    random=True,
)
def climbing(samples: int = 8, steps: int = 40, until: Until = None) -> WordAttack:
    """The best of a few random changes at each step."""
    return attack(HillClimb(samples, steps, until))


@RECIPES.attack(
    "a2t",
    "neighbours of the same part of speech, words ranked by the gradient, similar text",
    paper="Yoo and Qi 2021, Towards improving adversarial training of NLP models",
    needs=Access.GRADIENT,
    cost="1 backward, options queries",
    departures="MiniLM for a DistilBERT sentence encoder at .9",
)
def a2t(vectors: str = MINILM, similarity: float = 0.7, until: Until = None) -> WordAttack:
    """Neighbours of the same part of speech, words ranked by the gradient, whole text similar."""
    source = Neighbours(vectors, most=20, least=0.5)
    return attack(GreedySites("gradient", until=until), source, PartOfSpeech(), similar(similarity))


@RECIPES.attack(
    "kuleshov",
    "neighbours, the best of all at each step, similar text",
    paper="Kuleshov et al. 2018, Adversarial examples for natural language classification problems",
    cost=EVERY,
    departures="MiniLM for skip-thought vectors; a language model only if `lm` names one",
)
def kuleshov(vectors: str = MINILM, similarity: float = 0.5, lm: str | None = None, until: Until = None) -> WordAttack:
    """The neighbour that helps most, of all words, at each step."""
    likely = None if lm is None else Likely(lm)
    return attack(BestEdits(until=until), Neighbours(vectors, most=15, least=0.4), similar(similarity), likely)


@RECIPES.attack(
    "careful",
    "synonyms of the same part of speech, no antonyms; names and negations stay",
    paper="after Morris et al. 2020, Reevaluating adversarial examples in natural language (constraints)",
)
def careful(until: Until = None) -> WordAttack:
    """Synonyms of the same part of speech, no antonyms; names and negations stay."""
    kept = (PartOfSpeech(), NotAntonyms(), KeepNames(), KeepNegations())
    return attack(GreedySites("unk", until=until), None, *kept)


@RECIPES.attack(
    "checklist",
    "names, places, numbers, contractions and typos that should not matter",
    paper="Ribeiro et al. 2020, Beyond accuracy: behavioral testing of NLP models with CheckList (invariance tests)",
)
def checklist(until: Until = None) -> WordAttack:
    """Changes that should not matter: names, places, numbers, contractions, typos."""
    return attack(GreedySites("unk", until=until), Invariances())


@RECIPES.attack(
    "morpheus",
    "other inflections of the same words",
    paper="Tan et al. 2020, It's morphin' time! Combating linguistic discrimination with inflectional perturbations",
    departures="by importance, not from both ends; without a tagger",
)
def morpheus(until: Until = None) -> WordAttack:
    """Other forms of the same words."""
    return attack(GreedySites("unk", until=until), Inflections())


@RECIPES.attack(
    "hqa",
    "labels only: random synonyms, then as many taken back as possible",
    paper="Liu et al. 2023, HQA-Attack: toward high quality black-box hard-label adversarial attack on text (its "
    "initialisation and substituting back)",
    needs=Access.LABEL,
    cost="samples + words changed queries",
    random=True,
    departures="the remaining words are not exchanged for more similar ones",
)
def hqa(samples: int = 40) -> WordAttack:
    """Labels only: random words everywhere, then as many taken back as possible."""
    return attack(LabelsOnly(samples))


@RECIPES.attack(
    "gbda",
    "gradient ascent on distributions over synonyms",
    paper="Guo et al. 2021, Gradient-based adversarial attacks against text transformers",
    needs=Access.GRADIENT,
    cost="steps * samples backward, words + 10 queries",
    random=True,
    departures="options are the threat's, not the whole vocabulary; `fluency` stands in for the terms of similarity "
    "and perplexity",
)
def gbda(steps: int = 30, samples: int = 1, fluency: float = 0.1, until: Until = None) -> WordAttack:
    """Gradient ascent on distributions over each word's options."""
    return attack(Relaxed(steps=steps, samples=samples, fluency=fluency, until=until))


@RECIPES.attack(
    "leave-out",
    "words left out, the best at each step",
    paper="after Feng et al. 2018, Pathologies of neural models make interpretations difficult (word removal)",
    cost="words * words changed queries",
)
def leave_out(until: Until = None) -> WordAttack:
    """Words left out, the most important first."""
    return attack(BestEdits(until=until), LeaveOut())


@RECIPES.attack(
    "rewrite",
    "the best of whole texts that your function (function=py:...) makes",
    paper="after Iyyer et al. 2018, Adversarial example generation with syntactically controlled paraphrase networks",
    cost="as many queries as texts",
)
def rewritten(function: str | None = None, until: Until = None) -> WordAttack:
    """The best of the texts that a function of the user's makes of the whole."""
    if not function:
        raise CaromError(
            "rewrite needs your function from a text to a list of texts: pass function=py:package.module:name."
        )
    return attack(BestEdits(until=until), Rewrites(function))
