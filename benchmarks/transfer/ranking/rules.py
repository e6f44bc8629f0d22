"""The rules of the ranking, fixed before any of its numbers was looked at, with configurations.toml.

1. Data: test images of CIFAR-10, in the order of a hash of their ids. The first TUNING of them are for tuning alone. The
   next HALF are the first half, and the HALF after them the second half, of the images that may be reported. Both are
   computed in blocks of BLOCK images, all attacks on a block before any on the next, and a block of the first half with one
   of the second. BLOCKS of them were reached from each source; nothing but the time decided how many.
2. Cost: every configuration spends 50 gradients per image, counted by its own Result; a backward pass that differentiates
   parts of the source again counts as so many gradients.
3. Tuning: every attack, the baselines I-FGSM, MI and DI-MI included, has four declared configurations. The one with the
   largest mean excess transfer on the tuning images is reported: from the residual network, over the other networks of the
   zoo. What suits the transformer alone is tuned from there. Of equal ones the earlier declared is taken.
4. Outcome: excess transfer from each source, its mean over the other networks of the zoo. The forest is reported beside
   it and counts to no mean: nothing reached it in an earlier record. One seed.
5. Comparisons: every attack with tuned DI-MI and with tuned MI, from each source, on the same images and targets, on the
   first half. p is two-sided, of the difference over its bootstrap standard error; Holm's adjustment is over all of
   these comparisons together. A claim is a comparison whose adjusted p is below .05.
6. Confirmation: a claim is confirmed when the 95 % interval of the same difference on the second half lies on the same
   side of 0.
7. Beside it, without claims: every attack as its paper runs it (its defaults in Carom: own steps, own copies; not RAP, whose
   2,800 gradients are too many) and, where asked for, a dozen at 1,000 gradients: from the residual network, on FEW images of
   the first block.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from carom.common.attacks.gradient.ascent import climb_of, with_climb
from carom.common.attacks.info import AttackChoice
from carom.common.base.specs import split_parameters
from carom.common.core.data import Dataset, sampling_order
from carom.common.modality.installed import get_modality
from carom.common.modality.registry import choose_attack

DATA = "folder:cifar-10"
EPS = "8/255"
ZOO = ("resnet", "vgg", "gru", "vit", "mixer", "forest")
SOURCES = ("resnet", "vit")
EQUAL, DEAR = 50, 1000  # gradients per image
TUNING, HALF, BLOCK, FEW = 24, 90, 30, 24  # images
BLOCKS = {"resnet": 2, "vit": 2}  # of each half

HALVES = ("first", "second")

BASELINES = {"I-FGSM": "bim", "MI": "mi-fgsm", "DI-MI": "di-fgsm"}
COMPARED = ("MI", "DI-MI")
"""The baselines of the declared comparisons."""

OWN_LENGTH = ("rap", "dem")
"""Attacks whose papers give steps of another length than a tenth."""

_DECLARED = tomllib.loads(Path(__file__).with_name("configurations.toml").read_text(encoding="utf-8"))
CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    name: tuple(f"{name}?{given}" for given in of) for name, of in _DECLARED["equal"].items()
}
"""Attack -> its specs."""


def choice(spec: str) -> AttackChoice:
    """The attack of a configuration. `size` is the length of its steps, whether or not its parameters have it."""
    name, given = split_parameters(spec)
    size = given.pop("size", None)
    chosen = choose_attack(get_modality("image"), joined(name, given), "linf")
    climb = climb_of(chosen.attack)
    assert climb is not None, spec
    usual = climb.size if name in OWN_LENGTH else max(0.1, 1 / climb.steps)
    length = usual if size is None else size
    parameters = {**chosen.parameters, **({} if size is None else {"size": size})}
    return replace(chosen, attack=with_climb(chosen.attack, replace(climb, size=length)), parameters=parameters)


def dearer(spec: str) -> str | None:
    """The configuration as it is at 1,000 gradients; None where none is declared."""
    name, given = split_parameters(spec)
    if name not in _DECLARED["dear"]:
        return None
    return joined(name, {**given, **split_parameters(f"{name}?{_DECLARED['dear'][name]}")[1]})


def as_published(name: str) -> AttackChoice:
    """The attack as its paper runs it: its defaults."""
    return choose_attack(get_modality("image"), name, "linf")


def joined(name: str, given: Mapping[str, Any]) -> str:
    tail = "&".join(f"{key}={value}" for key, value in given.items())
    return f"{name}?{tail}" if tail else name


def split(data: Dataset) -> dict[str, Dataset]:
    """tuning, first-1, first-2, ..., second-1 ...: the parts of TUNING + 2 * HALF images."""
    order = sampling_order(data.ids, len(data))
    bounds = (0, *range(TUNING, TUNING + 2 * HALF + 1, BLOCK))
    blocks = [f"{half}-{number + 1}" for half in HALVES for number in range(HALF // BLOCK)]
    taken = (data.take(order[low:high].sort().values) for low, high in pairwise(bounds))
    return dict(zip(("tuning", *blocks), taken, strict=True))


def fewer(data: Dataset) -> Dataset:
    """The FEW images of rule 7, of a block."""
    return data.sample(FEW)
