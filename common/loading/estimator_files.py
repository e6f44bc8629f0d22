"""Fitted scikit-learn estimators from skops files, their compiled trees checked."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.files import EXPANDS, LEAST_ROOM
from carom.common.base.specs import existing
from carom.common.core.batch import Access
from carom.common.loading.array_files import check_header
from carom.common.loading.estimators import is_estimator, scores_of, walk
from carom.common.loading.weights import refuse_pickle
from carom.common.models.boosting import BOOSTED


def load_skops(path: str | Path, trusted: str | Sequence[str] = ()) -> Any:
    """A fitted scikit-learn estimator from a skops file. Types that could do harm are refused unless `trusted`.

    skops distrusts scikit-learn's compiled trees, which follow the node numbers of a file blindly. They are read here,
    and their nodes checked before anything is asked of them.
    """
    import skops.io

    refuse_pickle(path, "Save the estimator with skops.io.dump(estimator, 'name.skops').")
    found = existing(path, "skops file")
    allowed = [*(trusted.split(",") if isinstance(trusted, str) else trusted), TREE, HISTOGRAM_TREE]
    try:
        _check_sizes(found)
        unknown = sorted(name for name in skops.io.get_untrusted_types(file=found) if name not in allowed)
        if unknown:
            raise CaromError(
                f"{found}: holds types that skops does not trust: {', '.join(unknown)}. If you know them to be "
                f"harmless, pass trusted={','.join(unknown)} (behind the path in a spec: ?trusted=...)."
            )
        estimator = skops.io.load(found, trusted=allowed)
        sound = all(_sound(part) for part in walk(estimator)) and _answers(estimator, str(found))
    except CaromError:
        raise
    except Exception as error:  # of many types: a file of another structure fails in each estimator's own code
        raise CaromError(
            f"{found}: not a skops file that holds a fitted estimator ({type(error).__name__}: {error}). Save the "
            "estimator with skops.io.dump(estimator, 'name.skops')."
        ) from error
    if not sound:
        raise CaromError(
            f"{found}: holds a tree whose nodes point outside it, or does not answer with a score a class. The file is "
            "damaged or made to do harm: save the estimator again with skops.io.dump."
        )
    return estimator


def _check_sizes(path: Path) -> None:
    """Refuse a file whose members claim more than it can hold: what they claim is what is allocated."""
    room = max(LEAST_ROOM, EXPANDS * path.stat().st_size)
    with zipfile.ZipFile(path) as file:
        if sum(member.file_size for member in file.infolist()) > room:
            raise ValueError(f"unpacks to more than {room >> 20} MB")
        for member in file.infolist():
            if member.filename.endswith(".npy"):
                with file.open(member) as stream:
                    check_header(path, member.filename, stream, member.file_size)


def _answers(estimator: Any, who: str) -> bool:
    """Whether an estimator of numbers gives one score a class; nothing is asked of one of texts."""
    import numpy as np

    count = getattr(estimator, "n_features_in_", None)
    classes = getattr(estimator, "classes_", None)
    if count is None or classes is None or isinstance(classes, list) or not is_estimator(estimator):
        return True
    if not 0 < int(count) <= 1 << 24:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns without the names that it was fitted on
        probe = np.zeros((1, int(count)), dtype=np.float32)
        answer, _, access = scores_of(estimator, probe, who)
        scores = np.asarray(answer(np.repeat(probe, 2, 0)))
    told = Access.SCORE in access or not callable(getattr(estimator, "predict_proba", None))
    return told and scores.shape == (2, len(classes)) and bool(np.isfinite(scores).all())


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
