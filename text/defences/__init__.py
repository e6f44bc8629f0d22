"""The defences of text models, by name."""

from __future__ import annotations

from carom.common.defences.catalogue import defences_in
from carom.common.defences.shared import VOTES

DEFENCES = defences_in(VOTES)
