"""Fitted scikit-learn estimators from skops files, their compiled trees checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carom.common.base.errors import CaromError
from carom.common.base.specs import existing
from carom.common.loading.estimators import walk
from carom.common.loading.weights import refuse_pickle
from carom.common.models.boosting import BOOSTED


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
