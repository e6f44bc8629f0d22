"""The defences of image models, by name. Each module registers its own beside the functions that compose them."""

from __future__ import annotations

from carom.common.defences.catalogue import defences_in
from carom.common.defences.shared import VOTES
from carom.vision.defences.detectors import DETECTORS
from carom.vision.defences.features import FEATURES
from carom.vision.defences.random import RANDOM, SMOOTHING
from carom.vision.defences.training import TRAINING
from carom.vision.defences.transforms import TRANSFORMS

DEFENCES = defences_in(TRANSFORMS, RANDOM, VOTES, SMOOTHING, DETECTORS, FEATURES, TRAINING)
