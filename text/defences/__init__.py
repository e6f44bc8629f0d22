"""The defences of text models, by name. Each module registers its own beside the functions that compose them."""

from __future__ import annotations

from carom.common.defences.catalogue import defences_in
from carom.common.defences.shared import VOTES
from carom.text.defences.detectors import DETECTORS
from carom.text.defences.random import RANDOM, SMOOTHING
from carom.text.defences.training import TRAINING
from carom.text.defences.transforms import TRANSFORMS

DEFENCES = defences_in(TRANSFORMS, RANDOM, VOTES, SMOOTHING, DETECTORS, TRAINING)
