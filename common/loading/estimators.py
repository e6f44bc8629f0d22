"""What an object of the user's tells of itself: its family, its classes, its scores, its trees, and a digest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from carom.common.base.errors import CaromError
from carom.common.core.batch import Access, Family
from carom.common.loading.boosters.estimator import BoostedTrees
from carom.common.models.boosting import BOOSTED, boosted
from carom.common.models.trees import TreeEnsemble


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
    last = _inmost(estimator)
    name, module = type(last).__name__, type(last).__module__
    boosters = ("xgboost", "lightgbm", "catboost")
    if any(word in name for word in ("Tree", "Forest", "Boosting")) or module.partition(".")[0] in boosters:
        return Family.TREE
    if "linear_model" in module or "naive_bayes" in module or name == "LinearSVC":
        return Family.LINEAR
    return Family.MLP if "neural_network" in module else Family.OTHER


WRAPPERS = (
    *("GridSearchCV", "RandomizedSearchCV", "CalibratedClassifierCV", "FrozenEstimator", "TunedThresholdClassifierCV"),
    *("OneVsRestClassifier", "BaggingClassifier"),
)
"""Those of scikit-learn that leave the kind of model that they wrap as it is."""


def _inmost(estimator: Any) -> Any:
    """The last step of a pipeline, and what searches, calibrators and the like wrap."""
    while True:
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        elif type(estimator).__name__ in WRAPPERS and getattr(estimator, "estimator", None) is not None:
            estimator = estimator.estimator
        else:
            return estimator


def is_estimator(thing: Any) -> bool:
    """Whether it answers like a scikit-learn classifier."""
    if isinstance(thing, BoostedTrees):
        return True
    return not inspect.isclass(thing) and callable(getattr(thing, "predict", None)) and hasattr(thing, "fit")


def fitted_classes(estimator: Any, names: Sequence[str] | None, who: str) -> tuple[str, ...]:
    """The class of each output column, in their order.

    An estimator fitted on integers says which of `names` its columns are; one fitted on names says them itself.
    """
    import numpy as np

    if not hasattr(estimator, "classes_"):
        raise CaromError(
            f"{who} has no classes_: it has not been fitted, or is no classifier. Call fit first; of what answers one "
            "number for each example, hand its predict in as a function, with threshold=."
        )
    fitted = estimator.classes_
    if isinstance(fitted, list):
        raise CaromError(
            f"{who} is a multi-output classifier: it answers several questions at once; Carom needs one output. Hand in "
            "one of its estimators_."
        )
    numbers = [_whole(label) for label in fitted]
    if names is None or None in numbers:
        return tuple(str(c) for c in fitted)
    places = [number for number in numbers if number is not None and 0 <= number < len(names)]
    if len(places) == len(numbers) and not any(isinstance(label, bool | np.bool_) for label in fitted):
        return tuple(names[place] for place in places)
    if len(numbers) == len(names):  # of -1 and 1, of 1 to 5, of False and True: its outputs are named in their order
        return tuple(names)
    raise CaromError(
        f"{who} was fitted on labels {', '.join(map(str, fitted[:4]))}{', ...' if len(fitted) > 4 else ''}, and "
        f"{len(names)} classes are named: they are not its {len(fitted)} outputs, nor numbered so. Name its outputs in "
        "their order: classes=[...]."
    )


def _whole(label: Any) -> int | None:
    """The whole number that a fitted label is; None for a name."""
    import numpy as np

    if isinstance(label, bool | np.bool_ | int | np.integer):
        return int(label)
    return int(label) if isinstance(label, float | np.floating) and float(label).is_integer() else None


def tree_ensemble(estimator: Any) -> TreeEnsemble | None:
    """The estimator's trees, if it is a decision tree, a forest that averages them or boosted ones that add up; else
    None."""
    kinds = (
        "DecisionTreeClassifier",
        "ExtraTreeClassifier",
        "RandomForestClassifier",
        "ExtraTreesClassifier",
    )
    if isinstance(estimator, BoostedTrees):
        return estimator.ensemble
    if type(estimator).__module__.partition(".")[0] != "sklearn":  # one made from them may answer otherwise
        return None
    if type(estimator).__name__ in BOOSTED:
        return boosted(estimator)
    return TreeEnsemble.from_sklearn(estimator) if type(estimator).__name__ in kinds else None


def scores_of(estimator: Any, probe: Any, who: str) -> tuple[Callable[[Any], Any], bool, Access]:
    """(function from a batch to scores[N, C], whether they are probabilities, what it grants).

    The largest score is always the class that `predict` answers. Scores are predict_proba's, else decision_function's;
    where `predict` names another class than they do (a threshold that was moved, ties between pairs of classes), its
    class is raised above the rest. An estimator without scores for its classes, such as one of pairs of classes, grants
    labels only, as one-hot scores. `probe` is a batch of one input; raises `CaromError` for what answers it with several
    labels at once.
    """
    import numpy as np

    classes = np.asarray(estimator.classes_)
    check_one_label(estimator.predict(probe), who)

    def places(batch: Any) -> Any:
        """The column of the class that `predict` answers."""
        said = np.asarray(estimator.predict(batch)).reshape(-1)
        found = said[:, None] == classes
        if not found.any(1).all():
            strange = said[~found.any(1)][0]
            raise CaromError(
                f"{who} answers {strange}, which is none of its classes_ ({', '.join(map(str, classes))}). Hand in a "
                "function that answers scores for every class that it may answer."
            )
        return found.argmax(1)

    def one_hot(batch: Any) -> Any:
        return places(batch)[:, None] == np.arange(len(classes))

    for name, probabilities in (("predict_proba", True), ("decision_function", False)):
        score = getattr(estimator, name, None)
        if score is None:
            continue
        if columns(score(probe)).shape != (1, len(classes)):
            return one_hot, True, Access.LABEL

        def answer(batch: Any, score: Callable[[Any], Any] = score) -> Any:
            values, own = columns(score(batch)), places(batch)
            wrong = values.astype(np.float32).argmax(1) != own
            top = values[wrong].max(1)
            values[wrong, own[wrong]] = top + 1e-3 * (1 + np.abs(top))
            return values

        return answer, probabilities, Access.LABEL | Access.SCORE
    return one_hot, True, Access.LABEL


def columns(values: Any) -> Any:
    """float64[N, C]: scores as a column a class; of two classes, one number is the second's lead."""
    import numpy as np

    values = np.array(values, dtype=np.float64)
    return np.stack([-values, values], 1) if values.ndim == 1 else values


def check_one_label(answer: Any, who: str) -> None:
    """Refuse an answer that is a row of labels: of several questions, or of one that takes several labels."""
    shape: tuple[int, ...] = getattr(answer, "shape", (len(answer),))
    if len(shape) > 1 and shape[1] != 1:
        raise CaromError(
            f"{who} answers {shape[1]} labels at once, more than one for an example; Carom needs one. Fit a classifier "
            "of one label, or hand in a function that answers scores for it: classes=[...], answers=probabilities."
        )


ATOMS = (bool, int, float, complex, str, bytes)


def walk(thing: Any, above: tuple[int, ...] = ()) -> Iterator[Any]:
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
        yield from walk(part, (*above, id(thing)))
