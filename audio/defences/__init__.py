"""The defences of audio models, by name. Each module registers its own beside the functions that compose them."""

from __future__ import annotations

from carom.audio.defences.codecs import CODECS
from carom.audio.defences.detectors import DETECTORS
from carom.audio.defences.room import RANDOM
from carom.audio.defences.training import TRAINING
from carom.audio.defences.transforms import SMOOTHING, TRANSFORMS
from carom.common.defences.catalogue import defences_in
from carom.common.defences.shared import VOTES

DEFENCES = defences_in(TRANSFORMS, CODECS, RANDOM, VOTES, SMOOTHING, DETECTORS, TRAINING)
