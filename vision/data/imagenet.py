"""The classes of ImageNet-1k (Russakovsky et al. 2015) in the order in which networks answer them: by WordNet id.

`classes=imagenet-1k` states them; folders called by WordNet id or by any of a class's names find their place among the
outputs of a network that knows the usual names, those of torchvision or of Hugging Face.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from carom.common.core.class_names import LISTS, Entries


@cache
def imagenet_classes() -> Entries:
    """(WordNet id, name, further names ...) of each of the 1000 classes; WordNet 3.0's own words."""
    text = files("carom.vision").joinpath("assets/imagenet-1k.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    return tuple((identity, *names.split(", ")) for identity, names in rows)


LISTS["imagenet-1k"] = imagenet_classes
