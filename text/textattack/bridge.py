"""TextAttack both ways: its recipes and attacks run on any text model of Carom, and any of these is a model to it.

    carom run -m text -s zoo:text-cnn -t zoo:text-bilstm -a textattack:pwws -a py:mine:attack --eps 0.3

`textattack:NAME` takes the names of its command line (pwws, deepwordbug, textfooler ...) and of its classes
(PWWSRen2019), `py:package.module:name` an `Attack` or a recipe of yours. From Python: `from_textattack`, `as_textattack`.

The search is TextAttack's own, one example after another; texts, outcomes and numbers of queries are those it has by
itself. What Carom adds: the budget holds in the search and on the final text, which is asked about once more; queries
are limited by the problem's budget; random numbers follow from seed and example id, and the global generators are put
back; nothing is fetched (`carom.text.textattack.offline`). Controls draw from the words of the attack itself where it exchanges
words by a list, else from the budget's.

Morris et al. 2020, TextAttack: a framework for adversarial attacks, data augmentation, and adversarial training in NLP.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from carom.common.attacks.info import AttackInfo
from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.identity import digest_of
from carom.common.base.rng import Rng
from carom.common.base.specs import import_object
from carom.common.core.batch import Access, Batch, Goal
from carom.common.core.model import Model
from carom.common.core.oracle import Oracle
from carom.common.core.problem import Problem, Result, Status
from carom.common.core.tasks import of_classes
from carom.common.core.threats import Threat
from carom.text.candidates.base import Candidates
from carom.text.textattack.offline import Guard, lacking, offline, textattack
from carom.text.threats import AnyWords, WordBudget

STOPPED = "stopped TextAttack with an error and were left unchanged"


class NotFinite(ValueError):
    """The model under attack answered with a number that is not finite."""


class ModelFailed(Exception):
    """The model under attack failed, which is no affair of TextAttack's."""


Ask = Callable[[list[str]], Tensor]
"""From texts to logits float[N, C]."""


@cache
def _wrapper() -> type:
    textattack()
    from textattack.models.wrappers import ModelWrapper

    class CaromModel(ModelWrapper):
        """A text model of Carom as TextAttack wants it: list[str] -> probabilities float64[N, C].

        In float64, because TextAttack takes rows that do not sum to 1 within 1e-6 for logits.
        """

        def __init__(self, ask: Ask | None, model: Model | None) -> None:
            self.bind(ask, model)

        def bind(self, ask: Ask | None, model: Model | None, spend: Callable[[], None] | None = None) -> None:
            self.ask: Any = ask
            self.carom: Any = model
            self.spend = spend
            self.model = getattr(model, "module", model)
            self.tokenizer = getattr(model, "encoder", None)

        def __call__(self, texts: Sequence[Any], **_: Any) -> Tensor:
            if not all(isinstance(text, str) for text in texts):
                raise CaromError("Carom's text models read one text; this attack asks about several at once.")
            logits = self.ask(list(texts))
            if not bool(logits.isfinite().all()):
                raise NotFinite
            return logits.double().softmax(1)

        def get_grad(self, text: str) -> dict[str, Any]:
            """The gradient of the margin (`objectives.margin`, which for two classes points where cross-entropy's
            does) at the tokens' embeddings, away from the answer."""
            if Access.GRADIENT not in self.carom.access or not hasattr(self.carom, "_embedding_gradient"):
                raise CaromError(f"model {self.carom.name} grants no gradient, which this attack asks for.")
            codes, _ = self.carom._encode([text])
            answer = self.ask([text]).argmax(1)
            if self.spend is not None:
                self.spend()
            with self.carom.frozen():
                grad = self.carom._embedding_gradient(codes, Goal(answer))
            return {"ids": list(codes[0]), "gradient": grad[0].numpy()}

        def _tokenize(self, inputs: Sequence[str]) -> list[list[str]]:
            _, spans = self.carom._encode(list(inputs))
            # A token of no width would be found in every word.
            return [[text[a:b] or "\0" for a, b in own] for text, own in zip(inputs, spans, strict=True)]

    return CaromModel


def as_textattack(model: Model) -> Any:
    """A text model as a TextAttack `ModelWrapper`: list of texts -> probabilities float64[N, C], and, where the model
    grants gradients, `get_grad` and `tokenize`.

        recipe = textattack.attack_recipes.PWWSRen2019.build(as_textattack(carom.load_model("zoo:text-cnn")))

    Args:
        model: a text model.

    Raises:
        CaromError: the model reads no text, or TextAttack is not installed.
    """
    if model.modality != "text":
        raise CaromError(f"model {model.name} reads {model.modality}, TextAttack texts.")

    asked = itertools.count()  # a random model answers each question anew

    def ask(texts: list[str]) -> Tensor:
        labels = torch.zeros(len(texts), dtype=torch.long)
        return model.predict(Batch(texts, labels, [str(next(asked)) for _ in texts]), 256)

    return _wrapper()(ask, model)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's global generators from a seed; put back afterwards."""
    before, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(before)
        np.random.set_state(numbers)


@dataclass(frozen=True)
class Swaps:
    """The words by which an attack of TextAttack replaces a word; where it draws them at random, one draw."""

    attack: str  # which one, as the store knows it
    swaps: tuple[Any, ...] = field(compare=False, repr=False)

    def options(self, word: str) -> tuple[str, ...]:
        seed = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "little")
        with seeded(seed), offline():
            found = {new for swap in self.swaps for new in swap._get_replacement_words(word)}
        return tuple(sorted(found))


@dataclass(frozen=True)
class FromTextAttack:
    """An attack of TextAttack as one of Carom's. Made by `from_textattack`."""

    name: str  # the spec that asks for it again, where there is one
    identity: str  # what it is made of, as a digest
    attack: Any = field(compare=False, repr=False)

    @property
    def needs(self) -> Access:
        return Access.SCORE if self.attack.is_black_box else Access.GRADIENT

    def within(self, threat: Threat) -> Threat:
        """The same share of words, changed to whatever the attack finds."""
        if isinstance(threat, AnyWords) or not isinstance(threat, WordBudget):
            return threat
        from textattack.constraints.pre_transformation import StopwordModification

        spares = any(isinstance(c, StopwordModification) for c in self.attack.pre_transformation_constraints)
        held_to = tuple(dict.fromkeys(type(c).__name__ for c in self.attack.constraints))
        return AnyWords(threat.max_changed, self._words() or threat.candidates, spares, held_to=held_to)

    def _words(self) -> Candidates | None:
        """The words that it exchanges for others, if it has a list of them."""
        from textattack.transformations import CompositeTransformation
        from textattack.transformations.word_swaps import WordSwap

        whole = self.attack.transformation
        parts = whole.transformations if isinstance(whole, CompositeTransformation) else [whole]
        plain = WordSwap._get_replacement_words
        if all(isinstance(p, WordSwap) and type(p)._get_replacement_words is not plain for p in parts):
            return Swaps(self.identity, tuple(parts))
        return None

    def __call__(self, problem: Problem, batch: Batch, rng: Rng) -> Result:
        oracle, count = Oracle(problem, batch), len(batch)
        texts, status = list(batch.inputs), torch.full((count,), int(Status.DONE))
        stopped = torch.zeros(count, dtype=torch.bool)
        seeds = (rng.fold("textattack").bits() & (2**31 - 1)).tolist()
        with contextlib.ExitStack() as stack:
            guard = stack.enter_context(offline())
            stack.enter_context(problem.model.frozen())
            attack, victim = self.attack, _wrapper()(None, problem.model)
            goal = of_classes(problem.goal)
            self._lend(stack, problem, victim)
            for i, text in enumerate(batch.inputs):
                if problem.budget.queries == 0:
                    continue
                victim.bind(_asking(oracle, i, guard), problem.model, lambda i=i: oracle.count(i, 1, 1))
                if goal.targets is not None:
                    attack.goal_function.target_class = int(goal.targets[i])
                attack.clear_cache()
                attack.goal_function.num_queries = 0
                try:
                    with seeded(seeds[i]):
                        result = attack.attack(text, int(goal.labels[i]))
                except NotFinite:
                    status[i] = Status.BAD_GRADIENT
                except ModelFailed as failed:
                    raise failed.__cause__ or failed from None
                except CaromError:
                    raise
                except Exception as error:
                    missing = lacking(error, self.name)
                    if missing is not None:
                        raise missing from error
                    status[i], stopped[i] = Status.INFEASIBLE, True
                else:
                    texts[i] = result.perturbed_result.attacked_text.text
                    if type(result).__name__ == "SkippedAttackResult":
                        status[i] = Status.SKIPPED
                oracle.count(i, queries=attack.goal_function.num_queries)
                attack.clear_cache()
            allowed = problem.threat.allows(texts, batch.inputs).tolist()
            texts = [new if ok else old for new, old, ok in zip(texts, batch.inputs, allowed, strict=True)]
            success = problem.goal.achieved(oracle.logits(texts, pays=False).cpu())
        return Result(problem.model.space.clamp(texts), success, oracle.cost(), status, {STOPPED: stopped})

    def _lend(self, stack: contextlib.ExitStack, problem: Problem, victim: Any) -> None:
        """The attack with this model, goal, budget and threat, until the stack is left."""
        attack, goal = self.attack, self.attack.goal_function
        from textattack.goal_functions import TargetedClassification, UntargetedClassification

        if problem.goal.targeted:
            if not isinstance(goal, TargetedClassification | UntargetedClassification):
                raise CaromError(f"{self.name} cannot be aimed: its goal is {type(goal).__name__}.")
            kept = {"use_cache": goal.use_cache, "model_batch_size": goal.batch_size, "query_budget": goal.query_budget}
            goal = TargetedClassification(victim, **kept)
        elif isinstance(goal, TargetedClassification):
            raise CaromError(
                f"{self.name} is aimed at a class: run it with --targeted, or give it the goal UntargetedClassification."
            )
        swaps: list[tuple[Any, str, Any]] = [
            (attack, "goal_function", goal),
            (attack.search_method, "goal_function", goal),
            (attack.search_method, "get_goal_results", goal.get_results),
            (goal, "model", victim),
        ]
        if problem.budget.queries is not None:
            swaps.append((goal, "query_budget", min(goal.query_budget, problem.budget.queries)))
        threat = problem.threat
        if not (isinstance(threat, AnyWords) and threat.max_changed == 1):
            swaps.append((attack, "constraints", [*attack.constraints, _constraint()(threat)]))
        for owner, name, value in swaps:
            stack.enter_context(patch.object(owner, name, value))


def _asking(oracle: Oracle, row: int, guard: Guard) -> Ask:
    def ask(texts: list[str]) -> Tensor:
        try:
            with guard.lifted():
                return oracle.logits(texts, torch.full((len(texts),), row), pays=False, draws=1).cpu()
        except Exception as error:
            raise ModelFailed from error

    return ask


@cache
def _constraint() -> type:
    from textattack.constraints import Constraint

    class Within(Constraint):
        """The edited text is within the budget."""

        def __init__(self, threat: Threat) -> None:
            super().__init__(compare_against_original=True)
            self.threat = threat

        def _check_constraint(self, transformed_text: Any, reference_text: Any) -> bool:
            return bool(self.threat.allows([transformed_text.text], [reference_text.text]).all())

    return Within


def from_textattack(attack: Any, name: str | None = None, **parameters: Any) -> FromTextAttack:
    """A recipe of TextAttack, by its name or class, or an `Attack` object, as an attack of Carom.

        carom.attack(model, data, from_textattack("pwws"), eps=0.3)

    `parameters` are those of the recipe's `build`. An object's own model is set aside while Carom uses it. Raises
    CaromError where something that the attack needs is not on this machine.

    Args:
        attack: a recipe's name ("pwws") or class, or an `Attack` object.
        name: what tables call it.
        **parameters: of the recipe's `build`.

    Raises:
        CaromError: as told above, or it does not aim at a class.
    """
    library = textattack()
    if isinstance(attack, str):
        attack, name = _recipe(attack), name or f"textattack:{attack}"
    if isinstance(attack, type):
        name = name or f"textattack:{attack.__name__}"
        try:
            with offline(), seeded(0):
                built = getattr(attack, "build")(_wrapper()(None, None), **parameters)  # noqa: B009  (of any class)
        except Exception as error:
            found = lacking(error, name)
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise found or CaromError(f"{name} cannot be built on Carom's models: {said}") from error
        named = f"{attack.__module__}.{attack.__qualname__}{sorted(parameters.items())}"
    else:
        built, named = attack, ""
    if not isinstance(built, library.Attack):
        raise CaromError(f"{type(built).__name__} is no attack of TextAttack: give a recipe, its name, or an Attack.")
    from textattack.goal_functions import ClassificationGoalFunction, InputReduction

    goal = built.goal_function
    if not isinstance(goal, ClassificationGoalFunction) or isinstance(goal, InputReduction):
        raise CaromError(
            f"the goal of this attack, {type(goal).__name__}, is not to change a class: nothing to measure."
        )
    name = name or f"{type(built.search_method).__name__} {type(built.transformation).__name__}"
    return FromTextAttack(name, _identity(built, named), built)


def _identity(attack: Any, named: str) -> str:
    """sha256 of what an attack is made of."""
    facts = [named, str(type(attack.goal_function)), repr(attack.search_method), repr(attack)]
    parts = []
    if not named:  # a recipe is what its name says; an object, what it holds
        for part in (attack.transformation, *attack.constraints, *attack.pre_transformation_constraints):
            parts.append((type(part), {k: v for k, v in vars(part).items() if "cache" not in k}))
    return digest_of(parts, *facts)


def _recipe(name: str) -> type:
    textattack()
    from textattack import attack_recipes
    from textattack.attack_args import ATTACK_RECIPE_NAMES

    if name in ATTACK_RECIPE_NAMES:
        module, _, name = ATTACK_RECIPE_NAMES[name].rpartition(".")
        return getattr(importlib.import_module(module), name)
    classes = {
        k for k, v in vars(attack_recipes).items() if isinstance(v, type) and issubclass(v, attack_recipes.AttackRecipe)
    }
    if name not in classes - {"AttackRecipe"}:
        raise UnknownName("recipe of TextAttack", name, {*ATTACK_RECIPE_NAMES, *classes} - {"AttackRecipe"})
    return getattr(attack_recipes, name)


def recipe_info(name: str) -> AttackInfo:
    """The entry of `textattack:NAME`."""

    def build(**parameters: Any) -> FromTextAttack:
        return from_textattack(name, **parameters)

    needs = Access.GRADIENT if name in ("a2t", "A2TYoo2021", "hotflip", "HotFlipEbrahimi2017") else Access.SCORE
    return _info(f"textattack:{name}", f"TextAttack's {name}", needs, build)


def object_info(path: str) -> AttackInfo:
    """The entry of `py:package.module:name`: an attack of TextAttack, or one of Carom's or a function that makes it."""
    spec = f"py:{path}"
    thing = import_object(path, spec)
    kinds = thing.__mro__ if isinstance(thing, type) else type(thing).__mro__
    if any(kind.__module__.partition(".")[0] == "textattack" for kind in kinds):
        made = from_textattack(thing, name=spec)
        return _info(spec, f"an attack of TextAttack: {path}", made.needs, lambda: made)
    if not callable(thing):
        raise CaromError(f"{spec} is no attack: give an Attack of TextAttack, an attack of Carom, or what makes one.")
    is_made = not isinstance(thing, type) and not hasattr(thing, "__code__")
    return _info(spec, f"yours: {path}", getattr(thing, "needs", Access.SCORE), (lambda: thing) if is_made else thing)


def _info(name: str, summary: str, needs: Access, build: Callable[..., Any]) -> AttackInfo:
    reference = "Morris et al. 2020, TextAttack: a framework for adversarial attacks in natural language processing"
    return AttackInfo(
        name=name,
        summary=summary,
        reference=reference,
        needs=needs,
        threats=("words",),
        build=build,
        cost="as the attack has it",
        random=True,
    )


KINDS: Mapping[str, Callable[[str], AttackInfo]] = {"textattack": recipe_info, "py": object_info}
