"""Models from outside: checkpoints, estimators and code of the user's own, loaded without running what a file hides.

Weights are safetensors and estimators skops files. Pickles run code when they are read, so they are refused unless the
user asks for them by name, and then read with `weights_only=True`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.boosting import BOOSTED
from carom.common.errors import CaromError
from carom.common.facts import MissingFacts, called, known_facts
from carom.common.models import Model
from carom.common.objects import is_estimator, walk
from carom.common.specs import Spec, call_with, existing, import_object, local_folder, parse
from carom.common.surroundings import quiet

OWN_CODE = ("py", "safetensors")
"""Kinds of spec whose models cannot tell their classes."""

PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt")
"""Endings of files that are pickles, whatever else they are called."""


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

    return {
        "safetensors": lambda spec, facts: wrap(load_safetensors(spec), facts),
        "sklearn": sklearn,
        "py": lambda spec, facts: wrap(load_python(spec), facts),
    }


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
    if isinstance(source, str):
        source = parse(source, tuple(loaders))
    if not isinstance(source, Spec):
        known_facts(facts, known, called(source, facts))
        return wrap(source, facts)
    spec, stated = separate(source, known)
    name = spec.rest if spec.kind == "zoo" else f"{spec.kind}:{spec.rest}"
    facts = {"name": name, **stated, **facts}
    known_facts(facts, known, facts["name"])
    try:
        return loaders[spec.kind](spec, facts)
    except MissingFacts as error:
        raise error.of_spec(more=bool(source.parameters)) from None


def wrapped(thing: Any, facts: Mapping[str, Any], module: Wrap, estimator: Wrap, function: Wrap, refusal: str) -> Model:
    """A model around an object by what kind of thing it is; of any other, `refusal` says what to give instead."""
    if isinstance(thing, Model):
        return thing
    if isinstance(thing, nn.Module):
        return module(thing, facts)
    if is_estimator(thing):
        return estimator(thing, facts)
    if callable(thing):
        return function(thing, facts)
    raise CaromError(refusal)


def refuse_pickle(path: str | Path, remedy: str = "Save the weights with safetensors.torch.save_file.") -> None:
    """Raise if the path is a pickle by its name."""
    if Path(path).suffix.lower() in PICKLES:
        raise CaromError(f"{path}: a pickle can run any code when it is read, so it is refused. {remedy}")


def load_state(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file or, if allowed, of a pickled state dict."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not allow_pickle:
        refuse_pickle(
            path,
            "Save the weights with safetensors.torch.save_file, or, if you trust the file, add ?allow_pickle=true: "
            "it is then read with torch.load(weights_only=True).",
        )
    if path.suffix.lower() in PICKLES:
        import pickle

        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise CaromError(f"{path}: not a state dict that torch.load(weights_only=True) reads: {error}") from error
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
            raise CaromError(f"{path}: holds {type(state).__name__}, not a state dict of tensors. Save state_dict().")
        return dict(state)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CaromError(
            f"{path}: not a safetensors file ({error}). Save the weights with safetensors.torch.save_file."
        ) from error


def fill(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> nn.Module:
    """Load a state dict strictly, naming whatever does not fit; the module comes back in evaluation mode."""
    wanted = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    given = {name: tuple(t.shape) for name, t in state.items()}
    shapes = [f"{n} {given[n]} for {wanted[n]}" for n in wanted if n in given and given[n] != wanted[n]]
    wrong = {
        "missing": [n for n in wanted if n not in given],
        "unexpected": [n for n in given if n not in wanted],
        "of another shape": shapes,
    }
    says = [f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}" for what, names in wrong.items() if names]
    if says:
        raise CaromError(
            f"{where}: the weights do not fit {type(module).__name__} ({'; '.join(says)}). "
            "Give the factory the parameters that the weights were trained with."
        )
    module.load_state_dict(dict(state))
    return module.eval()


def load_safetensors(spec: Spec) -> nn.Module:
    """`safetensors:PATH#pkg.module:factory?width=64`: the factory's module, called with the parameters, with the
    weights of the file. `allow_pickle=true` admits a pickled state dict.
    """
    path, mark, factory = spec.rest.partition("#")
    if not mark:
        raise CaromError(
            f"safetensors:{spec.rest} holds weights only. Name the factory of their module: "
            f"safetensors:{path}#package.module:factory."
        )
    parameters = dict(spec.parameters)
    state = load_state(existing(path, "file of weights"), bool(parameters.pop("allow_pickle", False)))
    module = call_with(import_object(factory, f"safetensors:{spec.rest}"), parameters, factory)
    if not isinstance(module, nn.Module):
        raise CaromError(f"{factory} made a {type(module).__name__}, not a torch module to load {path} into.")
    return fill(module, state, path)


def load_skops(path: str | Path, trusted: str | Sequence[str] = ()) -> Any:
    """A fitted scikit-learn estimator from a skops file. Types that could do harm are refused unless `trusted`.

    skops distrusts scikit-learn's compiled trees, which follow the node numbers of a file blindly. They are read here,
    and their nodes checked before anything is asked of them.
    """
    from zipfile import BadZipFile

    import skops.io

    refuse_pickle(path, "Save the estimator with skops.io.dump(estimator, 'name.skops').")
    found = existing(path, "skops file")
    allowed = [*(trusted.split(",") if isinstance(trusted, str) else trusted), TREE, HISTOGRAM_TREE]
    try:
        unknown = sorted(name for name in skops.io.get_untrusted_types(file=found) if name not in allowed)
        if unknown:
            raise CaromError(
                f"{found}: holds types that skops does not trust: {', '.join(unknown)}. If you know them to be "
                f"harmless, pass trusted={unknown!r}."
            )
        estimator = skops.io.load(found, trusted=allowed)
    except (BadZipFile, KeyError, ValueError) as error:
        raise CaromError(
            f"{found}: not a skops file ({error}). Save the estimator with skops.io.dump(estimator, 'name.skops')."
        ) from error
    if not all(_sound(part) for part in walk(estimator)):
        raise CaromError(f"{found}: holds a tree whose nodes point outside it. The file is damaged or made to do harm.")
    return estimator


TREE = "sklearn.tree._tree.Tree"


HISTOGRAM_TREE = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def _sound(part: Any) -> bool:
    """Of a compiled tree, whether every node leads to later nodes of the same tree; of other parts nothing is asked."""
    import numpy as np

    kind = f"{type(part).__module__}.{type(part).__name__}"
    if kind == TREE:
        inner = part.children_left != -1
        left, right, asks, features = part.children_left, part.children_right, part.feature, part.n_features
        if len(part.value) != part.node_count:
            return False
    elif kind == HISTOGRAM_TREE:
        inner = part.nodes["is_leaf"] == 0
        left, right, asks = (part.nodes[name].astype(np.int64) for name in ("left", "right", "feature_idx"))
        features = np.inf  # checked where its classifier says how many there are
        if not (part.nodes["bitset_idx"][part.nodes["is_categorical"] != 0] < len(part.raw_left_cat_bitsets)).all():
            return False
    elif type(part).__name__ == BOOSTED[1]:
        trees = [tree.nodes for rounds in part._predictors for tree in rounds]
        return all((nodes["feature_idx"][nodes["is_leaf"] == 0] < part._n_features).all() for nodes in trees)
    else:
        return True
    down = np.stack([left, right])[:, inner]
    leads_on = (down > np.arange(len(left))[inner]).all() and (down < len(left)).all()
    return bool(leads_on and (asks[inner] >= 0).all() and (asks[inner] < features).all() and len(left))


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


def load_pretrained(auto: str, spec: Spec) -> nn.Module:
    """`hf:org/name@revision`, or a folder on disk, by the transformers class called `auto`, in fp32 and eval mode.

    `allow_pickle=true` admits weights that are no safetensors, `trust_remote_code=true` runs code of the repository.
    """
    import transformers

    where, revision, options = _pretrained(spec)
    safe = not spec.parameters.get("allow_pickle", False)
    try:
        loaded = getattr(transformers, auto).from_pretrained(where, use_safetensors=safe, **revision, **options)
    except (OSError, ValueError, KeyError) as error:
        raise CaromError(
            f"hf:{spec.rest}: cannot be loaded with {auto}: {_first_line(error)} Check the name, the revision and the "
            "network; a folder on disk works as well (hf:./folder). Weights that are pickles need ?allow_pickle=true."
        ) from error
    return loaded.float().eval()


def load_processor(auto: str, spec: Spec) -> Any:
    """The tokeniser or preprocessor that belongs to `load_pretrained`'s model."""
    import transformers

    where, revision, options = _pretrained(spec)
    try:
        with quiet("transformers"):  # its advice on faster processors: what they do is checked, not how fast
            return getattr(transformers, auto).from_pretrained(where, **revision, **options)
    except (OSError, ValueError, KeyError) as error:
        raise CaromError(
            f"hf:{spec.rest}: its preprocessing cannot be loaded with {auto}: {_first_line(error)} "
            "Save it beside the weights with save_pretrained."
        ) from error


def _pretrained(spec: Spec) -> tuple[str, dict[str, str], dict[str, bool]]:
    """(name or folder, {"revision": ...} if given, further options)"""
    known_facts(spec.parameters, ("allow_pickle", "trust_remote_code"), f"hf:{spec.rest}")
    options = {"trust_remote_code": bool(spec.parameters.get("trust_remote_code", False))}
    if (folder := local_folder(spec.rest, "a model")) is not None:
        return str(folder), {}, options
    name, mark, revision = spec.rest.partition("@")
    return name, {"revision": revision} if mark else {}, options


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
    return line if line.endswith(".") else line + "."
