"""The defences of text models, by name."""

from __future__ import annotations

from carom.common.defences.catalogue import defences_in
from carom.common.defences.shared import VOTES
from carom.text.defences.training import TRAINING

DEFENCES = defences_in(VOTES, TRAINING)
