"""The image attacks and transforms, by name. Each module registers its own beside the functions that compose them."""

from __future__ import annotations

from collections.abc import Callable

from carom.common.attacks.catalogue.base import attacks_within, transforms_in
from carom.common.attacks.catalogue.ensemble import MEMBERS
from carom.common.attacks.catalogue.gradient import GRADIENT
from carom.common.attacks.catalogue.query import QUERY as SHARED_QUERY
from carom.common.attacks.catalogue.trees import EXACT, SOFT
from carom.common.attacks.catalogue.universal import UNIVERSAL
from carom.common.attacks.catalogue.white_box import WHITE_BOX
from carom.common.core.threats import L1, L2, Linf, Threat
from carom.vision.attacks.features import FEATURES
from carom.vision.attacks.input_transforms import VIEWS
from carom.vision.attacks.patch import PATCHES
from carom.vision.attacks.query import QUERY
from carom.vision.attacks.sparse import SPARSE
from carom.vision.attacks.spatial import ROTATIONS, Spatial
from carom.vision.attacks.surgery import SURGERY
from carom.vision.attacks.targeted import TARGETED
from carom.vision.threats import Patch, Pixels

THREATS: dict[str, Callable[..., Threat]] = {
    **{"linf": Linf, "l2": L2, "l1": L1},
    **{"l0": Pixels, "patch": Patch, "spatial": Spatial},
}

CATALOGUES = (
    *(GRADIENT, WHITE_BOX, EXACT, SOFT, MEMBERS, UNIVERSAL, SHARED_QUERY),
    *(QUERY, PATCHES, SPARSE, ROTATIONS, VIEWS, FEATURES, SURGERY, TARGETED),
)
ATTACKS = attacks_within(THREATS, *CATALOGUES)
TRANSFORMS = transforms_in(*CATALOGUES)
