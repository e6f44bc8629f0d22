"""Attacks on decision trees, by name."""

from __future__ import annotations

from carom.common.attacks.catalogue.base import Catalogue
from carom.common.attacks.gradient.ascent import Ascent
from carom.common.attacks.gradient.updates import L1Normalise, Momentum, chain
from carom.common.attacks.info import BALLS
from carom.common.attacks.trees.leaf_path import LeafPath
from carom.common.attacks.trees.relaxed_trees import TreeClimb, near
from carom.common.core.batch import Access
from carom.common.core.objectives import objective

SOFT = Catalogue(needs=Access.LEAVES, threats=BALLS)
EXACT = Catalogue(needs=Access.LEAVES, threats=("linf", "l2"), models="trees")
THROUGH = Catalogue(needs=Access.LEAVES, threats=BALLS)
"""One of the two is a modality's leaf-path: EXACT for trees on the input itself, THROUGH for those behind a front end."""


def _climb(steps: int, size: float, decay: float, loss: str) -> Ascent:
    return Ascent(steps=steps, size=size, update=chain(L1Normalise(), Momentum(decay)), objective=objective(loss))


@EXACT.attack(
    "leaf-path",
    "walk to a leaf of another class: exact on one tree, and on forests and boosted trees in small balls, else greedy",
    paper="Papernot, McDaniel and Goodfellow 2016, Transferability in machine learning; Chen et al. 2019, Robustness "
    "verification of tree-based models; Zhang, Zhang and Hsieh 2020, An efficient adversarial attack for tree "
    "ensembles",
    cost="at most steps * width queries",
)
def leaf_path(steps: int = 60, width: int = 8, room: int = 2**20) -> LeafPath:
    """Nearest leaf of another class; on forests and boosted trees the best of all regions, or greedy over leaves."""
    return LeafPath(steps=steps, width=width, room=room)


@THROUGH.attack(
    "leaf-path",
    "climb through the front end of trees towards their nearest leaves of another class, by gradients",
    paper="after Papernot, McDaniel and Goodfellow 2016, Transferability in machine learning",
    departures="the climb is ours",
    cost="steps forward, steps backward of the front end and the leaves",
)
def leaf_path_through(
    steps: int = 20, size: float = 0.15, temperature: float = 1.0, decay: float = 1.0, loss: str = "margin"
) -> LeafPath:
    """MI-FGSM, through the front end, towards each tree's nearest leaves of another class."""
    return LeafPath(through=TreeClimb(_climb(steps, size, decay, loss), near, temperature))


@SOFT.attack(
    "soft-leaf-path",
    "gradient attack on trees with every split a sigmoid, through any front end",
    paper="after Papernot, McDaniel and Goodfellow 2016, Transferability in machine learning",
    departures="the relaxation is ours",
    cost="steps forward, steps backward of the relaxed forest",
)
def soft_leaf_path(
    steps: int = 10, size: float = 0.25, temperature: float = 0.2, decay: float = 1.0, loss: str = "margin"
) -> TreeClimb:
    """MI-FGSM on a forest or boosted trees with every split a sigmoid."""
    return TreeClimb(_climb(steps, size, decay, loss), temperature=temperature)
