"""What the attacks on words share: a search, the candidates and constraints that it brings, how sure the model must be."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Unpack

from carom.common.attacks.catalogue.base import Catalogue, Facts
from carom.common.attacks.edits.requests import EditStrategy
from carom.common.attacks.edits.substitution import Substitution
from carom.common.attacks.info import AttackInfo
from carom.common.base.parameters import Range
from carom.common.core.batch import Access
from carom.common.core.threats import Threat
from carom.text.candidates.base import Candidates
from carom.text.constraints import Similar
from carom.text.threats import WordBudget

Until = Annotated[float | None, Range(0, below=1)]
"""How much of the probability may be left against the goal where a search stops; None: it stops at the goal."""

EVERY = "options * words changed queries"
"""What a search costs that tries all options of all words at each step."""


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


def attack(strategy: EditStrategy, candidates: Candidates | None = None, *constraints: Any) -> WordAttack:
    """A recipe; constraints that are None are left out."""
    kept = tuple(c for c in constraints if c is not None)
    return WordAttack(strategy, candidates=candidates, constraints=kept)


def similar(least: float) -> Similar | None:
    """Whole texts alike to that degree; no constraint where that is 0."""
    return Similar(least) if least > 0 else None


def confident(info: AttackInfo) -> AttackInfo:
    """A search that sees scores takes one more parameter, `confidence` of `Substitution`: it may be asked to go on until
    the model is sure of the wrong answer."""
    if info.needs & (Access.LABEL | Access.EXAMPLES):
        return info
    build: Callable[..., Any] = info.build
    own = inspect.signature(build, eval_str=True)  # `made` has other globals
    more = inspect.Parameter("confidence", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=float | None)

    @functools.wraps(build)
    def made(*args: Any, confidence: float | None = None, **named: Any) -> Any:
        return replace(build(*args, **named), confidence=confidence)

    made.__signature__ = own.replace(parameters=[*own.parameters.values(), more])  # type: ignore[attr-defined]
    return replace(info, build=made)


def word_attacks(**common: Unpack[Facts]) -> Catalogue:
    """A catalogue of searches for words that see scores and rank the words, unless they say otherwise."""
    facts: Facts = {"needs": Access.SCORE, "threats": ("words",), "cost": "words + options queries"}
    facts.update(common)
    return Catalogue(finish=confident, **facts)
