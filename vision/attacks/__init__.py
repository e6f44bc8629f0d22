"""The image attacks. Each module holds one kind and lists its entries of the registry as `INFOS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from carom.common import members
from carom.common.attacks import GRADIENT_ATTACKS, LEAF_PATH, SOFT_LEAF_PATH
from carom.common.blackbox import QUERY_ATTACKS
from carom.common.modality import AttackInfo
from carom.common.threats import L1, L2, Linf, Threat
from carom.common.universal import UAP
from carom.common.whitebox import INFOS as WHITE_BOX
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
        *(*GRADIENT_ATTACKS, *WHITE_BOX, LEAF_PATH, SOFT_LEAF_PATH, *members.INFOS, UAP, *QUERY_ATTACKS),
        *(*query.INFOS, *patch.INFOS, *sparse.INFOS, *spatial.INFOS, *iterative.INFOS),
        *(*features.INFOS, *surgery.INFOS, *targeted.INFOS),
    ]
}
