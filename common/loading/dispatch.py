"""Models from outside: checkpoints, estimators and code of the user's own, loaded without running what a file hides.

Weights are safetensors and estimators skops files. Pickles run code when they are read, so they are refused unless the
user asks for them by name, and then read with `weights_only=True`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from carom.common.base.errors import CaromError
from carom.common.base.identity import Digest, digest_of
from carom.common.base.notices import notice
from carom.common.base.specs import Spec, call_with, import_object, parse
from carom.common.core.model import Model
from carom.common.loading.boosters.read import SAVE, boosted_of, load_boosted
from carom.common.loading.estimator_files import load_skops
from carom.common.loading.estimators import is_estimator
from carom.common.loading.facts import MissingFacts, called, known_facts
from carom.common.loading.weights import load_safetensors


def separate(spec: Spec, known: Iterable[str]) -> tuple[Spec, dict[str, Any]]:
    """A spec without the parameters that are facts about the model, and these facts.

    A parameter that a factory takes itself goes to it as well: `classes=10` is both.
    """
    taken: Iterable[str] = ()
    path = spec.rest if spec.kind == "py" else spec.rest.partition("#")[2]
    if path:
        factory = import_object(path, f"{spec.kind}:{spec.rest}")
        taken = inspect.signature(factory).parameters if callable(factory) else ()
    facts = {name: value for name, value in spec.parameters.items() if name in known}
    rest = {name: value for name, value in spec.parameters.items() if name not in facts or name in taken}
    return Spec(spec.kind, spec.rest, rest), facts


Load = Callable[[Spec, Mapping[str, Any]], Model]
"""(spec, facts) -> model"""

Wrap = Callable[[Any, Mapping[str, Any]], Model]
"""(object, facts) -> a model around it"""


def own_loaders(wrap: Wrap, known: Iterable[str]) -> dict[str, Load]:
    """Loaders of what the user made: weights of a factory, an estimator, code. What they load is wrapped."""

    def sklearn(spec: Spec, facts: Mapping[str, Any]) -> Model:
        known_facts(spec.parameters, known, f"sklearn:{spec.rest}")
        return wrap(load_skops(spec.rest, facts.get("trusted", ())), facts)

    def boosted(spec: Spec, facts: Mapping[str, Any]) -> Model:
        known_facts(spec.parameters, known, f"{spec.kind}:{spec.rest}")
        return wrap(load_boosted(spec.kind, spec.rest), facts)

    return {
        "safetensors": lambda spec, facts: wrap(load_safetensors(spec), facts),
        "sklearn": sklearn,
        **{kind: boosted for kind in SAVE},
        "py": lambda spec, facts: wrap(load_python(spec), facts),
    }


RECEIVED = ("hf", "sklearn", *SAVE)
"""Kinds of spec that name files of other libraries: what fails in them is no bug of Carom's."""


def dispatch(
    source: Any,
    facts: Mapping[str, Any],
    loaders: Mapping[str, Load],
    known: Iterable[str],
    wrap: Wrap,
) -> Model:
    """The model of a spec by the loader of its kind, or of an object by `wrap`; facts unknown to both are refused."""
    if isinstance(source, Model):
        return source
    known = (*known, "identity")
    if isinstance(source, str):
        source = parse(source, tuple(loaders))
    if not isinstance(source, Spec):
        known_facts(facts, known, called(source, facts))
        return identified(wrap(source, facts), facts)
    spec, stated = separate(source, known)
    name = spec.rest if spec.kind == "zoo" else f"{spec.kind}:{spec.rest}"
    if spec.kind == "zoo" and "weights" in spec.parameters:
        name = Path(str(spec.parameters["weights"])).stem
    facts = {"name": name, **stated, **facts}
    known_facts(facts, known, facts["name"])
    try:
        return identified(loaders[spec.kind](spec, facts), facts)
    except MissingFacts as error:
        raise error.of_spec(more=bool(source.parameters)) from None
    except CaromError:
        raise
    except Exception as error:
        if spec.kind not in RECEIVED:
            raise
        raise CaromError(
            f"{spec.kind}:{spec.rest}: what it holds is of another shape than a model that carom can use "
            f"({type(error).__name__}: {error}). Save it again with the library that made it."
        ) from error


def identified(model: Model, facts: Mapping[str, Any]) -> Model:
    """The model under the identity that its user gives (`identity=`), which stands for all that its answers rest on; or
    with a word of warning where its own could not be read."""
    if "identity" in facts:
        told = {name: value for name, value in facts.items() if name != "name"}
        model.digest = digest_of(model.classes, str(model.space), told)
        if isinstance(model.digest, Digest) and model.digest.why:
            raise CaromError(
                f"model {model.name}: {model.digest.why}, among the facts that are given beside identity=. State "
                "there what can be read: words, numbers, lists of them."
            )
        model.facts["identity"] = f"{facts['identity']}, as given"
    elif isinstance(model.digest, Digest) and model.digest.why:
        model.facts["identity"] = "computed afresh each run"
        notice(
            f"model {model.name}: {model.digest.why}. Its answers are not kept, but computed afresh each run. To keep "
            "them, give it an identity that you change whenever it answers otherwise: identity=NAME."
        )
    return model


def wrapped(
    thing: Any,
    facts: Mapping[str, Any],
    module: Wrap,
    estimator: Wrap,
    function: Wrap,
    refusal: str,
    pipeline: Wrap | None = None,
) -> Model:
    """A model around an object by what kind of thing it is; of any other, `refusal` says what to give instead.
    `pipeline` takes those of transformers."""
    if isinstance(thing, Model):
        return thing
    if isinstance(thing, nn.Module):
        return module(thing, facts)
    if pipeline is not None and _is_pipeline(thing):
        return pipeline(thing, facts)
    thing = boosted_of(thing) or thing
    if is_estimator(thing):
        return estimator(thing, facts)
    if callable(thing):
        return function(thing, facts)
    raise CaromError(refusal)


def _is_pipeline(thing: Any) -> bool:
    """Whether it is one of transformers, which need not be imported to know."""
    return any(c.__name__ == "Pipeline" and c.__module__ == "transformers.pipelines.base" for c in type(thing).__mro__)


def load_python(spec: Spec) -> Any:
    """What `py:pkg.module:name?x=1` stands for.

    A class is called with the parameters. A function is called with them if that leaves it no argument without a
    value: it is a factory. A function that still wants an argument is the model itself, from inputs to scores, and the
    parameters are bound to it. Any other object is used as it is and takes no parameters.
    """
    found, parameters = import_object(spec.rest, f"py:{spec.rest}"), dict(spec.parameters)
    if inspect.isclass(found):
        return call_with(found, parameters, spec.rest)
    if inspect.isfunction(found):
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        wants = [
            p.name
            for p in inspect.signature(found).parameters.values()
            if p.kind in kinds and p.default is p.empty and p.name not in parameters
        ]
        if not wants:
            return call_with(found, parameters, spec.rest)
        return partial(found, **parameters) if parameters else found
    if parameters:
        raise CaromError(f"py:{spec.rest} is a {type(found).__name__} and takes no parameters. Leave them out.")
    return found
