"""The image attacks. Each module holds one kind and lists its entries of the registry as `INFOS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from carom.common.attacks.catalogue import ensemble
from carom.common.attacks.catalogue.gradient import GRADIENT_ATTACKS
from carom.common.attacks.catalogue.query import QUERY_ATTACKS
from carom.common.attacks.catalogue.trees import LEAF_PATH, SOFT_LEAF_PATH
from carom.common.attacks.catalogue.universal import UAP
from carom.common.attacks.catalogue.white_box import INFOS as WHITE_BOX
from carom.common.attacks.info import AttackInfo
from carom.common.core.threats import L1, L2, Linf, Threat
from carom.vision.attacks import features, iterative, patch, query, sparse, spatial, surgery, targeted
from carom.vision.attacks.iterative import TRANSFORMS as TRANSFORMS
from carom.vision.attacks.spatial import Spatial
from carom.vision.threats import Patch, Pixels

THREATS: dict[str, Callable[..., Threat]] = {
    **{"linf": Linf, "l2": L2, "l1": L1},
    **{"l0": Pixels, "patch": Patch, "spatial": Spatial},
}

ATTACKS: dict[str, AttackInfo] = {
    info.name: replace(info, threats=tuple(kind for kind in info.threats if kind in THREATS))
    for info in [
        *(*GRADIENT_ATTACKS, *WHITE_BOX, LEAF_PATH, SOFT_LEAF_PATH, *ensemble.INFOS, UAP, *QUERY_ATTACKS),
        *(*query.INFOS, *patch.INFOS, *sparse.INFOS, *spatial.INFOS, *iterative.INFOS),
        *(*features.INFOS, *surgery.INFOS, *targeted.INFOS),
    ]
}
