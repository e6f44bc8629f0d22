"""Models from outside: checkpoints, estimators and code of the user's own, loaded without running what a file hides.

Weights are safetensors and estimators skops files. Pickles run code when they are read, so they are refused unless the
user asks for them by name, and then read with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from carom.common.boosting import BOOSTED, boosted
from carom.common.errors import CaromError, UnknownName
from carom.common.models import Model
from carom.common.problem import Access, Family
from carom.common.specs import Spec, call_with, existing, import_object, local_folder, parse
from carom.common.surroundings import quiet
from carom.common.trees import TreeEnsemble

OWN_CODE = ("py", "safetensors")
"""Kinds of spec whose models cannot tell their classes."""

PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt")
"""Endings of files that are pickles, whatever else they are called."""


@dataclass(frozen=True)
class Fact:
    """Something about a model that its weights do not tell, and how a user states it."""

    name: str  # the keyword: normalise
    what: str  # in a sentence: "normalisation"
    how: str  # what to write: "normalise=(mean, std) or normalise=None"


CLASSES = Fact("classes", "classes", 'classes=["first", "second", ...] in the order of its outputs')
ANSWERS = Fact("answers", "kind of scores", 'answers="logits" or answers="probabilities"')


def need(facts: Mapping[str, Any], wanted: Iterable[Fact], who: str) -> None:
    """Raise an error that asks, by name, for every fact of `wanted` that is missing."""
    missing = [fact for fact in wanted if fact.name not in facts]
    if missing:
        whats, hows = [f.what for f in missing], [f.how for f in missing]
        raise CaromError(f"carom cannot know the {_and(whats)} of {who}: pass {'; '.join(hows)}.")


def known_facts(facts: Mapping[str, Any], known: Iterable[str], who: str) -> None:
    """Refuse facts that `who` has no use for, with the nearest it knows."""
    known = list(known)
    for name in facts:
        if name not in known:
            raise UnknownName(f"fact about {who}", name, known)


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


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
    return loaders[spec.kind](spec, facts)


def called(thing: Any, facts: Mapping[str, Any]) -> str:
    """What an object is called: as the user says, else by its own name or that of its class."""
    thing = thing.func if isinstance(thing, partial) else thing
    return str(facts.get("name") or getattr(thing, "__name__", type(thing).__name__))


def choice(facts: Mapping[str, Any], name: str, among: Sequence[str], default: str | None = None) -> str:
    """A fact that is one of a few words."""
    value = facts.get(name, default)
    if value not in among:
        raise UnknownName(name, str(value), among)
    return str(value)


def family_fact(facts: Mapping[str, Any], thing: Any) -> Family:
    """The family that the user states, else a guess."""
    return Family(choice(facts, "family", list(Family))) if "family" in facts else family_of(thing)


def numbers(value: Any) -> list[float]:
    """Numbers as keywords or specs give them: 0.5, (0.5, 0.4), "0.5,0.4"."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    return [float(part) for part in parts]


T = TypeVar("T")


def whole_fact(facts: Mapping[str, Any], name: str, default: T) -> int | T:
    """A fact that counts something: channels, samples, hertz."""
    value = facts.get(name)
    if value is None:
        return default
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1:
        raise CaromError(f"{name}={value!r}: write a whole number of 1 or more.")
    return count


def bounds_fact(facts: Mapping[str, Any], default: tuple[float, float]) -> tuple[float, float]:
    """The fact `bounds`: (low, high), or "0,255" in a spec."""
    value = facts.get("bounds", default)
    try:
        low, high = numbers(value)
    except (TypeError, ValueError):
        raise CaromError(f"bounds={value!r}: write two numbers, bounds=(low, high), or low,high in a spec.") from None
    if not low < high:
        raise CaromError(f"bounds={value!r}: the first must be below the second.")
    return low, high


def class_names(value: Any) -> tuple[str, ...]:
    """Classes as a user gives them: a list, "first,second", or their number.

    >>> class_names("cat,dog"), class_names(3)
    (('cat', 'dog'), ('0', '1', '2'))
    """
    if isinstance(value, int):
        return tuple(map(str, range(value)))
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return tuple(str(name) for name in value)


def stated_classes(facts: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The fact `classes`; None where the user leaves them to the data or the model."""
    return class_names(facts["classes"]) if "classes" in facts else None


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
    if not all(_sound(part) for part in _walk(estimator)):
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


def family_of(model: Any) -> Family:
    """A guess at the family of a torch module or a scikit-learn estimator; users state another with family=...

    Recurrent layers make an rnn, else attention a transformer, else convolutions a cnn, else linear layers an mlp.
    """
    if not isinstance(model, nn.Module):
        return _estimator_family(model)
    modules = list(model.modules())
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    if any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in modules):
        return Family.RNN
    if getattr(getattr(model, "config", None), "num_attention_heads", 0):
        return Family.TRANSFORMER
    # Attention written out by hand is known by its name; channel attention inside a CNN is made of convolutions.
    if any(
        isinstance(m, nn.MultiheadAttention)
        or (type(m).__name__.endswith("Attention") and not any(isinstance(c, convolutions) for c in m.modules()))
        for m in modules
    ):
        return Family.TRANSFORMER
    if any(isinstance(m, convolutions) for m in modules):
        return Family.CNN
    linear = sum(isinstance(m, nn.Linear) for m in modules)
    return Family.OTHER if not linear else Family.MLP if linear > 1 else Family.LINEAR


def _estimator_family(estimator: Any) -> Family:
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    name, module = type(last).__name__, type(last).__module__
    if any(word in name for word in ("Tree", "Forest", "Boosting")):
        return Family.TREE
    if "linear_model" in module or "naive_bayes" in module or name == "LinearSVC":
        return Family.LINEAR
    return Family.MLP if "neural_network" in module else Family.OTHER


def is_estimator(thing: Any) -> bool:
    """Whether it answers like a scikit-learn classifier."""
    return not inspect.isclass(thing) and callable(getattr(thing, "predict", None)) and hasattr(thing, "fit")


def fitted_classes(estimator: Any, names: Sequence[str] | None, who: str) -> tuple[str, ...]:
    """The class of each output column, in their order.

    An estimator fitted on integers says which of `names` its columns are; one fitted on names says them itself.
    """
    import numpy as np

    if not hasattr(estimator, "classes_"):
        raise CaromError(f"{who} has not been fitted: it has no classes_. Call fit first.")
    fitted = estimator.classes_
    if isinstance(fitted, list):
        raise CaromError(f"{who} answers several questions at once; carom attacks one answer per example.")
    if names is None or not np.issubdtype(np.asarray(fitted).dtype, np.integer):
        return tuple(str(c) for c in fitted)
    if len(fitted) and int(max(fitted)) >= len(names):
        raise CaromError(f"{who} was fitted on label {int(max(fitted))}, but only {len(names)} classes are named.")
    return tuple(names[int(c)] for c in fitted)


def tree_ensemble(estimator: Any) -> TreeEnsemble | None:
    """The estimator's trees, if it is a decision tree, a forest that averages them or boosted ones that add up; else
    None."""
    kinds = (
        "DecisionTreeClassifier",
        "ExtraTreeClassifier",
        "RandomForestClassifier",
        "ExtraTreesClassifier",
    )
    if type(estimator).__name__ in BOOSTED:
        return boosted(estimator)
    return TreeEnsemble.from_sklearn(estimator) if type(estimator).__name__ in kinds else None


def scores_of(estimator: Any) -> tuple[Callable[[Any], Any], bool, Access]:
    """(function from a batch to scores[N, C], whether they are probabilities, what it grants).

    An estimator with neither predict_proba nor decision_function grants labels only, as one-hot scores.
    """
    import numpy as np

    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba, True, Access.LABEL | Access.SCORE
    if hasattr(estimator, "decision_function"):

        def margins(batch: Any) -> Any:
            values = estimator.decision_function(batch)
            return np.stack([-values, values], 1) if values.ndim == 1 else values

        return margins, False, Access.LABEL | Access.SCORE

    def one_hot(batch: Any) -> Any:
        return np.asarray(estimator.predict(batch))[:, None] == np.asarray(estimator.classes_)

    return one_hot, True, Access.LABEL


def digest_of_object(thing: Any, *facts: object) -> str:
    """sha256 that names an estimator (by its fitted state) or a function (by its source) in the store."""
    digest = hashlib.sha256(repr(facts).encode())
    if is_estimator(thing):
        feed(digest, thing)
        return digest.hexdigest()
    bound = thing.keywords if isinstance(thing, partial) else {}
    function = thing.func if isinstance(thing, partial) else thing
    try:
        source = inspect.getsource(function if inspect.isroutine(function) else type(function))
    except (OSError, TypeError):
        source = repr(type(function))
    digest.update(f"{getattr(function, '__module__', '')}{sorted(bound.items())}{source}".encode())
    return digest.hexdigest()


def feed(digest: Any, thing: Any) -> None:
    """Hash an object's state: the same for an estimator and its copy read back from a file, unlike its pickle."""
    import numpy as np

    for part in _walk(thing):
        digest.update(f"<{type(part).__qualname__}".encode())
        if isinstance(part, np.ndarray) and not part.dtype.hasobject and not part.dtype.names:
            digest.update(f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        elif callable(part) and hasattr(part, "__qualname__"):
            digest.update(f"{part.__module__}.{part.__qualname__}".encode())
        elif part is None or isinstance(part, ATOMS):
            digest.update(repr(part).encode())
        elif hasattr(part, "__len__"):
            digest.update(str(len(part)).encode())


ATOMS = (bool, int, float, complex, str, bytes)


def _walk(thing: Any, above: tuple[int, ...] = ()) -> Iterator[Any]:
    """An object and everything it holds, depth first, in an order of its content alone."""
    import numpy as np

    if id(thing) in above:  # a cycle
        return
    if isinstance(thing, np.generic) and not thing.dtype.names:
        thing = thing.item()
    yield thing
    parts: Iterable[Any] = ()
    if thing is None or isinstance(thing, ATOMS) or (callable(thing) and hasattr(thing, "__qualname__")):
        return
    if isinstance(thing, np.ndarray):  # records field by field: the gaps between fields hold anything
        names = thing.dtype.names
        parts = [thing[name] for name in names] if names else thing.flat if thing.dtype.hasobject else ()
    elif isinstance(thing, Mapping):
        parts = [part for key in sorted(thing, key=str) for part in (key, thing[key])]
    elif isinstance(thing, list | tuple):
        parts = thing
    elif isinstance(thing, set | frozenset):
        parts = sorted(thing, key=repr)
    else:
        parts = [thing.__getstate__()]
    for part in parts:
        yield from _walk(part, (*above, id(thing)))
