"""Attacks of the literature as compositions: a search, where new words come from, and what the text must keep.

What a recipe brings along replaces the candidates of the threat; its constraints are added to the threat's own. How
many words may be changed is always the threat's to say, so that attacks are compared within one budget.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from carom.common.attacks.edits.gbda import Relaxed
from carom.common.attacks.edits.greedy import BestEdits, Cascade, GreedySites
from carom.common.attacks.edits.labels_only import LabelsOnly
from carom.common.attacks.edits.leap import Leap
from carom.common.attacks.edits.population import Genetic, HillClimb, Swarm
from carom.common.attacks.edits.requests import Strategy
from carom.common.attacks.edits.substitution import Substitution
from carom.common.attacks.info import AttackInfo
from carom.common.base.errors import CaromError
from carom.common.base.parameters import Range
from carom.common.core.batch import Access
from carom.common.core.threats import Threat
from carom.text.attacks.triggers import trigger
from carom.text.attacks.vector_leaps import Leaps, Metered
from carom.text.candidates.base import Candidates, Union
from carom.text.candidates.characters import BadCharacters, CharacterEdits, Emoji, LookAlikes, Misspellings
from carom.text.candidates.forms import Inflections, LeaveOut, Rewrites
from carom.text.candidates.invariances import Invariances
from carom.text.candidates.masked_lm import MaskedLm, named
from carom.text.candidates.neighbours import Neighbours
from carom.text.constraints import KeepNames, KeepNegations, Likely, NotAntonyms, PartOfSpeech, Similar
from carom.text.language.vectors import MINILM
from carom.text.threats import WordBudget

Until = Annotated[float | None, Range(0, below=1)]
"""How much of the probability may be left against the goal where a search stops; None: it stops at the goal."""


@dataclass(frozen=True)
class WordAttack(Substitution):
    """A search that brings its own candidates and constraints."""

    candidates: Candidates | None = None
    constraints: tuple[Any, ...] = ()

    def within(self, threat: Threat) -> Threat:
        """The threat it works in when asked for another."""
        assert isinstance(threat, WordBudget), "word attacks work within a WordBudget"
        candidates = threat.candidates if self.candidates is None else self.candidates
        new = tuple(c for c in self.constraints if c not in threat.constraints)
        return replace(threat, candidates=candidates, constraints=(*threat.constraints, *new))


def attack(strategy: Strategy, candidates: Candidates | None = None, *constraints: Any) -> WordAttack:
    """A recipe; constraints that are None are left out."""
    kept = tuple(c for c in constraints if c is not None)
    return WordAttack(strategy, candidates=candidates, constraints=kept)


def _similar(least: float) -> Similar | None:
    return Similar(least) if least > 0 else None


def textfooler(vectors: str = MINILM, similarity: float = 0.5, until: Until = None) -> WordAttack:
    """Neighbours of the same part of speech, words ranked by leaving each out, whole text still similar.

    Departures: MiniLM for the Universal Sentence Encoder, over the whole text; WordNet's parts of speech for a
    tagger's; the best option of a word is taken, not the most similar one that fools.
    """
    source = Neighbours(vectors, most=50, least=0.4)
    return attack(GreedySites("delete", until=until), source, PartOfSpeech(), _similar(similarity))


def fast(until: Until = None) -> WordAttack:
    """The words of the highest gain together, as few as are enough; where that fails, `greedy-unk`."""
    return attack(Cascade(Leap(until), GreedySites("unk", until=until)))


def bert_attack(lm: str | None = None, most: int = 36, similarity: float = 0.2, until: Until = None) -> WordAttack:
    """What a masked language model, reading the word itself, would put in its place; words ranked by masking each.

    Departures: words of one piece only; predictions of the clean text, not filtered by antonyms of a fixed list but by
    WordNet's.
    """
    source = MaskedLm(named(lm, "bert-attack"), masked=False, most=most)
    return attack(GreedySites("unk", until=until), source, NotAntonyms(), _similar(similarity))


def bae(lm: str | None = None, most: int = 50, similarity: float = 0.5, until: Until = None) -> WordAttack:
    """What a masked language model puts in place of a masked word (BAE-R), of its part of speech; words ranked by
    leaving each out. Departure: MiniLM for the Universal Sentence Encoder; predictions of the clean text."""
    source = MaskedLm(named(lm, "bae"), most=most)
    return attack(GreedySites("delete", until=until), source, PartOfSpeech(), _similar(similarity))


def clare(lm: str | None = None, most: int = 20, similarity: float = 0.5, until: Until = None) -> WordAttack:
    """Replace, insert and merge, whatever helps most at each step. Departure: predictions of the clean text; MiniLM."""
    name = named(lm, "clare")
    sources = tuple(MaskedLm(name, place, most) for place in ("replace", "insert", "merge"))
    return attack(BestEdits(until=until), Union(sources), _similar(similarity))


def alzantot(
    vectors: str = MINILM, samples: int = 60, steps: int = 20, lm: str | None = None, until: Until = None
) -> WordAttack:
    """A genetic search over the eight nearest neighbours. With `lm`, a causal language model that must not find the
    text more than twice as perplexing (the paper ranks each word's options by one)."""
    likely = None if lm is None else Likely(lm)
    return attack(Genetic(samples, steps, until=until), Neighbours(vectors, most=8, least=0.4), likely)


def iga(vectors: str = MINILM, samples: int = 60, steps: int = 20, until: Until = None) -> WordAttack:
    """The improved genetic search: starts from every word, may change a word again."""
    return attack(Genetic(samples, steps, improved=True, until=until), Neighbours(vectors, most=50, least=0.4))


def pso(samples: int = 60, steps: int = 20, until: Until = None) -> WordAttack:
    """Particle swarm over the threat's words of the same part of speech (WordNet for HowNet's sememes, as in LEAP)."""
    return attack(Swarm(samples, steps, until=until), None, PartOfSpeech())


def climbing(samples: int = 8, steps: int = 40, until: Until = None) -> WordAttack:
    """The best of a few random changes at each step."""
    return attack(HillClimb(samples, steps, until))


def pruthi(until: Until = None) -> WordAttack:
    """The one misspelling that helps most, among all of all words, at each step."""
    return attack(BestEdits(until=until), Misspellings())


def a2t(vectors: str = MINILM, similarity: float = 0.7, until: Until = None) -> WordAttack:
    """Neighbours of the same part of speech, words ranked by the gradient, whole text similar. Departure: MiniLM for a
    DistilBERT sentence encoder at .9."""
    source = Neighbours(vectors, most=20, least=0.5)
    return attack(GreedySites("gradient", until=until), source, PartOfSpeech(), _similar(similarity))


def kuleshov(vectors: str = MINILM, similarity: float = 0.5, lm: str | None = None, until: Until = None) -> WordAttack:
    """The neighbour that helps most, of all words, at each step. Departure: MiniLM for skip-thought vectors; its
    language model only if `lm` names one."""
    likely = None if lm is None else Likely(lm)
    return attack(BestEdits(until=until), Neighbours(vectors, most=15, least=0.4), _similar(similarity), likely)


def careful(until: Until = None) -> WordAttack:
    """Synonyms of the same part of speech, no antonyms; names and negations stay."""
    kept = (PartOfSpeech(), NotAntonyms(), KeepNames(), KeepNegations())
    return attack(GreedySites("unk", until=until), None, *kept)


def checklist(until: Until = None) -> WordAttack:
    """Changes that should not matter: names, places, numbers, contractions, typos."""
    return attack(GreedySites("unk", until=until), Invariances())


def morpheus(until: Until = None) -> WordAttack:
    """Other forms of the same words. Departure: by importance, not from both ends; without a tagger."""
    return attack(GreedySites("unk", until=until), Inflections())


def hqa(samples: int = 40) -> WordAttack:
    """Labels only: random words everywhere, then as many taken back as possible."""
    return attack(LabelsOnly(samples))


def leap(queries: int = 200, samples: int = 40, draws: int = 8, vectors: str = MINILM) -> WordAttack:
    """Labels only: as `hqa`, and on from there along directions that are estimated in the space of word vectors.
    Departure: the threat's options with MiniLM's vectors (or a file's), for counter-fitted neighbours."""
    return attack(Metered(Leaps(samples, draws, source=vectors), queries))


def gbda(steps: int = 30, samples: int = 1, fluency: float = 0.1, until: Until = None) -> WordAttack:
    """Gradient ascent on distributions over each word's options."""
    return attack(Relaxed(steps=steps, samples=samples, fluency=fluency, until=until))


def bad_characters(until: Until = None) -> WordAttack:
    """Encodings that look the same. Departure: ranked greedily, not by differential evolution."""
    return attack(GreedySites("unk", until=until), BadCharacters())


def look_alikes(until: Until = None) -> WordAttack:
    """Letters of other alphabets."""
    return attack(GreedySites("unk", until=until), LookAlikes())


def emoji(until: Until = None) -> WordAttack:
    """An emoji inside a word or behind it."""
    return attack(GreedySites("unk", until=until), Emoji())


def leave_out(until: Until = None) -> WordAttack:
    """Words left out, the most important first."""
    return attack(BestEdits(until=until), LeaveOut())


def rewritten(function: str | None = None, until: Until = None) -> WordAttack:
    """The best of the texts that a function of the user's makes of the whole."""
    if not function:
        raise CaromError(
            "rewrite needs your function from a text to a list of texts: pass function=py:package.module:name."
        )
    return attack(BestEdits(until=until), Rewrites(function))


def deepwordbug_all(until: Until = None) -> WordAttack:
    """DeepWordBug's misspellings, the best of all words at each step."""
    return attack(BestEdits(until=until), CharacterEdits())


def confident(build: Callable[..., Substitution]) -> Callable[..., Substitution]:
    """The same attack with one more parameter, `confidence` of `Substitution`."""
    own = inspect.signature(build, eval_str=True)  # `made` has other globals
    more = inspect.Parameter("confidence", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=float | None)

    @functools.wraps(build)
    def made(*args: Any, confidence: float | None = None, **named: Any) -> Substitution:
        return replace(build(*args, **named), confidence=confidence)

    made.__signature__ = own.replace(parameters=[*own.parameters.values(), more])  # type: ignore[attr-defined]
    return made


def entry(name: str, summary: str, reference: str, build: Any, cost: str, **more: Any) -> AttackInfo:
    """Of the registry. Searches that see scores may be asked to go on until the model is sure of the wrong answer."""
    needs = more.pop("needs", Access.SCORE)
    sees = not needs & (Access.LABEL | Access.EXAMPLES)
    return AttackInfo(name, summary, reference, needs, ("words",), confident(build) if sees else build, cost, **more)


_RANKED = "words + options queries"
_EVERY = "options * words changed queries"

RECIPES: list[AttackInfo] = [
    entry(
        "textfooler",
        "neighbours of the same part of speech, words ranked by leaving each out, similar text",
        "Jin et al. 2020, Is BERT really robust? A strong baseline for natural language attack",
        textfooler,
        _RANKED,
    ),
    entry(
        "fast",
        "WordNet synonyms, several words at once along the gradient; greedy-unk where that fails",
        "after Ebrahimi et al. 2018, HotFlip (first-order gains); several words at once are ours",
        fast,
        "1 backward, a few queries; where they fail, words + options queries",
        needs=Access.GRADIENT,
    ),
    entry(
        "bert-attack",
        "words that a masked language model (lm=...) would write, words ranked by masking each",
        "Li et al. 2020, BERT-Attack: adversarial attack against BERT using BERT",
        bert_attack,
        _RANKED,
    ),
    entry(
        "bae",
        "words that a masked language model (lm=...) puts in masked places",
        "Garg and Ramakrishnan 2020, BAE: BERT-based adversarial examples for text classification",
        bae,
        _RANKED,
    ),
    entry(
        "clare",
        "replace, insert and merge by a masked language model (lm=...)",
        "Li et al. 2021, Contextualized perturbation for textual adversarial attack (CLARE)",
        clare,
        _EVERY,
    ),
    entry(
        "alzantot",
        "genetic search over neighbours",
        "Alzantot et al. 2018, Generating natural language adversarial examples",
        alzantot,
        "samples * options * steps queries at most",
        random=True,
    ),
    entry(
        "iga",
        "improved genetic search over neighbours",
        "Wang et al. 2019, Natural language adversarial attacks and defenses in word level (IGA)",
        iga,
        "samples * options * steps queries at most",
        random=True,
    ),
    entry(
        "pso",
        "particle swarm over WordNet synonyms of the same part of speech",
        "Zang et al. 2020, Word-level textual adversarial attacking as combinatorial optimization",
        pso,
        "samples * options * steps queries at most",
        random=True,
    ),
    entry(
        "hill-climbing",
        "WordNet synonyms, the best of a few random changes at each step",
        "Russell and Norvig 2010, Artificial intelligence: a modern approach (local search)",
        climbing,
        "samples * steps queries at most",
        random=True,
    ),
    entry(
        "pruthi",
        "misspellings inside words, keyboard neighbours among them, the best of all at each step",
        "Pruthi et al. 2019, Combating adversarial misspellings with robust word recognition",
        pruthi,
        _EVERY,
    ),
    entry(
        "a2t",
        "neighbours of the same part of speech, words ranked by the gradient, similar text",
        "Yoo and Qi 2021, Towards improving adversarial training of NLP models",
        a2t,
        "1 backward, options queries",
        needs=Access.GRADIENT,
    ),
    entry(
        "kuleshov",
        "neighbours, the best of all at each step, similar text",
        "Kuleshov et al. 2018, Adversarial examples for natural language classification problems",
        kuleshov,
        _EVERY,
    ),
    entry(
        "careful",
        "synonyms of the same part of speech, no antonyms; names and negations stay",
        "after Morris et al. 2020, Reevaluating adversarial examples in natural language (constraints)",
        careful,
        _RANKED,
    ),
    entry(
        "checklist",
        "names, places, numbers, contractions and typos that should not matter",
        "Ribeiro et al. 2020, Beyond accuracy: behavioral testing of NLP models with CheckList (invariance tests)",
        checklist,
        _RANKED,
    ),
    entry(
        "morpheus",
        "other inflections of the same words",
        "Tan et al. 2020, It's morphin' time! Combating linguistic discrimination with inflectional perturbations",
        morpheus,
        _RANKED,
    ),
    entry(
        "hqa",
        "labels only: random synonyms, then as many taken back as possible",
        "Liu et al. 2023, HQA-Attack: toward high quality black-box hard-label adversarial attack on text "
        "(its initialisation and substituting back)",
        hqa,
        "samples + words changed queries",
        needs=Access.LABEL,
        random=True,
    ),
    entry(
        "leap",
        "labels only: directions estimated in the space of word vectors, towards fewer and nearer words",
        "Ye et al. 2022, LeapAttack: hard-label adversarial attack on text via gradient-based optimization",
        leap,
        "at most `queries`",
        needs=Access.LABEL,
        random=True,
    ),
    entry(
        "gbda",
        "gradient ascent on distributions over synonyms",
        "Guo et al. 2021, Gradient-based adversarial attacks against text transformers",
        gbda,
        "steps * samples backward, words + 10 queries",
        needs=Access.GRADIENT,
        random=True,
    ),
    entry(
        "trigger",
        "the same few words before every text of a class, learned on others",
        "Wallace et al. 2019, Universal adversarial triggers for attacking and analyzing NLP (whole words; no lexicon "
        "of sentiment unless one is given)",
        trigger,
        "steps * texts backward, steps * words * width * top * texts forward at most, learned once but charged to each "
        "example; 1 forward",
        needs=Access.GRADIENT | Access.EXAMPLES,
        shared=True,
    ),
    entry(
        "bad-characters",
        "characters of no width, reordering, deletions, look-alikes, words ranked by masking each",
        "Boucher et al. 2022, Bad characters: imperceptible NLP attacks",
        bad_characters,
        "5 * words queries",
    ),
    entry(
        "look-alikes",
        "letters of other alphabets that look the same",
        "after Li et al. 2019, TextBugger (sub-c), and Boucher et al. 2022, Bad characters (homoglyphs)",
        look_alikes,
        _RANKED,
    ),
    entry(
        "emoji",
        "an emoji inside a word or behind it",
        "after Boucher et al. 2022, Bad characters (injected characters); emoji are visible",
        emoji,
        _RANKED,
    ),
    entry(
        "leave-out",
        "words left out, the best at each step",
        "after Feng et al. 2018, Pathologies of neural models make interpretations difficult (word removal)",
        leave_out,
        "words * words changed queries",
    ),
    entry(
        "misspell-all",
        "DeepWordBug's misspellings, the best of all words at each step",
        "after Gao et al. 2018, Black-box generation of adversarial text sequences (without its ranking)",
        deepwordbug_all,
        _EVERY,
    ),
    entry(
        "rewrite",
        "the best of whole texts that your function (function=py:...) makes",
        "after Iyyer et al. 2018, Adversarial example generation with syntactically controlled paraphrase networks",
        rewritten,
        "as many queries as texts",
    ),
]
