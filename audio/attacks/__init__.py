"""The audio attacks, by name: the shared gradient, tree and query attacks, and those that know what a sound is."""

from __future__ import annotations

from carom.audio.attacks.query import QUERY
from carom.audio.space import SNR
from carom.common.attacks.catalogue.base import attacks_within
from carom.common.attacks.catalogue.ensemble import MEMBERS
from carom.common.attacks.catalogue.gradient import GRADIENT
from carom.common.attacks.catalogue.query import QUERY as SHARED_QUERY
from carom.common.attacks.catalogue.trees import SOFT, THROUGH
from carom.common.attacks.catalogue.universal import UNIVERSAL
from carom.common.attacks.catalogue.white_box import WHITE_BOX
from carom.common.core.threats import L2, Linf

THREATS = {"linf": Linf, "l2": L2, "snr": SNR}
ATTACKS = attacks_within(THREATS, GRADIENT, THROUGH, SOFT, MEMBERS, UNIVERSAL, WHITE_BOX, SHARED_QUERY, QUERY)
