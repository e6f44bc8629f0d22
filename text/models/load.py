"""Text models from anywhere: the zoo, Hugging Face, checkpoints, estimators, functions, and modules that you hold."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from carom.common.base.errors import CaromError, UnknownName
from carom.common.base.identity import digest_of
from carom.common.base.parameters import flag
from carom.common.base.specs import Spec, parse
from carom.common.core.batch import Batch, Family
from carom.common.core.model import Model
from carom.common.loading.dispatch import dispatch, load_python, own_loaders, wrapped
from carom.common.loading.estimators import fitted_classes, scores_of
from carom.common.loading.facts import (
    CLASSES,
    Fact,
    called,
    class_names,
    family_fact,
    known_facts,
    need,
    side_names,
    threshold_fact,
)
from carom.common.loading.pretrained import check_pipeline, load_pretrained, load_processor, pipeline_parts
from carom.common.loading.zoo import load_body
from carom.common.models.answers import check_probabilities, on_sides
from carom.common.models.functions import FunctionModel
from carom.common.models.trees import TreeEnsemble
from carom.text.language.reviews import CLASSES as CLASS_NAMES
from carom.text.models import reordering, zoo  # noqa: F401 - these models can be reordered
from carom.text.models.base import Encoder
from carom.text.models.features import FeatureModel
from carom.text.models.hub import HubTokens
from carom.text.models.networks import Linear, TokenNetwork
from carom.text.models.pairs import PairTokens, on_pairs, reads_pairs
from carom.text.models.tokens import TokenModel
from carom.text.pairs import join
from carom.text.space import Words

KNOWN = ("name", "family", "classes", "tokenizer", "limit", "embedding", "answers", "trusted", "pairs", "threshold")
"""The facts that a user may state, as keywords or as parameters of the spec."""

TOKENIZER = Fact(
    *("tokenizer", "tokenizer", "tokenizer=... (a fast tokenizer, its folder, or an encoder)"), "tokenizer=FOLDER"
)

COUNTS_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
"""Models whose positions begin behind the number of their padding token."""


def load_model(source: Any, **facts: Any) -> Model:
    """A text model from a spec, or around a module, a Hugging Face model, an estimator or a function that you hold.

    Facts that Carom may ask for: `tokenizer`, a fast tokenizer of transformers or tokenizers, its folder or name, or
    any object with `encode` and `pad_id` (see `Encoder`); `classes` in the order of the outputs. `limit`: how many
    tokens of a text are read, by default what tokenizer and model allow. `embedding`: path of the layer that embeds
    the tokens, where it cannot be found. For functions from list[str], what they answer: `answers="probabilities"`
    (the default) or "logits". `name` and `family` override what Carom picks. `pairs`: whether it takes pairs of texts
    (`carom.text.pairs`); of models with a tokenizer, those do whose classes say so, such as entailment. Functions and
    pipelines of pairs are called with (first, second) tuples. `threshold`: the model answers one number for each text,
    a score or a regression; its classes are the sides of that number, by default below and above, and an attack leads
    over it (`on_sides`).
    """
    return dispatch(source, facts, _LOADERS, KNOWN, wrap)


def wrap(thing: Any, facts: Mapping[str, Any]) -> Model:
    """A model around an object."""
    refusal = (
        f"{called(thing, {})} is not a model: give a torch module, a Hugging Face model, a fitted scikit-learn pipeline, "
        "or a function from a list of texts to probabilities."
    )
    return wrapped(thing, facts, _module, _estimator, _function, refusal, _pipeline)


def _hub(spec: Spec, facts: Mapping[str, Any]) -> Model:
    model = load_pretrained("AutoModelForSequenceClassification", spec)
    tokenizer = facts.get("tokenizer") or load_processor("AutoTokenizer", spec)
    config: Any = model.config
    if config.pad_token_id is None:  # decoders look for it to find the last token
        config.pad_token_id = HubTokens(tokenizer, 1).pad_id
    return _module(model, {**facts, "tokenizer": tokenizer})


def _module(module: nn.Module, facts: Mapping[str, Any]) -> Model:
    who, config = called(module, facts), getattr(module, "config", None)
    own = _own_classes(config)
    threshold = threshold_fact(facts, who)
    stated = {**({"classes": own} if own and threshold is None else {}), **side_names(facts), **facts}
    need(stated, [TOKENIZER, CLASSES], who)
    if config is not None and getattr(config, "pad_token_id", 0) is None:
        raise CaromError(
            f"{who} has no padding token, so it reads one text at a time. "
            "Set model.config.pad_token_id = tokenizer.eos_token_id."
        )
    encoder, classes = as_encoder(stated["tokenizer"], module, facts.get("limit")), class_names(stated["classes"])
    if reads_pairs(facts, classes) and not getattr(encoder, "pairs", False):
        if not isinstance(encoder, HubTokens):
            raise CaromError(f"{who} is to take pairs, so it needs a fast tokenizer of transformers: pass tokenizer=.")
        encoder = PairTokens(encoder, "token_type_ids" in inspect.signature(module.forward).parameters)
    return TokenModel(
        module,
        encoder,
        name=who,
        family=family_fact(facts, module),
        classes=classes,
        embedding=_embedding(module, encoder, facts.get("embedding")),
        threshold=threshold,
    )


FOLLOWED = ("truncation", "padding", "max_length")
"""What a pipeline may tell its tokenizer: texts are cut at the limit, and padding has no influence."""


def _pipeline(pipeline: Any, facts: Mapping[str, Any]) -> Model:
    """A transformers pipeline for text classification, by its network and its tokenizer."""
    who = called(pipeline, facts)
    network, tokenizer = pipeline_parts(pipeline, "text-classification", "tokenizer", facts)
    told = {name: value for name, value in pipeline._preprocess_params.items() if value is not None}
    if strange := sorted(set(told) - set(FOLLOWED)):
        raise CaromError(
            f"{who} tells its tokenizer {', '.join(strange)}, which carom cannot follow: make the pipeline without, or hand "
            'in a function that asks it: load_model(function, answers="probabilities", classes=[...]).'
        )
    # A pipeline that is not told to cut texts gives the network all that it has positions for.
    limit = told.get("max_length") or (None if told.get("truncation") else _positions(network))
    model = _module(network, {"tokenizer": tokenizer, "name": who, "limit": limit, **facts})
    space = model.space
    texts = [PROBES[0], PROBES[1], PROBES[0][:1]]
    given: list[Any] = list(texts)
    if isinstance(space, Words) and space.pairs:
        texts, given = [join(t, PROBES[1]) for t in texts], [{"text": t, "text_pair": PROBES[1]} for t in texts]
    remedy = "Hand in its network with the tokenizer: load_model(pipe.model, tokenizer=pipe.tokenizer)."
    check_pipeline(pipeline, given, lambda: model.predict(Batch(texts, torch.zeros(3), list("abc"))), who, remedy)
    return model


PROBES = ("A good story.", "it was dull")


def _own_classes(config: Any) -> list[str]:
    """The classes that a Hugging Face model names; none if it only numbers them."""
    labels = getattr(config, "id2label", None) or {}
    own = [str(labels[k]) for k in sorted(labels)]
    return [] if all(re.fullmatch(r"LABEL_\d+", name) for name in own) else own


def as_encoder(tokenizer: Any, module: nn.Module, limit: int | None = None) -> Encoder:
    """The encoder that a `tokenizer` fact stands for."""
    if isinstance(tokenizer, str):
        spec = parse(tokenizer) if tokenizer.startswith(("py:", "hf:")) else Spec("hf", tokenizer)
        tokenizer = load_python(spec) if spec.kind == "py" else load_processor("AutoTokenizer", spec)
    if type(tokenizer).__module__.startswith("tokenizers"):
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "pad_id"):
        return tokenizer
    if not hasattr(tokenizer, "encode"):
        raise CaromError(
            f"tokenizer={tokenizer!r} is none: give a fast tokenizer, its folder, or an object with encode and pad_id."
        )
    return HubTokens(tokenizer, limit or _longest(tokenizer, module))


def _positions(module: nn.Module) -> int | None:
    """How many tokens a model has positions for; None where it counts none."""
    config = getattr(module, "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    return positions - 2 if positions and getattr(config, "model_type", "") in COUNTS_FROM_PADDING else positions


def _longest(tokenizer: Any, module: nn.Module) -> int:
    """How many tokens both tokenizer and model take; 512 where neither says."""
    known = [n for n in (_positions(module), getattr(tokenizer, "model_max_length", None)) if n and 0 < n < 1 << 20]
    return min(known, default=512)


def _embedding(module: nn.Module, encoder: Any, path: str | None) -> nn.Module | None:
    """The layer that embeds the tokens, if it can be known."""
    if path is not None:
        try:
            return module.get_submodule(path)
        except AttributeError:
            raise UnknownName(
                f"layer of {called(module, {})}", path, [n for n, _ in module.named_modules() if n]
            ) from None
    find = getattr(module, "get_input_embeddings", None)
    if callable(find):
        return find()
    own = getattr(module, "embedding", None)
    if isinstance(own, nn.Embedding):
        return own
    size = len(encoder) if hasattr(encoder, "__len__") else None
    found = [m for m in module.modules() if isinstance(m, nn.Embedding) and size in (None, m.num_embeddings)]
    return found[0] if len(found) == 1 else None


def _estimator(estimator: Any, facts: Mapping[str, Any]) -> Model:
    who = called(estimator, facts)
    own = fitted_classes(estimator, class_names(facts["classes"]) if "classes" in facts else None, who)
    pairs = flag(facts, "pairs", who)
    probe = [("a text", "another")] if pairs else ["a text"]
    try:
        scores, probabilities, access = scores_of(estimator, probe, who)
    except (ValueError, AttributeError, TypeError) as error:
        raise CaromError(
            f"{who} does not take {Words(pairs=pairs)} ({str(error).splitlines()[0].rstrip(':')}). Put the vectorizer "
            "it was fitted with in front: sklearn.pipeline.make_pipeline(vectorizer, classifier)."
        ) from error
    model = FunctionModel(
        partial(on_pairs, scores, who) if pairs else scores,
        name=who,
        modality="text",
        family=family_fact(facts, estimator),
        space=Words(pairs=pairs),
        classes=own,
        digest=digest_of(estimator, *(["pairs"] if pairs else [])),
        probabilities=probabilities,
    )
    model.access = access
    return model


def _function(function: Callable[[list[str]], Any], facts: Mapping[str, Any]) -> Model:
    who = called(function, facts)
    threshold, facts = threshold_fact(facts, who), {**side_names(facts), **facts}
    need(facts, [CLASSES], who)
    answers = facts.get("answers", "probabilities" if threshold is None else "logits")
    if answers not in ("logits", "probabilities"):
        raise UnknownName("kind of scores", answers, ("logits", "probabilities"))
    pairs, asked = flag(facts, "pairs", who), cast("Any", function)
    told = [*(["pairs"] if pairs else []), *([] if threshold is None else [f"threshold {threshold}"])]
    digest = digest_of(function, answers, *told)
    if pairs:
        asked = partial(on_pairs, asked, who)
    if threshold is not None:
        asked, answers = partial(_beyond, asked, threshold, who), "logits"
    return FunctionModel(
        partial(check_probabilities, asked, who) if answers == "probabilities" else asked,
        name=who,
        modality="text",
        family=family_fact(facts, function) if "family" in facts else Family.OTHER,
        space=Words(pairs=pairs),
        classes=class_names(facts["classes"]),
        digest=digest,
        probabilities=answers == "probabilities",
    )


def _beyond(function: Callable[[list[str]], Any], threshold: float, who: str, texts: list[str]) -> Tensor:
    return on_sides(torch.as_tensor(function(texts), dtype=torch.float32), threshold, who)


def _zoo(spec: Spec, facts: Mapping[str, Any]) -> Model:
    if spec.rest not in zoo.RECIPES:
        raise UnknownName("text model in the zoo", spec.rest, zoo.RECIPES)
    known_facts({**spec.parameters, **facts}, ("name", "weights"), f"zoo:{spec.rest}")
    recipe = zoo.RECIPES[spec.rest]
    body = load_body(recipe, spec.parameters.get("weights"))
    shared: dict[str, Any] = {"name": facts["name"], "family": recipe.family, "classes": CLASS_NAMES}
    encoder: Any = zoo.encoder(recipe.name)
    if isinstance(body, TreeEnsemble | Linear):
        return FeatureModel(body, encoder, **shared)
    assert isinstance(body, TokenNetwork)
    return TokenModel(body, encoder, embedding=body.embedding, **shared)


_LOADERS: dict[str, Callable[[Spec, Mapping[str, Any]], Model]] = {
    "zoo": _zoo,
    "hf": _hub,
    **own_loaders(wrap, KNOWN),
}
